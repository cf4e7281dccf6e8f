"""Milstein's scheme, and Lévy areas of several Wiener processes."""

import math
from dataclasses import dataclass

from array_api_compat import device

from ..backend import Array, Number, array_namespace, whole_number
from ..sde import SDE
from .base import Memory, Normals, Solver, Stepped

ROWS = 4  # of the start that the commutativity condition is checked on


class Milstein(Solver):
    """x_t = x_s + f (t - s) + g ΔW + Σ_jk (∂g_k/∂x) g_j (ΔW_j ΔW_k - δ_jk |t - s|)/2.

    Strong and weak order 1; one drift evaluation, and the derivatives of g from `SDE.diffusion_jvp`:
    one for scalar and diagonal noise, wiener_dim for general. General noise must be commutative,
    (∂g_k/∂x) g_j = (∂g_j/∂x) g_k, which is checked near the start of a solve: other noise has Lévy
    areas in place of half the sum, and the order falls to 1/2; `MilsteinLevy` takes it. With additive
    noise it is Euler–Maruyama. Source: Kloeden & Platen 1992, eq. 10.3.3 and 10.3.16.
    """

    strong_order = {"additive": 1.0, "scalar": 1.0, "diagonal": 1.0, "general": 1.0}
    weak_order = 1.0
    evaluations = 1

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        """As `Solver.prepare`. Raises: ValueError for general noise that is not commutative."""
        sde = super().prepare(sde, x, t, deterministic)
        if sde.noise == "general" and not deterministic:
            _require_commutative(sde, x, t)
        return sde

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        h = t - s
        x_next = x + sde.drift(x, s) * h
        if z is None:
            return x_next, None
        g = sde.diffusion(x, s)
        x_next = x_next + sde.diffusion_product(g, math.sqrt(abs(h)) * z)
        if sde.noise == "additive":
            return x_next, None
        if sde.wiener_dim is None:
            return x_next + sde.diffusion_jvp(x, s, g) * ((0.5 * abs(h)) * (z * z - 1)), None
        return x_next + _double_integrals(sde, x, s, g, abs(h) * _symmetric_part(z)), None


