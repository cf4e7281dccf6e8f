"""What an observed site says about the latents."""

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .latents import LatentSpace


@dataclass(frozen=True)
class ObservedSite(ABC):
    """One observed site, p(y | z), z (dim,) the unconstrained latents; float64 tensors.

    y (n,): its data, NaN where not observed. differentiable: whether p(y | z) has a gradient in z that
    says something; vectorised: whether its functions of z are fit for `torch.func.vmap`.
    """

    name: str
    y: torch.Tensor
    differentiable: bool
    vectorised: bool

    @property
    def seen(self) -> torch.Tensor:
        """Indices of what was observed in y."""
        return torch.nonzero(~torch.isnan(self.y))[:, 0]


@dataclass(frozen=True)
class GaussianSite(ObservedSite):
    """y = A(z) + N(0, R).

    moments: z ↦ A(z) (n,) and R(z), variances (n,) or covariance (n, n). R: the same where it depends
    on no latent, else None. H (n, dim) and offset (n,): A(z) = H z + offset where A is affine, else None.
    """

    moments: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    R: torch.Tensor | None
    H: torch.Tensor | None
    offset: torch.Tensor | None

    def mean(self, z: torch.Tensor) -> torch.Tensor:
        """A(z), (n,)."""
        return self.moments(z)[0]

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """ln p(y | z), a number."""
        return self.log_density(self.moments(z))

    def log_density(self, moments: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """ln N(y; moments), a number."""
        mean, R = moments
        seen = self.seen
        residual, R = (self.y - mean)[seen], R[seen]
        if R.dim() == 1:
            return torch.distributions.Normal(0.0, R.sqrt(), validate_args=False).log_prob(residual).sum()
        normal = torch.distributions.MultivariateNormal(
            torch.zeros_like(residual), R[:, seen], validate_args=False
        )
        return normal.log_prob(residual)


@dataclass(frozen=True)
class FamilySite(ObservedSite):
    """Independent y_i ~ p(y_i | η_i), with one predictor η_i(z) for each.

    η_i is the only parameter that depends on the latents, in unconstrained numbers: the logarithm of a
    rate or a scale, a logit, a location as it is. predictor: z ↦ η (n,); log_density: η (..., n) and
    y (n,) ↦ ln p(y_i | η_i) (..., n). H (n, dim) and offset (n,): η(z) = H z + offset where η is
    affine, else None. What was not observed is left out of n.
    """

    predictor: Callable[[torch.Tensor], torch.Tensor]
    log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    H: torch.Tensor | None
    offset: torch.Tensor | None

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """ln p(y | z), a number."""
        return self.log_density(self.predictor(z), self.y).sum()


@dataclass(frozen=True)
class DensitySite(ObservedSite):
    """Any p(y | z) that is known by its density alone; log_prob: z ↦ ln p(y | z), a number.

    space: what z are, for messages.
    """

    log_prob: Callable[[torch.Tensor], torch.Tensor]
    space: LatentSpace | None = None


@dataclass(frozen=True)
class ConstraintSite(ObservedSite):
    """y = H z + offset without noise: a Delta of an affine function. H (n, dim), offset (n,)."""

    H: torch.Tensor
    offset: torch.Tensor
