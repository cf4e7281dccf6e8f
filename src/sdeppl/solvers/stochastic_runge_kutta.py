"""Stochastic Runge–Kutta schemes: Heun's, Rößler's of strong order 1.5, Platen's of weak order 2."""

import math
from dataclasses import dataclass

from array_api_compat import device

from ..backend import Array, Number, array_namespace
from ..sde import SDE
from .base import Memory, Normals, Solver, Stepped

Row = tuple[float, ...]


class StochasticHeun(Solver):
    """x_t = x_s + ½ (f + f̃) (t - s) + ½ (g + g̃) ΔW, f̃ and g̃ at the Euler step x̃ = x_s + f (t - s) + g ΔW.

    For Stratonovich SDEs; Itô SDEs are converted, at one derivative of g for each Wiener process.
    Strong order 1 for additive and commutative noise, so for scalar and diagonal; 1/2 for general
    noise, where the Lévy areas are missing. Weak order 1, and 2 for additive noise and without noise.
    Two evaluations of drift and g. Source: Rümelin 1982, SIAM J. Numer. Anal. 19; Kloeden & Platen
    1992, eq. 15.1.1 for additive noise.
    """

    strong_order = {"additive": 1.0, "scalar": 1.0, "diagonal": 1.0, "general": 0.5}
    weak_order = 1.0
    order = 2.0
    evaluations = 2
    calculus = "stratonovich"

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        h = t - s
        f = sde.drift(x, s)
        predicted = x + f * h
        if z is None:
            return x + (f + sde.drift(predicted, t)) * (0.5 * h), None
        increment = math.sqrt(abs(h)) * z
        noise = sde.diffusion_product(sde.diffusion(x, s), increment)
        predicted = predicted + noise
        noise = noise + sde.diffusion_product(sde.diffusion(predicted, t), increment)
        return x + (f + sde.drift(predicted, t)) * (0.5 * h) + 0.5 * noise, None


@dataclass(frozen=True)
class AdditiveTableau:
    """Stages i: H_i = x + Σ_j a_ij f(H_j, s + c0_j h) h + Σ_j b_ij g(s + c1_j h) I_(1,0)/|h|.

    x_t = x_s + Σ_i α_i f(H_i, s + c0_i h) h + Σ_i g(s + c1_i h) (β1_i ΔW + β2_i I_(1,0)/|h|).
    """

    c0: Row
    c1: Row
    a: tuple[Row, ...]
    b: tuple[Row, ...]
    alpha: Row
    beta1: Row
    beta2: Row


@dataclass(frozen=True)
class ItoTableau:
    """Drift stages H_i as in `AdditiveTableau` with g(K_j, s + c1_j h); noise stages
    K_i = x + Σ_j a1_ij f(H_j, s + c0_j h) h + Σ_j b1_ij g(K_j, s + c1_j h) √|h|.

    x_t = x_s + Σ_i α_i f(H_i, s + c0_i h) h + Σ_i g(K_i, s + c1_i h) (β1_i ΔW + β2_i I_(1,1)/√|h|
    + β3_i I_(1,0)/|h| + β4_i I_(1,1,1)/|h|).
    """

    c0: Row
    c1: Row
    a: tuple[Row, ...]
    b: tuple[Row, ...]
    a1: tuple[Row, ...]
    b1: tuple[Row, ...]
    alpha: Row
    beta1: Row
    beta2: Row
    beta3: Row
    beta4: Row


SRA1_TABLEAU = AdditiveTableau(
    c0=(0, 3 / 4),
    c1=(1, 0),
    a=((), (3 / 4,)),
    b=((), (3 / 2,)),
    alpha=(1 / 3, 2 / 3),
    beta1=(1, 0),
    beta2=(-1, 1),
)
# Rößler's tableau has four drift stages. The third and the fourth equal the first, both are x at s,
# and count there.
SRIW1_TABLEAU = ItoTableau(
    c0=(0, 3 / 4),
    c1=(0, 1 / 4, 1, 1 / 4),
    a=((), (3 / 4,)),
    b=((), (3 / 2,)),
    a1=((), (1 / 4,), (1, 0), (1 / 4, 0)),
    b1=((), (1 / 2,), (-1, 0), (-5, 3, 1 / 2)),
    alpha=(1 / 3, 2 / 3),
    beta1=(-1, 4 / 3, 2 / 3, 0),
    beta2=(-1, 4 / 3, -1 / 3, 0),
    beta3=(2, -4 / 3, -2 / 3, 0),
    beta4=(-2, 5 / 3, -2 / 3, 1),
)


