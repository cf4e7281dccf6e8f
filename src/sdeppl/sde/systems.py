"""Nonlinear systems with noise: a double well, geometric Brownian motion, Lorenz's."""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from ..backend import Array, Number, array_namespace, elementary, python_floats, require_positive
from .base import SDE


@dataclass(frozen=True)
class DoubleWell(SDE):
    """dx = -U'(x) dt + √(2 T) dW with U = barrier ((x/well)² - 1)², in each component alone.

    The wells lie at ±well, in units of x; barrier and temperature T are energies, in units of x²
    per time. The stationary density is ∝ e^{-U/T}. Raises: ValueError for parameters that are not
    positive and finite. Source: Gardiner, Stochastic Methods, §5.2.2 and 14.
    """

    barrier: float = 1.0
    well: float = 1.0
    temperature: float = 0.5
    noise = "additive"

    def __post_init__(self) -> None:
        python_floats(self)
        require_positive(self, "barrier", "well", "temperature")

    def drift(self, x: Array, t: float) -> Array:
        stiffness = 4 * self.barrier / self.well**2
        return x * (stiffness - (stiffness / self.well**2) * x * x)

    def diffusion(self, x: Array, t: float) -> float:
        return math.sqrt(2 * self.temperature)

    def potential(self, x: Array) -> Array:
        """U summed over the components: (...) for x (..., dim)."""
        return array_namespace(x).sum(self.barrier * ((x / self.well) ** 2 - 1) ** 2, axis=-1)

    def stationary_log_density(self, x: Array) -> Array:
        """ln of the density that stays as it is: -U/T - dim ln ∫ e^{-U(y)/T} dy, (...)."""
        return -self.potential(x) / self.temperature - x.shape[-1] * self._log_integral

    def stationary_score(self, x: Array) -> Array:
        """-U'(x)/T, like x."""
        return self.drift(x, 0.0) / self.temperature

    @cached_property
    def _log_integral(self) -> float:
        """ln ∫ e^{-U(y)/T} dy over one component, by quadrature to 1e-12."""
        from scipy.integrate import quad  # half a second, which other SDEs do without

        height = self.barrier / self.temperature
        tail = math.sqrt(1 + math.sqrt(750 / height))  # beyond it e^{-U/T} underflows
        value, _ = quad(
            lambda u: math.exp(-height * (u * u - 1) ** 2), 0, tail, points=[1.0], epsabs=0, epsrel=1e-12
        )
        return math.log(2 * self.well * value)


@dataclass(frozen=True)
class GeometricBrownianMotion(SDE):
    """dx = μ x dt + σ x dW in Itô's sense: ln x_t given x_s ~ N(ln x_s + (μ - σ²/2)(t-s), σ² (t-s)).

    mu: growth per unit of time; sigma > 0: volatility per √time; numbers, or arrays (dim,). Diagonal
    noise. x keeps its sign; the log-density and the score are those of positive states.
    Raises: ValueError for numbers that are not finite, or σ ≤ 0. Source: Kloeden & Platen 1992,
    eq. 4.4.5 and 4.4.6.
    """

    mu: Number = 0.05
    sigma: Number = 0.2

    def __post_init__(self) -> None:
        _require_finite(self)
        if isinstance(self.sigma, float) and self.sigma <= 0:
            raise ValueError(f"GeometricBrownianMotion: sigma must be positive; got {self.sigma}")

    def drift(self, x: Array, t: float) -> Array:
        return self.mu * x

    def diffusion(self, x: Array, t: float) -> Number:
        return self.sigma * x

    def diffusion_jvp(self, x: Array, t: float, v: Array) -> Array:
        return self.sigma * v

    def exact(self, x: Array, s: float, t: float, z: Array) -> Array:
        """x_t for x_s = x and W_t - W_s = √(t-s) z, with z like x; exact."""
        span = t - s
        exponent = (self.mu - 0.5 * self.sigma**2) * span + (self.sigma * math.sqrt(span)) * z
        return x * array_namespace(exponent).exp(exponent)

    def mean(self, x: Array, s: float, t: float) -> Array:
        """E[x_t given x_s = x] = x e^{μ(t-s)}."""
        growth = self.mu * (t - s)
        return x * elementary(growth).exp(growth)

    def variance(self, x: Array, s: float, t: float) -> Array:
        """Var[x_t given x_s = x] = x² e^{2μ(t-s)} (e^{σ²(t-s)} - 1)."""
        spread = self.sigma**2 * (t - s)
        return self.mean(x, s, t) ** 2 * elementary(spread).expm1(spread)

    def log_density(self, y: Array, x: Array, s: float, t: float) -> Array:
        """ln p(x_t = y given x_s = x), (...), for positive x and y (..., dim)."""
        xp = array_namespace(y, x)
        variance = self.sigma**2 * (t - s)
        residual = self._residual(y, x, t - s)
        normaliser = elementary(variance).log(2 * math.pi * variance)
        return -xp.sum(0.5 * residual**2 / variance + 0.5 * normaliser + xp.log(y), axis=-1)

    def score(self, y: Array, x: Array, s: float, t: float) -> Array:
        """∂ ln p(x_t = y given x_s = x)/∂y, like y."""
        return -(1 + self._residual(y, x, t - s) / (self.sigma**2 * (t - s))) / y

    def _residual(self, y: Array, x: Array, span: float) -> Array:
        """ln y minus its mean."""
        return array_namespace(y, x).log(y / x) - (self.mu - 0.5 * self.sigma**2) * span


