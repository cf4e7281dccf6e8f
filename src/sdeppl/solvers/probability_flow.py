"""The probability-flow ODE together with its divergence."""

from array_api_compat import array_namespace

from ..backend import Array
from ..sde import SDE, ReverseSDE
from .divergence import divergence


class AugmentedFlow(SDE):
    """An ODE dz = F du for x in coordinates z, with dℓ = ∇·F du: states (z, ℓ), (..., dim + n).

    Along it ln p_s(x_s) - ln p_t(x_t) = ∫ ∇·F du + dim (ln scale(t) - ln scale(s)). ℓ has one column
    for the exact divergence, or one for each probe of Hutchinson's estimate. Coordinates are x and t
    themselves unless a subclass says otherwise. `evaluations`: of the score, that making it took.
    """

    noise = "additive"
    evaluations = 0

    def level(self, t: float) -> float:
        """u at t."""
        return t

    def scale(self, t: float) -> float:
        """(|∂x/∂z|)^{1/dim} at t."""
        return 1.0

    def enter(self, x: Array, t: float) -> Array:
        """z of x at t."""
        return x

    def leave(self, z: Array, t: float) -> Array:
        """x of z at t."""
        return z

    def diffusion(self, x: Array, t: float) -> float:
        return 0.0

    def deterministic(self, s: float, t: float) -> bool:
        return True


class ProbabilityFlow(AugmentedFlow):
    """dx = F(x, t) dt with F = f - ½ (∇·G + G s), which carries the marginals of a forward SDE.

    reverse: gives forward SDE and score; its c is of no account. probes (n, ..., dim), or None for
    the exact divergence, both from the Jacobian of F. Source: Song et al. 2021 (Score-based
    generative modeling through SDEs), eq. 37 and 39; Chen et al. 2018 (Neural ODEs), eq. 8.
    """

    def __init__(self, reverse: ReverseSDE, dim: int, probes: Array | None = None) -> None:
        self.flow = ReverseSDE(reverse.forward, reverse.denoiser, 0.0)
        self.dim = dim
        self.probes = probes

    def drift(self, x: Array, t: float) -> Array:
        place = x[..., : self.dim]
        rate = divergence(lambda y: self.flow.drift(y, t), place, self.probes)
        return array_namespace(x).concat([self.flow.drift(place, t), rate], axis=-1)