class SRA1(Solver):
    """Rößler's SRA1: strong order 1.5 and weak order 2 for additive noise, g(t) a number, a vector or a
    matrix; 2 without noise. Two evaluations of the drift and of g.

    I_(1,0) = ∫ (W_r - W_s) |dr| = |t - s|^{3/2} (z/2 + u/√12) counts time along the step, so that it
    keeps its sign where time falls; the drift enters with t - s.
    Source: Rößler 2010, SIAM J. Numer. Anal. 48, section 6.
    """

    strong_order = {"additive": 1.5}
    weak_order = 2.0
    evaluations = 2
    draws = ("wiener", "area")

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        return _additive_step(SRA1_TABLEAU, sde, x, s, t, z), None


class SRIW1(Solver):
    """Rößler's SRIW1: strong order 1.5 for scalar and diagonal Itô noise; two evaluations of the drift,
    four of g. With additive noise it is `SRA1`.

    The weak order is 1.5 too (measured; the paper states none): the noise stages lie √|h| away, so that
    powers h^{5/2} do not cancel in the mean. It is 2 for additive noise and without noise.
    I_(1,1) = |t - s| (z² - 1)/2, I_(1,1,1) = |t - s|^{3/2} (z³ - 3 z)/6, I_(1,0) as for `SRA1`.
    Source: Rößler 2010, SIAM J. Numer. Anal. 48, section 6.
    """

    strong_order = {"additive": 1.5, "scalar": 1.5, "diagonal": 1.5}
    weak_order = 1.5
    order = 2.0
    evaluations = 2
    draws = ("wiener", "area")

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        if z is None or sde.noise == "additive":
            return _additive_step(SRA1_TABLEAU, sde, x, s, t, z), None
        return _ito_step(SRIW1_TABLEAU, sde, x, s, t, *z), None


def _additive_step(
    tableau: AdditiveTableau, sde: SDE, x: Array, s: float, t: float, z: tuple[Array, Array] | None
) -> Array:
    slopes: list[Array] = []
    noises: list[Array] = []
    h, x_next = t - s, x
    increment: Number
    space_time: Number
    increment, space_time = (0.0, 0.0) if z is None else _increments(h, *z)
    for i in range(len(tableau.alpha)):
        stage = _add(x, tableau.a[i], slopes, h)
        if z is not None:
            noises.append(sde.diffusion(x, s + tableau.c1[i] * h))
            for weight, g in zip(tableau.b[i], noises, strict=False):
                stage = stage + sde.diffusion_product(g, weight * space_time)
            weights = tableau.beta1[i] * increment + tableau.beta2[i] * space_time
            x_next = x_next + sde.diffusion_product(noises[i], weights)
        slopes.append(sde.drift(stage, s + tableau.c0[i] * h))
    return _add(x_next, tableau.alpha, slopes, h)


def _ito_step(tableau: ItoTableau, sde: SDE, x: Array, s: float, t: float, z: Array, u: Array) -> Array:
    slopes: list[Array] = []
    noises: list[Array] = []
    h, x_next, root = t - s, x, math.sqrt(abs(t - s))
    increment, space_time = _increments(h, z, u)
    double, triple = (0.5 * root) * (z * z - 1), (root / 6) * (z * z * z - 3 * z)
    for i in range(len(tableau.c1)):
        noise_stage = _add(_add(x, tableau.a1[i], slopes, h), tableau.b1[i], noises, root)
        if i < len(tableau.c0):
            stage = _add(_add(x, tableau.a[i], slopes, h), tableau.b[i], noises, space_time)
            slopes.append(sde.drift(stage, s + tableau.c0[i] * h))
        noises.append(sde.diffusion(noise_stage, s + tableau.c1[i] * h))
        x_next = x_next + noises[i] * (
            tableau.beta1[i] * increment
            + tableau.beta2[i] * double
            + tableau.beta3[i] * space_time
            + tableau.beta4[i] * triple
        )
    return _add(x_next, tableau.alpha, slopes, h)


def _increments(h: float, z: Array, u: Array) -> tuple[Array, Array]:
    """ΔW and I_(1,0)/|h|."""
    root = math.sqrt(abs(h))
    return root * z, (root / 2) * z + (root / math.sqrt(12)) * u


def _add(x: Array, weights: Row, terms: list[Array], factor: Number) -> Array:
    """x + factor Σ_j weights_j terms_j, over the terms there are; zero weights cost nothing."""
    for weight, term in zip(weights, terms, strict=False):
        if weight:
            x = x + (weight * factor) * term
    return x


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

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
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
