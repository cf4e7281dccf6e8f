"""How the covariance of a prior is estimated from draws, and held: by the structure of its layout."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..linalg import Diagonalisable, FieldShape, Grid, Spectral
from .low_rank import LowRank, rank_of, sketch_scale
from .spectrum import PowerSums, stationary

DENSE_LIMIT = 2_000  # numbers up to which all entries of a covariance are held
RANK_TOLERANCE = 4 * torch.finfo(torch.float64).eps  # times dim: what rounding leaves of zero
CONSTANT = 1e-12
CONSTANT_SHARE = 1e-3  # of a field's typical deviation that the smallest of a number is taken for
LEAST_DRAWS, LEAST_HELD_OUT, MOST_HELD_OUT = 10, 4, 2_000
SURE = 2.0  # standard errors by which one structure explains draws better than a smaller one
HELD_OUT_NUMBERS = 2**22  # in all draws held out of the fit of a field


class RankWarning(UserWarning):
    """The prior looks degenerate: some direction has no variance that can be told from rounding."""


def dense_moments(batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, Spectral, int]:
    """Location and scale (dim,), the covariance of what is standardised by them, by eigenvectors, and the
    number of draws; from batches (n, dim).

    Time grows with draws × dim² + dim³, memory with dim². Raises: ValueError for fewer than 2, or where
    nothing varies. Warns: RankWarning.
    """
    count, shift = 0, torch.zeros(())
    total = square = torch.zeros(())
    for batch in batches:
        if count == 0:
            shift = batch.mean(dim=0)
            total, square = (
                torch.zeros_like(shift),
                torch.zeros(2 * shift.shape, dtype=shift.dtype),
            )
        centred = batch - shift
        total = total + centred.sum(dim=0)
        square = square + centred.T @ centred
        count += batch.shape[0]
    if count < 2:
        raise ValueError(f"moments need at least 2 draws; got {count}")
    mean = total / count
    covariance = (square - count * torch.outer(mean, mean)) / (count - 1)
    return *_by_entries(shift + mean, covariance), count


def _by_entries(
    mean: torch.Tensor, covariance: torch.Tensor, quiet: bool = False
) -> tuple[torch.Tensor, torch.Tensor, Spectral]:
    """As `dense_moments`, from mean (dim,) and covariance (dim, dim) about it."""
    scale = covariance.diagonal().clamp_min(0).sqrt()
    # a latent that never varies stays at its value: what rounding leaves of it is no covariance
    varies = scale > CONSTANT * mean.abs()
    if not varies.any():
        raise ValueError("no latent varies from draw to draw; there is nothing to infer")
    scale = torch.where(varies, scale, torch.ones_like(scale))
    covariance = torch.where(varies & varies[:, None], covariance, 0.0)
    eigenvalues, basis = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    kept = eigenvalues > RANK_TOLERANCE * len(scale) * eigenvalues[-1]
    if int(kept.sum()) < int(varies.sum()) and not quiet:
        warnings.warn(
            f"along {int(varies.sum()) - int(kept.sum())} of {int(varies.sum())} directions the prior's "
            "variance is zero, or too small beside the largest to be told from rounding; the posterior "
            "takes it as zero. If it is not, narrow the widest prior",
            RankWarning,
            stacklevel=5,
        )
    return mean, scale, Spectral(basis[:, kept], eigenvalues[kept])


@dataclass(frozen=True)
class _Candidate:
    """z = location + scale · x, Cov x = covariance; words: what it is."""

    words: str
    location: torch.Tensor
    scale: torch.Tensor
    covariance: Diagonalisable

    def fit(self, z: torch.Tensor) -> torch.Tensor:
        """ln of its normal density at rows z (batch, dim) by the number of numbers, (batch,)."""
        densities: Any = self.covariance.log_normal((z - self.location) / self.scale)
        return (densities - self.scale.log().sum()) / z.shape[1]


def estimate_field(
    batches: Callable[[int], Iterable[torch.Tensor]], field: FieldShape, grid: Grid, draws: int
) -> tuple[torch.Tensor, torch.Tensor, Diagonalisable, str]:
    """Location and scale (dim,) of a field, the covariance of what is standardised by them, and in words
    how it is held and why.

    batches: the number of a pass ↦ batches (n, dim), `draws` draws in all, in two passes. What the grid's
    covariance= admits (`Grid`) is fitted, 'stationary' with one mean and deviation for each channel and with
    those of each number, and taken is what gives draws held out of it the highest normal density. Time grows
    with draws × dim × rank of 'low-rank' and draws × dim × ln dim, memory with dim × rank; of 'dense' as of
    `dense_moments`, up to 2,000 numbers.

    Raises: ValueError for a structure that cannot be made of so many numbers or draws, and where nothing
    varies. Warns: RankWarning, of 'dense'.
    """
    if grid.covariance == "dense":
        _require_few(field)
        location, scale, covariance, _ = dense_moments(batches(0))
        return location, scale, covariance, "dense"
    found = _FieldFit(field, grid, draws)
    for z in batches(0):
        found.first(z)
    found.between()
    if found.needs_more:
        for z in batches(1):
            found.second(z)
    best = found.best()
    return best.location, best.scale, best.covariance, best.words


def _require_few(field: FieldShape) -> None:
    if field.size > DENSE_LIMIT:
        raise ValueError(
            f"Grid(covariance='dense') of {field.size} numbers ({field}): the covariance would have "
            f"{field.size}² entries, and at most {DENSE_LIMIT} numbers are held so; take 'auto', "
            "'stationary' or 'low-rank'"
        )


class _FieldFit:
    """What two passes over draws of a field gather, and the candidates that come of it."""

    def __init__(self, field: FieldShape, grid: Grid, draws: int) -> None:
        if draws < LEAST_DRAWS:
            raise ValueError(f"the moments of a field need at least {LEAST_DRAWS} draws; got {draws}")
        self.field, self.grid, self.draws = field, grid, draws
        self.is_stationary = grid.covariance != "low-rank" and not (
            grid.boundary == "open" and not all(field.periodic)
        )
        if grid.covariance == "stationary" and not self.is_stationary:
            raise ValueError(
                "covariance='stationary' needs ends that meet or reflect: periodic=True, or "
                "boundary='reflecting' in the place of 'open'"
            )
        self.is_low_rank = grid.covariance != "stationary"
        self.is_dense = grid.covariance == "auto" and field.size <= DENSE_LIMIT and draws > 2 * field.size
        held = max(LEAST_HELD_OUT, min(draws // 5, MOST_HELD_OUT, HELD_OUT_NUMBERS // field.size))
        self.stride, self.position = max(2, draws // held), 0
        self.held: list[torch.Tensor] = []
        self.started = False

    def _kept(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of the fit, and every so-many-th, which is held out of it in either pass."""
        places = torch.arange(self.position, self.position + len(z))
        self.position += len(z)
        held = places % self.stride == self.stride - 1
        return z[~held], z[held]

    def _start(self, z: torch.Tensor) -> None:
        """Near the mean of each channel and each number, from the first batch."""
        c = self.field.channels
        self.level = z.reshape(len(z), c, -1).mean(dim=(0, 2)).repeat_interleave(self.field.points)
        self.centre = z.mean(dim=0)
        self.count = 0
        self.total, self.square = torch.zeros_like(self.centre), torch.zeros_like(self.centre)
        self.alike, self.apart = PowerSums(self.field), PowerSums(self.field)
        if self.is_low_rank:
            rank = rank_of(self.grid.rank, self.draws, self.field.size)
            self.low_rank = LowRank(self.centre, sketch_scale(z), rank)
        self.started = True

    def first(self, z: torch.Tensor) -> None:
        """Rows (batch, dim) of the first pass."""
        z, held = self._kept(z.double())
        self.held.append(held)
        if not len(z):
            return
        if not self.started:
            self._start(z)
        self._moments(z)
        if self.is_stationary:
            self.alike.add(z - self.level)
        if self.is_low_rank:
            self.low_rank.first(z)

    def _moments(self, z: torch.Tensor) -> None:
        x = z - self.centre
        self.count += len(x)
        self.total += x.sum(dim=0)
        self.square += (x**2).sum(dim=0)

    def between(self) -> None:
        """Whether a second pass is worth it, and with which units."""
        if not self.started or self.count < 2:
            raise ValueError(f"moments need at least 2 draws; got {self.count}")
        if not bool(torch.isfinite(self.square).all()):
            raise ValueError("draws of the prior are NaN or infinite")
        self.position = 0
        self.rows = torch.cat(self.held)
        location, scale = self._by_number()
        self.units = location, scale
        self.candidates: list[_Candidate] = []
        self.differs = False
        if self.is_stationary:
            alike = self._alike()
            self.candidates.append(alike)
            apart = _Candidate("", location, scale, alike.covariance)
            self.differs = bool(apart.fit(self.rows).mean() > alike.fit(self.rows).mean())
        if self.is_low_rank:
            self.low_rank.between()
        self.dense: list[torch.Tensor] = []

    @property
    def needs_more(self) -> bool:
        """Whether the second pass has anything to add."""
        return self.is_low_rank or self.differs or self.is_dense

    def second(self, z: torch.Tensor) -> None:
        """Rows of the second pass."""
        z, _ = self._kept(z.double())
        self._moments(z)
        if self.differs:
            self.apart.add((z - self.units[0]) / self.units[1])
        if self.is_low_rank:
            self.low_rank.second(z)
        if self.is_dense:
            self._products(z)

    def _products(self, z: torch.Tensor) -> None:
        if not self.dense:
            self.dense = [torch.zeros(2 * self.centre.shape, dtype=torch.float64), 0 * self.centre]
            self.number = 0
        x = z - self.centre
        self.dense[0] += x.T @ x
        self.dense[1] += x.sum(dim=0)
        self.number += len(x)

    def best(self) -> _Candidate:
        """Of all, by the held-out draws; in its words, by how much."""
        if self.differs:
            self.candidates.append(self._apart())
        if self.is_low_rank:
            self.candidates.append(self._low_rank())
        if self.dense:
            mean = self.dense[1] / self.number
            products = (self.dense[0] - self.number * torch.outer(mean, mean)) / (self.number - 1)
            location, scale, held = _by_entries(self.centre + mean, products, quiet=True)
            if held.U.shape[0] == held.U.shape[1]:  # else draws held out of it have no density
                self.candidates.append(_Candidate("dense", location, scale, held))
        fits = [float(one.fit(self.rows).mean()) for one in self.candidates]
        best = max(range(len(fits)), key=lambda k: fits[k])
        chosen = self.candidates[best]
        others = [k for k in range(len(fits)) if _kind(self.candidates[k]) != _kind(chosen)]
        if not others:
            return chosen
        second = max(others, key=lambda k: fits[k])
        lead = f"{fits[best] - fits[second]:.2g} nats a number better on held-out draws than "
        return replace(chosen, words=f"{chosen.words}, {lead}{_kind(self.candidates[second])}")

    def _low_rank(self) -> _Candidate:
        """Of the rank that was asked for, or the least that explains held-out draws as well as any."""
        location, _ = self._by_number()
        fits, found = list[torch.Tensor](), list[_Candidate]()
        for rank, scale, covariance in self.low_rank.of_ranks():
            found.append(_Candidate(f"low rank {rank}", location, scale, covariance))
            if self.grid.rank is not None:
                return found[0]
            fits.append(found[-1].fit(self.rows))
        best = max(fits, key=lambda fit: float(fit.mean()))
        behind = [best - fit for fit in fits]
        near = [float(b.mean()) <= SURE * float(b.std()) / len(b) ** 0.5 for b in behind]
        return found[max(k for k in range(len(near)) if near[k])]

    def _by_number(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of each number, the latter never next to nothing."""
        mean = self.total / self.count
        variance = (self.square / self.count - mean**2).clamp_min(0) * self.count / (self.count - 1)
        deviation = variance.sqrt()
        typical = (variance.mean()).sqrt()
        if not float(typical) > CONSTANT * float((self.centre + mean).abs().mean()):
            raise ValueError("no number of the field varies from draw to draw; there is nothing to infer")
        return self.centre + mean, deviation.clamp_min(CONSTANT_SHARE * typical)

    def _alike(self) -> _Candidate:
        """One mean and one deviation for each channel."""
        c, points = self.field.channels, self.field.points
        location, _ = self._by_number()
        level = location.reshape(c, points).mean(dim=1).repeat_interleave(points)
        power = self.alike.power((0, 1), False)
        scale = torch.diagonal(power[0]).mean(dim=0).sqrt()
        if not bool((scale > 0).all()):
            raise ValueError("a channel of the field does not vary from draw to draw; leave it out")
        covariance, words = stationary(self.alike, scale, False)
        each = scale.repeat_interleave(points)
        return _Candidate(f"stationary ({words})", level, each, covariance)

    def _apart(self) -> _Candidate:
        """A mean and a deviation for each number."""
        unit = torch.ones(self.field.channels, dtype=torch.float64)
        covariance, words = stationary(self.apart, unit, True)
        location, _ = self._by_number()
        what = "stationary but for each number's own mean and scale"
        return _Candidate(f"{what} ({words})", location, self.units[1], covariance)


def _kind(candidate: _Candidate) -> str:
    """The structure, without how it was smoothed or of which rank it is."""
    return candidate.words.split(" (")[0].split(", ")[0].rstrip("0123456789 ")
