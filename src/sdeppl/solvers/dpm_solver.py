"""DPM-Solver++: exponential multistep schemes for the reverse SDE."""

import math
from dataclasses import dataclass
from typing import Any

from ..backend import Array
from .base import Memory, Normals, Solver
from .exponential import (
    SHORTEST,
    Node,
    half_log_snr,
    kernel_integral,
    linear_part,
    require_isotropic_reverse,
    require_semilinear,
)


def halfway(sde: Any, x: Array, s: float, t: float, start: Array) -> Node:
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

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        require_isotropic_reverse("DPMSolverPP", sde)
        return require_semilinear(self, sde, x, t, deterministic)

    def step(
        self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
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
        return x_next + sde.forward.alpha(t) * integral, nodes[: self.order - 1]
