"""p(y given x_0 = x_t): wrong on purpose."""

from ..backend import Array
from ..denoisers import Moments
from .base import Guided, MeanLikelihood


class NaiveDenoiser(MeanLikelihood):
    """l(y given x_t) = p(y given x_0 = x_t): the noisy state is taken for the state.

    Assumes that x_t is x_0, which is wrong at every t > 0, grossly so where α is far from 1 or σ not small:
    for teaching, and as a baseline. Mean m + σ²/α ∂ ln p(y given x_0)/∂x_0 at x_t. No product with C.
    Raises: as `MeanLikelihood`; TypeError for a hard constraint.
    """

    name = "naive"
    needs = "density"

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return 2 * n * dim + 8 * (n + dim)

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        scale = self.sde.sigma(t) ** 2 / self.sde.alpha(t)
        mean = moments.mean + scale * self.observation.log_prob_gradient(x)
        return Guided(moments, mean, self.observation.log_prob(x))
