"""DPM-Solver++ and UniPC: exponential multistep schemes for the reverse SDE."""

import math
from dataclasses import dataclass

from ..backend import Array
from ..sde import SDE, ReverseSDE
from .base import Memory, Normals, Solver, Stepped
from .exponential import (
    SHORTEST,
    Node,
    half_log_snr,
    kernel_integral,
    linear_part,
    require_isotropic_reverse,
    require_semilinear,
)

Nodes = tuple[Node, ...]


def halfway(sde: ReverseSDE, x: Array, s: float, t: float, start: Array) -> Node:
    """λ and E[x_0 given x_t] in the middle of [t, s], after an exponential Euler step without noise."""
    middle = 0.5 * (s + t)
    coefficients = sde.coefficients(s, middle)
    x_middle = linear_part(coefficients, x, None) + coefficients.first * start
    return half_log_snr(sde, middle), sde.nonlinear(x_middle, middle)


@dataclass(frozen=True)
class DPMSolverPP(Solver):
    """x_t = decay x_s + α_t (1+k) ∫ e^{-(1+k)(λ_t - λ)} N(λ) dλ + noise z, k = c², any c.

    N is the polynomial in λ = ln(α/σ) through E[x_0 given x_t] at s and at the order - 1 steps
    before; the integral is exact. Order 1 is `ExponentialEuler`; order 2 is, for c = 0 and 1, the
    published multistep formula in its variant 'heun' (2M has (1 - e^{-h})/2 for its second weight). The
    published third order takes half of the second difference and measures order 2; here it is whole.
    Any grid. Orders measured: without noise 1, 2, 3; with noise weak 1, 2, 2, whatever c > 0, and
    strong 1, from above for orders 2 and 3 (1.4 and 1.5 at 16 to 64 steps). One evaluation a step;
    order 3 without noise takes one more in its first step, where an Euler step would cost an order.

    In the step to t = 0, where λ is infinite, it returns α_0 E[x_0 given x_s] ('denoise to zero'): off
    the flow by a relative (σ_s/α_s)²/2 over the data's variance.

    Raises: ValueError for another order. Source: Lu et al. 2022 (DPM-Solver++), eq. 8, algorithm 2
    and appendix B.
    """

    order: int = 2  # type: ignore[misc]

    strong_order = {"additive": 1.0}
    evaluations = 1

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order not in (1, 2, 3):
            raise ValueError(f"DPMSolverPP: order must be 1, 2 or 3; got {self.order!r}")

    @property
    def weak_order(self) -> float:  # type: ignore[override]
        return float(min(self.order, 2))

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        sde = require_isotropic_reverse("DPMSolverPP", sde)
        return require_semilinear(self, sde, x, t, deterministic)

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        coefficients = sde.coefficients(s, t)
        x_next = linear_part(coefficients, x, z)
        lambda_s, lambda_t = half_log_snr(sde, s), half_log_snr(sde, t)
        if lambda_t - lambda_s < SHORTEST:
            return x_next, memory
        start = sde.nonlinear(x, s)
        if math.isinf(lambda_t):
            return x_next + coefficients.first * start, None
        nodes = ((lambda_s, start), *(memory or ()))
        if self.order == 3 and not memory and sde.deterministic(s, t):
            nodes = (halfway(sde, x, s, t, start), *nodes)
        k = sde.noise_ratio(0.5 * (s + t)) ** 2
        integral = kernel_integral(nodes, lambda_s, lambda_t, k)
        return x_next + sde.isotropic.alpha(t) * integral, nodes[: self.order - 1]


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-p in data prediction: x_t = decay x_s + α_t ∫ e^{-(λ_t - λ)} N(λ) dλ, twice; c = 0.

    First N is the polynomial in λ through E[x_0 given x_t] at s and at the p - 1 steps before
    (UniP-p, which is `DPMSolverPP(order=p)`); then E[x_0 given x_t] is evaluated at the x_t so found,
    and N goes through that too (UniC-p). The next step starts from the corrected x_t and that same
    evaluation, so the order is p + 1 at one evaluation a step, and one for the start. The paper's
    B(h) multiplies coefficients that solve a linear system with 1/B(h) on its right: solved exactly,
    as here, it cancels; its variants h and e^h - 1 differ only where the paper puts 1/2 for them.
    Any grid. For p = 3 the first step takes two more evaluations, lest it cost an order. The step to
    t = 0 returns α_0 times the last evaluation, as `DPMSolverPP` does.

    p: 1, 2 or 3. Raises: ValueError for another p; TypeError for c > 0.
    Source: Zhao et al. 2023 (UniPC), eq. 3 to 5, algorithms 1, 2 and appendix (data prediction).
    """

    p: int = 2

    strong_order = {}
    evaluations = 1
    draws = ()

    def __post_init__(self) -> None:
        if not isinstance(self.p, int) or self.p not in (1, 2, 3):
            raise ValueError(f"UniPC: p must be 1, 2 or 3; got {self.p!r}")

    @property
    def weak_order(self) -> float:  # type: ignore[override]
        return self.p + 1.0

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        sde = require_isotropic_reverse("UniPC", sde)
        if not deterministic:
            raise TypeError(
                f"UniPC solves the probability-flow ODE, c = 0; got a ReverseSDE with c={sde.c!r}; use "
                "DPMSolverPP, which takes any c"
            )
        return sde

    def init(self, sde: ReverseSDE, x: Array, t: float) -> Nodes:
        return ((half_log_snr(sde, t), sde.nonlinear(x, t)),)

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        nodes = memory or self.init(sde, x, s)
        coefficients = sde.coefficients(s, t)
        linear = linear_part(coefficients, x, None)
        lambda_s, lambda_t = nodes[0][0], half_log_snr(sde, t)
        if lambda_t - lambda_s < SHORTEST:
            return linear, nodes
        if math.isinf(lambda_t):
            return linear + coefficients.first * nodes[0][1], None
        alpha = sde.isotropic.alpha(t)
        if self.p == 3 and len(nodes) == 1:
            nodes = _first_nodes(sde, x, s, t, nodes[0])
        else:
            predicted = linear + alpha * kernel_integral(nodes, lambda_s, lambda_t, 0.0)
            nodes = ((lambda_t, sde.nonlinear(predicted, t)), *nodes)
        return linear + alpha * kernel_integral(nodes, lambda_s, lambda_t, 0.0), nodes[: self.p]


def _first_nodes(sde: ReverseSDE, x: Array, s: float, t: float, start: Node) -> Nodes:
    """E[x_0 given x_t] at the end, the middle and the start of a first step, to third order in it.

    An Euler step to the middle, a step of order 2 to the end, and from the parabola through the
    three evaluations a step of order 2 to the middle.
    """
    middle, lambda_s, lambda_t = 0.5 * (s + t), start[0], half_log_snr(sde, t)
    nodes: Nodes = (halfway(sde, x, s, t, start[1]), start)
    end = linear_part(sde.coefficients(s, t), x, None)
    end = end + sde.isotropic.alpha(t) * kernel_integral(nodes, lambda_s, lambda_t, 0.0)
    nodes = ((lambda_t, sde.nonlinear(end, t)), *nodes)
    lambda_middle = nodes[1][0]
    x_middle = linear_part(sde.coefficients(s, middle), x, None)
    integral = kernel_integral(nodes, lambda_s, lambda_middle, 0.0)
    x_middle = x_middle + sde.isotropic.alpha(middle) * integral
    return nodes[0], (lambda_middle, sde.nonlinear(x_middle, middle)), start