@dataclass(frozen=True)
class MilsteinLevy(Solver):
    """x_t = x_s + f (t - s) + g ΔW + Σ_jk (∂g_k/∂x) g_j I_(j,k): Milstein for any general noise.

    I_(j,k) = (ΔW_j ΔW_k - δ_jk |t - s|)/2 + A_jk, with the Lévy area A from `terms` Fourier terms of
    the path within the step. The areas left out add C √(|t - s|/terms) to the error, so that the
    strong order is 1 where terms grow like 1/|t - s| and 1/2 for a fixed number; with terms ≥
    1/|t - s| that part is below 0.23 |(∂g_k/∂x) g_j - (∂g_j/∂x) g_k| |t - s| for a unit of time. Weak
    order 1; one drift evaluation, wiener_dim derivatives of g, and (2 terms + 3) wiener_dim normals.

    Raises: ValueError for terms < 0. Source: Kloeden & Platen 1992, eq. 10.3.3 and section 5.8.
    """

    terms: int

    strong_order = {"general": 1.0}
    weak_order = 1.0
    evaluations = 1
    draws = ("wiener", "area", "levy")

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", whole_number("MilsteinLevy: terms", self.terms, 0))

    def draw_shapes(self, sde: SDE, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """'levy' holds the Fourier coefficients, (..., 2 terms + 1, wiener_dim)."""
        wiener = sde.wiener_shape(shape)
        return wiener, wiener, (*wiener[:-1], 2 * self.terms + 1, wiener[-1])

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        h = t - s
        x_next = x + sde.drift(x, s) * h
        if z is None:
            return x_next, None
        z, u, coefficients = z
        g = sde.diffusion(x, s)
        x_next = x_next + sde.diffusion_product(g, math.sqrt(abs(h)) * z)
        integrals = abs(h) * (_symmetric_part(z) + levy_area(z, u, coefficients))
        return x_next + _double_integrals(sde, x, s, g, integrals), None


def _symmetric_part(z: Array) -> Array:
    """(z_j z_k - δ_jk)/2: of the I_(j,k) over a step of length 1."""
    identity = array_namespace(z).eye(z.shape[-1], dtype=z.dtype, device=device(z))
    return 0.5 * (z[..., :, None] * z[..., None, :] - identity)


def _double_integrals(sde: SDE, x: Array, t: float, g: Number, integrals: Array) -> Array:
    """Σ_jk (∂g_k/∂x) g_j I_(j,k), like x, for integrals (..., wiener_dim, wiener_dim)."""
    directions = g @ integrals
    total = sde.diffusion_jvp(x, t, directions[..., 0])[..., 0]
    for k in range(1, integrals.shape[-1]):
        total = total + sde.diffusion_jvp(x, t, directions[..., k])[..., k]
    return total


def _require_commutative(sde: SDE, x: Array, t: float) -> None:
    """Compare (∂g_k/∂x) g_j with (∂g_j/∂x) g_k on a few rows of x and beside them; one host
    synchronisation. Beside them too, since at a start of zeros linear fields hide.

    Raises: ValueError where they differ by more than the error of the derivative.
    """
    xp = array_namespace(x)
    rows = xp.reshape(x, (-1, x.shape[-1]))
    rows = rows[: min(ROWS, rows.shape[0]), :]
    away = xp.where(rows < 0, -(1 - rows), 1 + rows) * 0.01  # away from zero: g may need a sign of x
    ramp = xp.asarray([1 / (1 + i) for i in range(x.shape[-1])], dtype=x.dtype, device=device(x))
    rows = xp.concat([rows, rows + away * ramp])
    g = sde.diffusion(rows, t)
    slopes = xp.stack([sde.diffusion_jvp(rows, t, g[..., j]) for j in range(g.shape[-1])], axis=-2)
    gap = xp.abs(slopes - xp.matrix_transpose(slopes))  # slopes[..., i, j, k] = Σ_l ∂_l g_ik g_lj
    size = xp.max(xp.abs(g)) ** 2 / (1 + xp.max(xp.abs(rows))) + xp.max(xp.abs(slopes))
    tolerance = 100 * float(xp.finfo(x.dtype).eps) ** 0.8  # of derivatives by central differences
    if bool(xp.any(gap > tolerance * size)):
        raise ValueError(
            f"Milstein takes commutative noise, (∂g_k/∂x) g_j = (∂g_j/∂x) g_k; for "
            f"{type(getattr(sde, 'original', sde)).__name__} they differ by {float(xp.max(gap)):.3g} near "
            f"x_init at t={t:.6g}; use MilsteinLevy(terms=...), which approximates the Lévy areas, or "
            "EulerMaruyama, of strong order 1/2"
        )


def levy_area(z: Array, u: Array, coefficients: Array) -> Array:
    """A_jk = ½ (I_(j,k) - I_(k,j)) over a step of length 1; multiply by |t - s| for another length.

    From the Fourier series of the Brownian bridge, X_r and Y_r its coefficients as standard normals:
    A_jk ≈ (u_j z_k - z_j u_k)/√12 + Σ_{r=1}^p (X_jr Y_kr - Y_jr X_kr)/(2π r). The first term is exact,
    since u is the whole series Σ_r X_r √6/(π r), with the minus sign; X is therefore conditioned on u.
    The mean square error of an entry is Σ_{r>p} 1/(2π² r²) ≈ 1/(2π² p).

    z, u: (..., m), as 'wiener' and 'area' give them. coefficients: (..., 2 p + 1, m) standard normals:
    p rows of X, p of Y, one for the rest of u. Result: (..., m, m), antisymmetric.
    Source: Kloeden & Platen 1992, section 5.8.
    """
    xp, p = array_namespace(z), (coefficients.shape[-2] - 1) // 2
    like = {"dtype": z.dtype, "device": device(z)}
    first = xp.matrix_transpose(z[..., None, :]) @ u[..., None, :]  # z_j u_k
    area = (xp.matrix_transpose(first) - first) / math.sqrt(12)
    if p == 0:
        return area
    X, Y, rest = coefficients[..., :p, :], coefficients[..., p : 2 * p, :], coefficients[..., 2 * p, :]
    share = [math.sqrt(6) / (math.pi * r) for r in range(1, p + 1)]
    of_rest = math.sqrt(1 - sum(n * n for n in share))
    direction = xp.asarray(share, **like)[:, None]
    missing = u + xp.sum(direction * X, axis=-2) + of_rest * rest
    X = X - direction * missing[..., None, :]
    rate = xp.asarray([1 / (2 * math.pi * r) for r in range(1, p + 1)], **like)[:, None]
    product = xp.matrix_transpose(rate * X) @ Y
    return area + product - xp.matrix_transpose(product)
