"""Several observations of one x_0, independent given it."""

import copy
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from ..backend import Array, Namespace, array_namespace, require_same
from ..backend.arguments import kind
from ..linalg import Diagonal, LinearOperator, block_diagonal, stacked
from .linear_gaussian import AffineObservation, LinearConstraint, LinearGaussian
from .observation import Linearisation, Observation, SiteApproximation


def joint_observation(parts: Sequence[Observation]) -> Observation:
    """One observation that stands for all: ln p(y_1, y_2, … given x_0) = Σ ln p(y_k given x_0).

    A lone part is returned as it is, linear Gaussian ones become one `LinearGaussian`, hard constraints one
    `LinearConstraint`, and what else there is a `JointObservation`, rows in the order of the parts.

    Raises: ValueError for no part, parts of different dim or dtype, and constraints that depend on one
    another; BackendMismatch.
    """
    kind("parts", parts, Sequence, "a list of observations")
    if not parts or not all(isinstance(part, Observation) for part in parts):
        raise ValueError(f"parts must be observations, at least one part; got {parts!r:.80}")
    flat = [one for part in parts for one in (part.parts if isinstance(part, JointObservation) else (part,))]
    if len(flat) == 1:
        return flat[0]
    together = JointObservation(flat)
    xp = together.backend.xp
    noisy = [part for part in flat if isinstance(part, LinearGaussian)]
    exact = [part for part in flat if isinstance(part, LinearConstraint)]
    if len(noisy) == len(flat):
        return LinearGaussian(*_together(xp, noisy), block_diagonal([part.noise for part in noisy]))
    return LinearConstraint(*_together(xp, exact)) if len(exact) == len(flat) else together


class JointObservation(Observation):
    """p(y_1, y_2, … given x_0) = Π_k p(y_k given x_0) for parts of any kind; see `joint_observation`.

    Predictors, data and noise are put one after the other; the noise is block diagonal.
    Raises: as `joint_observation`.
    """

    def __init__(self, parts: Sequence[Observation]) -> None:
        if not parts:
            raise ValueError("a joint observation needs at least one part")
        self.parts = tuple(parts)
        first = self.parts[0]
        self.backend, self.dim = first.backend, first.dim
        for part in self.parts:
            if part.dim != self.dim or part.backend.dtype != self.backend.dtype:
                raise ValueError(
                    f"the parts of a joint observation must take one x_0; got {type(first).__name__} of "
                    f"{self.dim} numbers in {self.backend.dtype} and {type(part).__name__} of {part.dim} in "
                    f"{part.backend.dtype}"
                )
        require_one_backend(self.parts)
        constraints = [part for part in self.parts if isinstance(part, LinearConstraint)]
        if len(constraints) > 1:  # which checks that they do not depend on one another
            LinearConstraint(*_together(self.backend.xp, constraints))
        self.is_linear = all(part.is_linear for part in self.parts)
        self.is_gaussian = all(part.is_gaussian for part in self.parts)
        self.has_jacobian = all(part.has_jacobian for part in self.parts)
        self.hard = any(part.hard for part in self.parts)
        if self.is_gaussian:  # of others y need not be in the units of the predictor
            self.y = self.backend.xp.concat([part.y for part in self.parts])
        ends = accumulate((part.count for part in self.parts), initial=0)
        self.rows = tuple(slice(*pair) for pair in pairwise(ends))

    @property
    def count(self) -> int:
        """Number of observed values."""
        return sum(part.count for part in self.parts)

    @property
    def columns(self) -> int:
        """Of all parts together."""
        return sum(part.columns for part in self.parts)

    @property
    def sets(self) -> int | None:
        """Of the parts."""
        return self.parts[0].sets

    def with_data(self, y: Array) -> "JointObservation":
        return self._of(
            [part.with_data(y[..., rows]) for part, rows in zip(self.parts, self.rows, strict=True)]
        )

    def of_sets(self, index: Array) -> "JointObservation":
        return self._of([part.of_sets(index) for part in self.parts])

    def _of(self, parts: list[Observation]) -> "JointObservation":
        other = copy.copy(self)
        other.parts = tuple(parts)
        if self.is_gaussian:
            other.y = self.backend.xp.concat([part.y for part in parts], axis=-1)
        return other

    def log_prob(self, x0: Array) -> Array:
        total: Any = 0.0
        for part in self.parts:
            total = total + part.log_prob(x0)
        return total

    def undefined_share(self, x0: Array) -> float:
        return max(part.undefined_share(x0) for part in self.parts)

    def log_prob_gradient(self, x0: Array) -> Array:
        gradients = [part.log_prob_gradient(x0) for part in self.parts if part.count]
        return sum(gradients[1:], start=gradients[0])

    def linearise(self, x0: Array) -> Linearisation:
        found = [part.linearise(x0) for part in self.parts]
        predicted = self.backend.xp.concat([linear.predicted for linear in found], axis=-1)
        H = stacked([linear.jacobian for linear in found])
        if all(linear.noise is None for linear in found):
            return Linearisation(predicted, H)
        nothing = [Diagonal(0 * linear.predicted) for linear in found]
        noise = [linear.noise or zero for linear, zero in zip(found, nothing, strict=True)]
        return Linearisation(predicted, H, block_diagonal(noise))

    def bend(self, x0: Array, of_H: Array | None, of_R: Array | None = None) -> Array:
        """The sum of the parts'; those with one H for all rows have none of it."""
        total = 0 * x0
        for part, rows in zip(self.parts, self.rows, strict=True):
            linear = part.linearise(x0[:1, :])
            if linear.jacobian.shared and linear.noise is None:
                continue
            noise = None if linear.noise is None else _own_noise(of_R, rows, linear.noise.is_diagonal)
            total = total + part.bend(x0, None if of_H is None else of_H[:, rows, :], noise)
        return total

    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        xp, found = self.backend.xp, []
        log_scale: Array | float = 0.0
        for part, rows in zip(self.parts, self.rows, strict=True):
            found.append(part.site_approximation(_part(linear, rows), variance[..., rows]))
            log_scale = log_scale + found[-1].log_scale
        batch = linear.predicted.shape[0]
        several = any(site.y.ndim == 2 for site in found)
        y = [
            site.y if site.y.ndim == 2 or not several else xp.broadcast_to(site.y, (batch, *site.y.shape))
            for site in found
        ]
        return SiteApproximation(
            xp.concat(y, axis=-1), block_diagonal([site.noise for site in found]), log_scale
        )


def require_one_backend(parts: Sequence[Observation]) -> None:
    """Check library and device. Raises: BackendMismatch."""
    first = parts[0].backend
    for part in parts[1:]:
        probe = part.backend.xp.zeros((0,), dtype=part.backend.dtype, device=part.backend.device)
        require_same(first, **{type(part).__name__: probe})


def _together(xp: Namespace, parts: Sequence[AffineObservation]) -> tuple[LinearOperator, Array]:
    """H and y of all."""
    return stacked([part.jacobian for part in parts]), xp.concat([part.y for part in parts])


def _part(linear: Linearisation, rows: slice) -> Linearisation:
    """The rows of one part."""
    noise = None if linear.noise is None else linear.noise.block(rows)
    return Linearisation(linear.predicted[:, rows], linear.jacobian.rows(rows), noise)


def _own_noise(of_R: Array | None, rows: slice, diagonal: bool) -> Array:
    """The entries that belong to one part's R."""
    assert of_R is not None
    if of_R.ndim == 2:
        return of_R[:, rows]
    own = of_R[:, rows, rows]
    return array_namespace(own).linalg.diagonal(own) if diagonal else own
