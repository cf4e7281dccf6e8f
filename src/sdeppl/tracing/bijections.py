"""From unconstrained numbers to the supports of latents."""

from typing import Any

import torch
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
from .supports import Between, Image


class BetweenTransform(Transform):
    """Unconstrained numbers to low ≤ x ≤ high, each by its own kind of bounds.

    low + (high - low) Φ(z) between two, low + e^z above one, high - e^z below one, z where there is none.
    """

    domain = constraints.real
    bijective = True

    def __init__(self, low: torch.Tensor, high: torch.Tensor) -> None:
        super().__init__()
        self.codomain, self.ends = Between(low, high), (low, high)
        below, above = torch.isfinite(low), torch.isfinite(high)
        self.kinds = (below & above, below & ~above, ~below & above)
        self.low, self.high = torch.where(below, low, 0.0), torch.where(above, high, 1.0)
        self.normal = Normal(0.0, 1.0, validate_args=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BetweenTransform) and all(
            torch.equal(*pair) for pair in zip(self.ends, other.ends, strict=True)
        )

    __hash__ = Transform.__hash__

    def _chosen(self, *values: torch.Tensor) -> torch.Tensor:
        found = values[-1]
        for kind, value in zip(self.kinds, values, strict=False):
            found = torch.where(kind, value, found)
        return found

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.low + (self.high - self.low) * self.normal.cdf(x)
        return self._chosen(inside, self.low + torch.exp(x), self.high - torch.exp(x), x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        one = torch.ones_like(y)  # in place of what the other kinds would make NaN of
        share = self._chosen((y - self.low) / (self.high - self.low), 0.5 * one, 0.5 * one, 0.5 * one)
        above = self._chosen(one, y - self.low, one, one)
        below = self._chosen(one, one, self.high - y, one)
        return self._chosen(self.normal.icdf(share), torch.log(above), torch.log(below), y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """ln |dy/dx|, number by number."""
        inside = torch.log(self.high - self.low) + self.normal.log_prob(x)
        return self._chosen(inside, x, x, torch.zeros_like(x))


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
    if isinstance(support, constraints.independent):
        return IndependentTransform(_to(support.base_constraint), support.reinterpreted_batch_ndims)
    if isinstance(support, Between):
        return BetweenTransform(support.lower_bound, support.upper_bound)
    if isinstance(support, Image):
        return ComposeTransform([_to(support.base), support.part])
    if not isinstance(support, constraints.interval):
        return biject_to(support)
    low, high = support.lower_bound, support.upper_bound
    standard = Normal(0.0, 1.0, validate_args=False)  # whose check of values vmap cannot take
    return ComposeTransform([CumulativeDistributionTransform(standard), AffineTransform(low, high - low)])
