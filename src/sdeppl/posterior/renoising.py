"""Moves that leave the prior where it is, from its denoiser alone: noise x_0 up to a level, and denoise."""

import itertools
import math
from typing import Any

from ..backend import NoiseStream
from ..denoisers import Denoiser
from ..likelihood import Guided
from ..sde import ReverseSDE, StepCoefficients
from ..sde.grids import time_of_half_log_snr
from ..solvers import ExponentialHeun
from .kernel import MomentKernel
from .start import Start

RATIO = 1.3  # of the levels of two steps of a move
DEPTH = 10.0  # the level of a move, or the prior's smallest deviation, over the level of its last step
ROUNDING = 1e-3  # of the last level: noise for directions without variance, which have no root otherwise


class Renoising:
    """x_0 ↦ x_0' by x_t ~ p(x_t given x_0), x_0' ~ p(x_0 given x_t), at the t where σ/α is the level.

    Reversible under the prior at any level, up to the prior's largest standard deviation: small ones move
    little, large ones draw anew. A prior that draws x_0 given x_t itself, by `conditional(x, t, z)`, is
    asked; a Gaussian one takes one step of the reverse SDE, which is exact; any other about ten, with the
    moments of the true ones (`MomentKernel`), or where a covariance costs many evaluations by
    `ExponentialHeun`: down to a tenth of the level, and of the prior's smallest standard deviation, and from
    there a draw from Tweedie's Gaussian.

    times: of a whole solve, T to 0, by which `start` draws from the prior; c: noise amplitude.
    """

    def __init__(
        self, prior: Denoiser, start: Start, kernel: MomentKernel, times: list[float], c: Any
    ) -> None:
        self.prior, self.start, self.kernel, self.times = prior, start, kernel, times
        self.reverse, self.solver = ReverseSDE(prior.sde, prior, c), ExponentialHeun()
        sde = prior.sde
        # from the prior's own deviations on a move draws anew, which more noise would only make longer
        self.highest = min(math.sqrt(float(start.variances[-1])), sde.sigma(sde.T) / sde.alpha(sde.T))
        covariance = prior(start.mean[None, :], sde.T).covariance
        self.one_step, self.has_matrix = covariance.shared, covariance.materialised
        self.conditional = getattr(prior, "conditional", None)

    def draw(self, stream: NoiseStream, draws: int, index: int = 0) -> Any:
        """x_0 (draws, dim) of the prior, by the stream's numbers 0 to steps."""
        x = self.start.draw(stream, draws, index)
        times = [self.times[0], self.times[-1]] if self.one_step else self.times
        return self._denoise(x, times, stream, 1, index)

    def move(self, x: Any, level: float, stream: NoiseStream, step: int, index: int = 0) -> Any:
        """x_0' for x_0 = x (batch, dim), by the stream's numbers step, step + 1, …"""
        sde = self.prior.sde
        log_ratio = -math.log(min(level, self.highest))
        t = time_of_half_log_snr(sde, max(log_ratio, sde.half_log_snr(sde.T)))
        noised = sde.alpha(t) * x + sde.sigma(t) * stream.normal(step, tuple(x.shape), index) + sde.shift(t)
        if self.conditional is not None:
            z = stream.normal(step + 1, tuple(x.shape), index)
            return self.conditional(noised, t, z[:, None, :])[:, 0, :]
        times = [t, 0.0] if self.one_step else self._times(t, level)
        return self._denoise(noised, times, stream, step + 1, index)

    def _times(self, t: float, level: float) -> list[float]:
        """Falling from t, with σ/α falling by about `RATIO` in each step, and 0."""
        sde, log_t = self.prior.sde, self.prior.sde.half_log_snr(t)
        depth = math.log(DEPTH * max(1.0, level / self.start.smallest_sd))
        steps = math.ceil(depth / math.log(RATIO))
        places = [log_t + k / steps * depth for k in range(1, steps + 1)]
        return [t, *(time_of_half_log_snr(sde, place) for place in places), 0.0]

    def _denoise(self, x: Any, times: list[float], stream: NoiseStream, step: int, index: int) -> Any:
        for k, (s, t) in enumerate(itertools.pairwise(times)):
            z = stream.normal(step + k, tuple(x.shape), index)
            x = self._step(x, s, t, z) if self.one_step or self.has_matrix else self._by_mean(x, s, t, z)
        return x

    def _step(self, x: Any, s: float, t: float, z: Any) -> Any:
        """By the mean and the covariance of x_0 given x_s."""
        sde, moments = self.prior.sde, self.prior(x, s)
        unguided = Guided(moments, moments.mean, self.prior.backend.xp.zeros_like(x[:, 0]))
        ratio = sde.sigma(s) / sde.alpha(s)
        coefficients = self.reverse.coefficients(s, t)
        if t == 0:
            coefficients = StepCoefficients(0.0, 1.0, 0.0, ROUNDING * ratio)
        return self.kernel.propose(x, unguided, coefficients, ratio**2).draw(z)[0]

    def _by_mean(self, x: Any, s: float, t: float, z: Any) -> Any:
        """By the mean alone; at the last level the covariance is (σ/α)² to a hundredth."""
        if t > 0:
            return self.solver.step(self.reverse, x, s, t, z)[0]
        return self.prior.mean(x, s) + self.prior.sde.sigma(s) / self.prior.sde.alpha(s) * z