class _Lorenz(SDE):
    """With noise of one amplitude in each component, a field of the subclass."""

    amplitude: Number
    noise = "additive"

    def __post_init__(self) -> None:
        _require_finite(self)
        if isinstance(self.amplitude, float) and self.amplitude < 0:
            raise ValueError(f"{type(self).__name__}: amplitude must be at least 0; got {self.amplitude}")

    def diffusion(self, x: Array, t: float) -> Number:
        return self.amplitude

    def deterministic(self, s: float, t: float) -> bool:
        return isinstance(self.amplitude, float) and self.amplitude == 0


@dataclass(frozen=True)
class Lorenz63(_Lorenz):
    """dx = (σ (x_2 - x_1), x_1 (ρ - x_3) - x_2, x_1 x_2 - β x_3) dt + amplitude dW, on (..., 3).

    Additive noise, independent in each component, in units of x per √time. Raises: ValueError for
    numbers that are not finite or a negative amplitude, and for states that have not 3 components.
    Source: Lorenz 1963, Deterministic nonperiodic flow, eq. 25 to 27.
    """

    sigma: Number = 10.0
    rho: Number = 28.0
    beta: Number = 8 / 3
    amplitude: Number = 1.0

    def drift(self, x: Array, t: float) -> Array:
        if x.shape[-1] != 3:
            raise ValueError(f"Lorenz63 has states (..., 3); got {tuple(x.shape)}")
        u, v, w = x[..., 0], x[..., 1], x[..., 2]
        # each component in one piece of memory: from the second step on torch runs at full speed
        xp = array_namespace(x)
        drift = xp.stack([self.sigma * (v - u), u * (self.rho - w) - v, u * v - self.beta * w])
        return xp.permute_dims(drift, (*range(1, drift.ndim), 0))  # torch.func.vmap has no rule for moveaxis


@dataclass(frozen=True)
class Lorenz96(_Lorenz):
    """dx_i = ((x_{i+1} - x_{i-2}) x_{i-1} - x_i + F) dt + amplitude dW_i, i modulo dim ≥ 4.

    Additive noise, independent in each component, in units of x per √time. Raises: ValueError for
    numbers that are not finite or a negative amplitude, and for states with less than 4 components.
    Source: Lorenz 1996, Predictability: a problem partly solved, eq. 1.
    """

    F: Number = 8.0
    amplitude: Number = 1.0

    def drift(self, x: Array, t: float) -> Array:
        if x.shape[-1] < 4:
            raise ValueError(f"Lorenz96 has states (..., dim) with dim >= 4; got {tuple(x.shape)}")
        # around[..., k] = x_{k-2}: one copy instead of three rolls
        around = array_namespace(x).concat((x[..., -2:], x, x[..., :1]), axis=-1)
        return (around[..., 3:] - around[..., :-3]) * around[..., 1:-2] - x + self.F


def _require_finite(sde: Any) -> None:
    """Raises: ValueError for a parameter that is no finite number; arrays pass."""
    python_floats(sde, gradients=True)
    for field in fields(sde):
        value = getattr(sde, field.name)
        if not hasattr(value, "shape") and not (isinstance(value, float) and math.isfinite(value)):
            raise ValueError(f"{type(sde).__name__}: {field.name} must be a finite number; got {value!r}")
