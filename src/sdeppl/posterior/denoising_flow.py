"""The probability-flow ODE of a denoiser, in coordinates that suit it."""

import math
from typing import Any

from array_api_compat import array_namespace

from ..denoisers import Denoiser
from ..linalg import LinearOperator
from ..sde.grids import time_of_half_log_snr
from ..solvers import AugmentedFlow, divergence, trace


class DenoisingFlow(AugmentedFlow):
    """The probability-flow ODE and its divergence on states (z, ℓ), (batch, dim + n), in u for time.

    With η = σ/α, v = η² and y = (x - m(t))/α = x_0 + η ε: z = (y - μ)/√(λ + v), u = ½ ln(1 + v/λ),

        dz/du = √(λ + v) (y - E[x_0 given x_t])/v - z,
        dℓ/du = (λ + v) (dim - tr Cov[x_0 given x_t]/v)/v - dim,

    both zero for x_0 ~ N(μ, λ I), and smooth down to u = 0, which is t = 0. Below v = `floor` a
    denoiser is 0/0: there (y - E)/v, minus the score of y, is taken at `floor`, an error of order
    floor² in the end. ℓ has one column for the exact trace, or one for each of `probes` (n, batch, dim).

    μ and λ are the denoiser's mean and mean variance at T: a choice of coordinates, no approximation.
    The divergence comes from Tweedie's formula, or from the mean's Jacobian where a denoiser's
    covariance is not its slope. Raises: ValueError where no signal is left at T.
    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 39; Karras et al.
    2022, eq. 4.
    """

    def __init__(self, denoiser: Denoiser, x: Any, t: float, T: float, probes: Any = None) -> None:
        self.denoiser, self.probes, self.numbers = denoiser, probes, denoiser.dim
        if denoiser.sde.alpha(denoiser.sde.T) <= 0:
            raise ValueError(
                f"no signal is left at T={denoiser.sde.T:.6g}, where α = 0: use a smaller T or β"
            )
        self.last_level = denoiser.sde.half_log_snr(T)
        largest = math.exp(-2 * self.last_level)
        start = 0 * x[:1, :] + denoiser.sde.shift(T)
        moments = denoiser(start, T)
        first = None if probes is None else probes[:, :1, :]
        spread = float(array_namespace(x).mean(_trace(moments.covariance, start, first))) / self.numbers
        self.mean, self.variance = moments.mean, max(spread, 1e-12 * largest)
        self.floor, trials = self._floor(x, t, 0.25 * largest)
        self.evaluations = 1 + trials

    def _floor(self, x: Any, t: float, largest: float) -> tuple[float, int]:
        """The smallest v used from x at t on, and the evaluations that it took to find.

        1 - tr C/(v dim) measures v against x_0's own scales. It is made less than eps^{1/3} by
        smaller v, but v stays above eps^{2/3} λ for the sake of rounding in y - E.
        """
        xp, sde = array_namespace(x), self.denoiser.sde
        eps = float(xp.finfo(x.dtype).eps)
        floor, least = (min(eps**power * self.variance, largest) for power in (1 / 3, 2 / 3))
        if t > 0 and math.exp(-2 * sde.half_log_snr(t)) >= floor:
            return 0.0, 0
        y, trials = (sde.centre(x, t) if t > 0 else x) / sde.alpha(t), 0
        while True:
            trials, time = trials + 1, self._time(floor)
            _, curvature = self._moments(y, time)
            if floor <= least or float(xp.max(xp.abs(curvature))) < eps ** (1 / 3) * self.numbers:
                return floor, trials
            floor = max(floor / 16, least)

    def level(self, t: float) -> float:
        """u at t."""
        return 0.5 * math.log1p(math.exp(-2 * self.denoiser.sde.half_log_snr(t)) / self.variance)

    def scale(self, t: float) -> float:
        """√(α² λ + σ²), by which z is multiplied to give x."""
        sde = self.denoiser.sde
        return math.sqrt(sde.alpha(t) ** 2 * self.variance + sde.sigma(t) ** 2)

    def enter(self, x: Any, t: float) -> Any:
        """z of x at t."""
        sde = self.denoiser.sde
        return (sde.centre(x, t) - sde.alpha(t) * self.mean) / self.scale(t)

    def leave(self, z: Any, t: float) -> Any:
        """x of z at t."""
        sde = self.denoiser.sde
        return sde.alpha(t) * self.mean + self.scale(t) * z + sde.shift(t)

    def drift(self, x: Any, t: float) -> Any:
        z = x[..., : self.numbers]
        noise = self.variance * math.expm1(2 * t)
        root = math.sqrt(self.variance + noise)
        y = self.mean + root * z
        noise = max(noise, self.floor)
        mean, curvature = self._moments(y, self._time(noise))
        velocity = (root / noise) * (y - mean) - z
        return array_namespace(z).concat([velocity, (root**2 / noise) * curvature - self.numbers], axis=-1)

    def _moments(self, y: Any, t: float) -> tuple[Any, Any]:
        """E[x_0 given x_t] and dim - tr Cov[x_0 given x_t]/v, or its estimates, at y; of the order of v."""
        sde, denoiser = self.denoiser.sde, self.denoiser
        alpha, x = sde.alpha(t), sde.alpha(t) * y + sde.shift(t)
        if denoiser.covariance_is_slope:
            moments = denoiser(x, t)
            ratio = (alpha / sde.sigma(t)) ** 2
            return moments.mean, self.numbers - ratio * _trace(moments.covariance, x, self.probes)
        slopes = divergence(lambda x: denoiser.mean(x, t), x, self.probes)
        return denoiser.mean(x, t), self.numbers - alpha * slopes

    def _time(self, noise: float) -> float:
        """The time at which η² = noise; T for more noise than there is then, by rounding."""
        return time_of_half_log_snr(self.denoiser.sde, max(-0.5 * math.log(noise), self.last_level))


def _trace(covariance: LinearOperator, x: Any, probes: Any) -> Any:
    """tr C for each row of x: (batch, 1), or (batch, n) by probes."""
    if probes is not None or not covariance.materialised:
        return trace(covariance.matvec, x, probes)
    xp = array_namespace(x)
    return xp.broadcast_to(xp.linalg.trace(covariance.dense())[..., None], (x.shape[0], 1))
