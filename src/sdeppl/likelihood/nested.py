"""The consistent mean likelihood: draws of p(x_0 given x_t) itself."""

import itertools

from ..backend import Array, keyed_normal, seed_number, whole_number
from ..denoisers import Denoiser, Moments
from ..sde import ReverseSDE, log_snr_grid
from ..solvers import ExponentialHeun
from .base import Guided, MeanLikelihood
from .monte_carlo import weigh
from .observation import Observation

STREAM = 0x6E6573746564


class NestedDenoiser(MeanLikelihood):
    """l(y given x_t) = mean of p(y given x_0) over `samples` draws of p(x_0 given x_t), by the reverse SDE.

    Assumes nothing: it converges to l, and its mean to E[x_0 given x_t, y], as samples and steps grow. Costs
    2 × samples × (the rest of `steps` from t on) evaluations of the denoiser where the other methods take
    one. A prior that draws x_0 given x_t itself, by `conditional(x, t, z)` with normals z (batch, M, dim),
    is asked instead. The draws of all x_t come from the same normals.

    samples: of x_0 for each x_t; steps: of a whole reverse solve, from T; seed: of the normals. Raises: as
    `MeanLikelihood`; ValueError for fewer than 2 samples; TypeError for a hard constraint. Source: Calibrated
    Bayesian Guidance (arXiv 2602.22428), here with the reverse SDE as the sampler.
    """

    name = "nested"
    needs = "density"
    gradient_free = True

    def __init__(
        self, prior: Denoiser, observation: Observation, samples: int = 64, steps: int = 20, seed: int = 0
    ) -> None:
        super().__init__(prior, observation)
        self.samples = whole_number("NestedDenoiser: samples", samples, 2)
        self.seed = seed_number(seed)
        self.times = log_snr_grid(prior.sde, steps)

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return self.samples * (8 * dim + 2 * n) + 2 * dim * dim

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        conditional = getattr(self.prior, "conditional", None)
        draws = self._draws(x, t) if conditional is None else conditional(x, t, self._normals(0))
        return weigh(self.observation, moments, draws)

    def _draws(self, x: Array, t: float) -> Array:
        """x_0 given x_t = x, (batch, samples, dim)."""
        xp, batch = self.backend.xp, x.shape[0]
        reverse, solver = ReverseSDE(self.sde, self.prior), ExponentialHeun()
        state = xp.broadcast_to(x[:, None, :], (batch, self.samples, self.dim))
        state = xp.reshape(state, (batch * self.samples, self.dim))
        later = [time for time in self.times if time < t]
        for k, (start, stop) in enumerate(itertools.pairwise([t, *later])):
            z = xp.broadcast_to(self._normals(k), (batch, self.samples, self.dim))
            state, _ = solver.step(reverse, state, start, stop, xp.reshape(z, state.shape))
        return xp.reshape(state, (batch, self.samples, self.dim))

    def _normals(self, k: int) -> Array:
        """(1, samples, dim), the same at every x_t."""
        return keyed_normal(self.backend, (1, self.samples, self.dim), self.seed, (STREAM, k))
