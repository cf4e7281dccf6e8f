"""Several observations of one x_0, independent given it."""

import copy
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import require_same
from ..backend.arguments import kind
from .linear_constraint import LinearConstraint
from .linear_gaussian import LinearGaussian
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
        H, y = (xp.concat([getattr(part, name) for part in noisy]) for name in ("H", "y"))
        return LinearGaussian(H, y, _noise(xp, [(part.R, part.R.ndim == 1) for part in noisy]))
    if len(exact) == len(flat):
        return LinearConstraint(*(xp.concat([getattr(part, name) for part in exact]) for name in ("H", "y")))
    return together


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
            xp = self.backend.xp
            LinearConstraint(*(xp.concat([getattr(c, name) for c in constraints]) for name in ("H", "y")))
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

    def with_data(self, y: Any) -> "JointObservation":
        return self._of(
            [part.with_data(y[..., rows]) for part, rows in zip(self.parts, self.rows, strict=True)]
        )

    def of_sets(self, index: Any) -> "JointObservation":
        return self._of([part.of_sets(index) for part in self.parts])

    def _of(self, parts: list[Observation]) -> "JointObservation":
        other = copy.copy(self)
        other.parts = tuple(parts)
        if self.is_gaussian:
            other.y = self.backend.xp.concat([part.y for part in parts], axis=-1)
        return other

    def log_prob(self, x0: Any) -> Any:
        total: Any = 0.0
        for part in self.parts:
            total = total + part.log_prob(x0)
        return total

    def undefined_share(self, x0: Any) -> float:
        return max(part.undefined_share(x0) for part in self.parts)

    def linearise(self, x0: Any) -> Linearisation:
        xp = self.backend.xp
        found = [part.linearise(x0) for part in self.parts]
        predicted = xp.concat([linear.predicted for linear in found], axis=-1)
        H = _stack(xp, [linear.H for linear in found], (predicted.shape[0],), -2)
        if all(linear.R is None for linear in found):
            return Linearisation(predicted, H)
        blocks = [xp.zeros_like(linear.predicted) if linear.R is None else linear.R for linear in found]
        return Linearisation(predicted, H, _noise(xp, [(R, R.ndim == 2) for R in blocks]))

    def bend(self, x0: Any, of_H: Any | None, of_R: Any = None) -> Any:
        """The sum of the parts'; those with one H for all rows have none of it."""
        total = 0 * x0
        for part, rows in zip(self.parts, self.rows, strict=True):
            linear = part.linearise(x0[:1, :])
            if linear.H.ndim == 2 and linear.R is None:
                continue
            noise = None if linear.R is None else _own_noise(of_R, rows, linear.R.ndim == 2)
            total = total + part.bend(x0, None if of_H is None else of_H[:, rows, :], noise)
        return total

    def site_approximation(self, linear: Linearisation, variance: Any) -> SiteApproximation:
        xp, log_scale = self.backend.xp, 0.0
        found = []
        for part, rows in zip(self.parts, self.rows, strict=True):
            found.append(part.site_approximation(_part(linear, rows), variance[..., rows]))
            log_scale = log_scale + found[-1].log_scale
        y = _stack(xp, [one.y for one in found], (linear.predicted.shape[0],), -1)
        noise = [(one.R, one.diagonal) for one in found]
        return SiteApproximation(y, _noise(xp, noise), log_scale, all(diagonal for _, diagonal in noise))


def require_one_backend(parts: Sequence[Observation]) -> None:
    """Check library and device. Raises: BackendMismatch."""
    first = parts[0].backend
    for part in parts[1:]:
        probe = part.backend.xp.zeros((0,), dtype=part.backend.dtype, device=part.backend.device)
        require_same(first, **{type(part).__name__: probe})


def _part(linear: Linearisation, rows: slice) -> Linearisation:
    """The rows of one part."""
    R = linear.R
    if R is not None:
        R = R[:, rows, rows] if R.ndim == 3 else R[:, rows]
    return Linearisation(linear.predicted[:, rows], linear.H[..., rows, :], R)


def _own_noise(of_R: Any, rows: slice, diagonal: bool) -> Any:
    """The entries that belong to one part's R."""
    if of_R.ndim == 2:
        return of_R[:, rows]
    own = of_R[:, rows, rows]
    return array_namespace(own).linalg.diagonal(own) if diagonal else own


def _stack(xp: Any, blocks: list[Any], batch: tuple[int, ...], axis: int) -> Any:
    """Blocks one after the other along axis; where one has rows of its own, the others are repeated."""
    most = max(block.ndim for block in blocks)
    blocks = [
        block if block.ndim == most else xp.broadcast_to(block, (*batch, *block.shape)) for block in blocks
    ]
    return xp.concat(blocks, axis=axis)


def _noise(xp: Any, blocks: list[tuple[Any, bool]]) -> Any:
    """Variances (..., n) where all blocks are diagonal, else covariances (..., n, n), from (R, diagonal)."""
    batched = [R.ndim > (1 if diagonal else 2) for R, diagonal in blocks]
    batch = next((R.shape[:1] for (R, _), own in zip(blocks, batched, strict=True) if own), ())
    if all(diagonal for _, diagonal in blocks):
        return _stack(xp, [R for R, _ in blocks], batch, -1)
    count = sum(R.shape[-1] for R, _ in blocks)
    rows, before = [], 0
    for R, diagonal in blocks:
        n = R.shape[-1]
        if diagonal:
            R = R[..., None, :] * xp.eye(n, dtype=R.dtype, device=device(R))
        R = xp.broadcast_to(R, (*batch, n, n))
        left = xp.zeros((*batch, n, before), dtype=R.dtype, device=device(R))
        right = xp.zeros((*batch, n, count - before - n), dtype=R.dtype, device=device(R))
        rows.append(xp.concat([left, R, right], axis=-1))
        before += n
    return xp.concat(rows, axis=-2)
