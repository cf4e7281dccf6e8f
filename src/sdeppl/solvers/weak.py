"""Platen's explicit scheme of weak order 2."""

import math

from array_api_compat import array_namespace, device

from ..backend import Array, Number
from ..sde import SDE
from .base import Memory, Normals, Solver


class PlatenWeak2(Solver):
    """Platen's explicit scheme of weak order 2, for any noise: derivatives of g as differences.

    With Ῡ = x + f h + g ΔW, R_j± = x + f h ± g_j √|h|, U_r± = x ± g_r √|h|:
    x_t = x_s + ½ (f(Ῡ) + f) h
    + ¼ Σ_j [(g_j(R_j+) + g_j(R_j-) + 2 g_j) ΔW_j + (g_j(R_j+) - g_j(R_j-)) (ΔW_j² - |h|)/√|h|]
    + ¼ Σ_{j≠r} [(g_j(U_r+) + g_j(U_r-) - 2 g_j) ΔW_j + (g_j(U_r+) - g_j(U_r-)) (ΔW_j ΔW_r + V_rj)/√|h|],
    with V_rj = -V_jr = ±|h| from the sign of 'levy'. Ῡ and R are taken at t, U at s.

    ΔW is Gaussian, which Platen allows beside three-point variables, so that a path is followed too:
    strong order 1 for additive and commutative noise, so for scalar and diagonal; 1/2 for general
    noise, since V is no Lévy area. Two drift evaluations; of g two for additive, three for scalar and
    diagonal noise, 1 + 4 wiener_dim for general.
    Source: Kloeden & Platen 1992, eq. 15.1.1 and 15.1.3.
    """

    strong_order = {"additive": 1.0, "scalar": 1.0, "diagonal": 1.0, "general": 0.5}
    weak_order = 2.0
    evaluations = 2
    draws = ("wiener", "levy")

    def draw_shapes(self, sde: SDE, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """No 'levy' where g is no matrix or does not depend on x."""
        wiener, levy = super().draw_shapes(sde, shape)
        return wiener, levy if sde.noise == "general" else (*shape[:-1], 0)

    def step(
        self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        h = t - s
        f = sde.drift(x, s)
        euler = x + f * h
        if z is None:
            return x + (f + sde.drift(euler, t)) * (0.5 * h), None
        z, levy = z
        g, increment = sde.diffusion(x, s), math.sqrt(abs(h)) * z
        x_next = x + (f + sde.drift(euler + sde.diffusion_product(g, increment), t)) * (0.5 * h)
        if sde.noise == "additive":
            return x_next + sde.diffusion_product(0.5 * (g + sde.diffusion(x, t)), increment), None
        if sde.wiener_dim is None:
            return x_next + _own_part(g, sde, euler, t, h, z), None
        for r in range(sde.wiener_dim):
            x_next = x_next + _own_part(g, sde, euler, t, h, z[..., r : r + 1], r)
            x_next = x_next + _mixed_part(g, sde, x, s, h, z, levy, r)
        return x_next, None


def _own_part(g: Number, sde: SDE, euler: Array, t: float, h: float, z: Array, r: int | None = None) -> Array:
    """¼ [(g(R+) + g(R-) + 2 g) ΔW + (g(R+) - g(R-)) (ΔW² - |h|)/√|h|] of column r, or elementwise."""
    root = math.sqrt(abs(h))
    g = g if r is None else g[..., r]
    up, down = sde.diffusion(euler + root * g, t), sde.diffusion(euler - root * g, t)
    if r is not None:
        up, down = up[..., r], down[..., r]
    return (0.25 * root) * ((up + down + 2 * g) * z + (up - down) * (z * z - 1))


def _mixed_part(g: Number, sde: SDE, x: Array, s: float, h: float, z: Array, levy: Array, r: int) -> Array:
    """¼ Σ_{j≠r} [(g_j(U_r+) + g_j(U_r-) - 2 g_j) ΔW_j + (g_j(U_r+) - g_j(U_r-)) (ΔW_j ΔW_r + V_rj)/√|h|]."""
    m, root, xp = z.shape[-1], math.sqrt(abs(h)), array_namespace(z)
    if m == 1:
        return xp.zeros_like(x)
    up, down = sde.diffusion(x + root * g[..., r], s), sde.diffusion(x - root * g[..., r], s)
    others = xp.asarray([float(j != r) for j in range(m)], dtype=z.dtype, device=device(z))
    products = z * z[..., r : r + 1] + _signs(levy, m, r)
    mixed = sde.diffusion_product(up + down - 2 * g, others * z) + sde.diffusion_product(
        up - down, others * products
    )
    return (0.25 * root) * mixed


def _signs(levy: Array, m: int, r: int) -> Array:
    """V_rj/|h| for j < m, (..., m): the sign of the normal of the pair, antisymmetric in (r, j)."""
    xp = array_namespace(levy)
    pairs = {pair: index for index, pair in enumerate((i, j) for i in range(m) for j in range(i + 1, m))}
    sign = xp.sign(levy)
    columns = [
        sign[..., pairs[r, j]] if r < j else -sign[..., pairs[j, r]] if j < r else 0 * sign[..., 0]
        for j in range(m)
    ]
    return xp.stack(columns, axis=-1)
