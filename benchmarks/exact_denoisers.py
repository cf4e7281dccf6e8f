"""The exact denoiser of a uniform x_0 on a box, for priors that `sdeppl` has no closed form of."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from normal_functions import truncated_normal

from sdeppl import Denoiser, Moments
from sdeppl.backend import require_arrays
from sdeppl.denoisers.base import weight_matrix
from sdeppl.linalg import Dense
from sdeppl.sde import IsotropicSDE, require_isotropic

NODES = 32
LOG_TAIL = 30.0  # what has less than e^-30 of the density at the mode is left out
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_RULE = (_NODES + 1).tolist(), _WEIGHTS.tolist()


class BoxUniformDenoiser(Denoiser):
    """x_0 uniform on the box [low, high]: x_0 | x_t is N(x_t/α, (σ/α)² I) cut to the box.

    low, high (dim,), of one backend. Each number's moments are by Gauss–Legendre quadrature with 32
    nodes over where its density is, so neither a box narrow beside σ/α nor an x_t far outside it
    costs digits: standard deviations hold to 1e-9 in float64. Cost: 32 exponentials a number.
    `conditional` draws from p(x_0 | x_t) exactly; `log_density` is ln p_t.

    Raises: ValueError for shapes that do not fit and an empty box.
    """

    def __init__(self, sde: IsotropicSDE, low: Any, high: Any) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        self.backend = require_arrays(type(self).__name__, low=low, high=high)
        if low.ndim != 1 or low.shape != high.shape:
            raise ValueError(f"expected low and high (dim,); got {tuple(low.shape)} and {tuple(high.shape)}")
        if not bool(self.backend.xp.all(low < high)):
            raise ValueError("the box is empty: low must be less than high in every number")
        self.low, self.high = low, high
        self.dim = low.shape[0]

    def __repr__(self) -> str:
        return f"BoxUniformDenoiser({self.sde}, dim={self.dim})"

    def __call__(self, x: Any, t: float) -> Moments:
        found = self._moments(x, t)
        identity = self.backend.xp.eye(self.dim, dtype=x.dtype, device=device(x))
        return Moments(found.mean, Dense(found.variance[..., None] * identity))

    def mean(self, x: Any, t: float) -> Any:
        return self._moments(x, t).mean

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,)."""
        return self.backend.xp.sum(self._moments(x, t).log_density, axis=-1)

    def covariance_slope(self, x: Any, t: float, V: Any, w: Any) -> Any:
        """As of any denoiser, here in closed form: α/σ² κ_i W_ii with third moments κ, W = V w Vᵀ."""
        weights = self.backend.xp.sum((V @ weight_matrix(w)) * V, axis=-1)
        return self.sde.alpha(t) / self.sde.sigma(t) ** 2 * self._moments(x, t).third * weights

    def conditional(self, x: Any, t: float, z: Any) -> Any:
        """Draws of x_0 given x_t = x (batch, dim), from standard normals z (1 or batch, M, dim).

        (batch, M, dim), rising in each z; differentiable in x where the arrays are.
        """
        xp, alpha = self.backend.xp, self.sde.alpha(t)
        scale = self.sde.sigma(t) / alpha
        location = self.sde.centre(x, t)[:, None, :] / alpha
        draws = truncated_normal((self.low - location) / scale, (self.high - location) / scale, z)
        return xp.minimum(xp.maximum(location + scale * draws, self.low), self.high)

    def _moments(self, x: Any, t: float) -> "_NumberMoments":
        xp = array_namespace(x)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        scale = sigma / alpha
        location = self.sde.centre(x, t) / alpha
        mode = xp.minimum(xp.maximum(location, self.low), self.high)
        away = (mode - location) / scale
        # where (u² - away²)/2 is LOG_TAIL, seen from the mode, on the side away from the location
        reach = 2 * LOG_TAIL * scale / (xp.abs(away) + xp.sqrt(away * away + 2 * LOG_TAIL))
        first, last = xp.maximum(self.low, mode - reach), xp.minimum(self.high, mode + reach)
        half = 0.5 * (last - first)
        total, one, two, three = _sums((first - mode) / scale, half / scale, away)
        constant = math.log(sigma) + 0.5 * math.log(2 * math.pi) + xp.log(self.high - self.low)
        return _NumberMoments(
            first + half * one,
            half**2 * (two - one * one),
            half**3 * (three - 3 * one * two + 2 * one**3),
            xp.log(half * total) - 0.5 * away * away - constant,
        )


@dataclass(frozen=True)
class _NumberMoments:
    """Mean, variance and third central moment of each number, and its ln p_t, all of x's shape."""

    mean: Any
    variance: Any
    third: Any
    log_density: Any


def _sums(start: Any, width: Any, away: Any) -> tuple[Any, Any, Any, Any]:
    """∫ e^{-u²/2 - away u} over v in [0, 2], u = start + width v, and the moments 1 to 3 of v under it.

    In v no large number is subtracted; one node at a time is what the processor's cache holds.
    """
    xp = array_namespace(start)
    total = one = two = three = xp.zeros_like(start)
    for node, weight in zip(*_RULE, strict=True):
        u = start + node * width
        density = weight * xp.exp(-u * (0.5 * u + away))
        total = total + density
        density = node * density
        one = one + density
        density = node * density
        two = two + density
        three = three + node * density
    return total, one / total, two / total, three / total
