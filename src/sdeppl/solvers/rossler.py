"""Rößler's stochastic Runge–Kutta methods of strong order 1.5."""

import math
from dataclasses import dataclass

from ..backend import Array, Number
from ..sde import SDE
from .base import Memory, Normals, Solver

Row = tuple[float, ...]


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

    def step(
        self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
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

    def step(
        self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
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
