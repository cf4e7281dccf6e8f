"""Geometric Brownian motion."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from ..backend import Array, Number, elementary, python_floats
from .base import SDE


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
        python_floats(self, gradients=True)
        for name, value in (("mu", self.mu), ("sigma", self.sigma)):
            if not hasattr(value, "shape") and not (isinstance(value, float) and math.isfinite(value)):
                raise ValueError(f"GeometricBrownianMotion: {name} must be a finite number; got {value!r}")
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
