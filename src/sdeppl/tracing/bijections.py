"""From unconstrained numbers to the supports of latents."""

from typing import Any

from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    IndependentTransform,
    Normal,
    Transform,
    biject_to,
    constraints,
)

from .errors import ModelError

# of which torch has no bijection registered; torch 2.7 has no such constraint, but the components' own
MIXTURE = getattr(constraints, "MixtureSameFamilyConstraint", ())


def bijection(name: str, support: Any) -> Transform:
    """torch's own bijection, but for intervals, which are low + (high - low) Φ(z).

    A uniform latent then is exactly N(0, 1) in z, which the Gaussian part of the denoiser knows without
    training, where a logit would make it logistic. Raises: ModelError, naming the site, for none.
    """
    try:
        return _to(support)
    except NotImplementedError as error:
        raise ModelError(
            f"latent site '{name}': no bijection is known to its support {support}; write it as a function "
            "of latents with ordinary supports"
        ) from error


def _to(support: Any) -> Transform:
    if isinstance(support, MIXTURE):
        return _to(support.base_constraint)
    if isinstance(support, constraints.independent):
        return IndependentTransform(_to(support.base_constraint), support.reinterpreted_batch_ndims)
    if not isinstance(support, constraints.interval):
        return biject_to(support)
    low, high = support.lower_bound, support.upper_bound
    standard = Normal(0.0, 1.0, validate_args=False)  # whose check of values vmap cannot take
    return ComposeTransform([CumulativeDistributionTransform(standard), AffineTransform(low, high - low)])
