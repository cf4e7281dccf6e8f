"""A covariance as a few directions and a variance for each number, from two passes over draws."""

import math
from collections.abc import Iterator

import torch

from ..linalg import Spectral

DIRECTIONS = 128  # at most, where nobody says how many
MORE = 8  # in the sketch, beyond those that are kept
OWN_SHARE = 1e-3  # of a number's variance that is its own, at least
LEAST = 1e-6  # of a variance in units of `scale`
UNIT = 0.1  # of the root mean square deviation that the smallest is taken for in the sketch


class LowRank:
    """Cov x = D + F Fᵀ, D diagonal: a randomised range finder in the first pass over draws, the covariance
    along what it found in the second.

    Of the sample covariance S of x in units of `scale` the first pass has S Ω for a random Ω (dim, q), whose
    orthonormal basis Q holds the leading eigenvectors nearly; the second has S Q and Qᵀ S Q, of which F Fᵀ =
    S Q (Qᵀ S Q)⁻¹ Qᵀ S is made, and D = diag(S - F Fᵀ), which is never negative. A draw costs 4 dim q
    products, memory is 2 dim q numbers. Source: Halko, Martinsson & Tropp 2011, SIAM Review 53, section 5.5.

    centre, scale (dim,): near the mean and the deviations, such as those of a few draws.
    """

    def __init__(self, centre: torch.Tensor, scale: torch.Tensor, rank: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.centre, self.scale = centre, scale
        width = min(rank + MORE, len(centre))
        self.probe = torch.randn((len(centre), width), generator=generator, dtype=torch.float64)
        self.sketch = torch.zeros_like(self.probe)
        self.count, self.total = 0, torch.zeros_like(centre)
        self.rank = rank

    def first(self, z: torch.Tensor) -> None:
        """Rows (batch, dim) of the first pass."""
        x = (z - self.centre) / self.scale
        self.sketch += x.T @ (x @ self.probe)
        self.total += x.sum(dim=0)
        self.count += len(x)

    def between(self) -> None:
        """The basis, of the sketch less the mean's part."""
        mean = self.total / self.count
        self.sketch -= self.count * torch.outer(mean, mean @ self.probe)
        self.basis = torch.linalg.qr(self.sketch)[0]
        del self.sketch, self.probe
        q = self.basis.shape[1]
        self.products = torch.zeros((q, q), dtype=torch.float64)
        self.crossed = torch.zeros_like(self.basis)
        self.along, self.seen = torch.zeros(q, dtype=torch.float64), 0
        self.total, self.square = torch.zeros_like(self.centre), torch.zeros_like(self.centre)

    def second(self, z: torch.Tensor) -> None:
        """Rows of the second pass."""
        x = (z - self.centre) / self.scale
        y = x @ self.basis
        self.total += x.sum(dim=0)
        self.square += (x**2).sum(dim=0)
        self.products += y.T @ y
        self.crossed += x.T @ y
        self.along += y.sum(dim=0)
        self.seen += len(y)

    def of_ranks(self) -> Iterator[tuple[int, torch.Tensor, Spectral]]:
        """Ranks, each half of the one before, with √D and Cov(x/√D) = I + U diag(s) Uᵀ.

        D is at least a thousandth of each number's variance. Of n draws of dim numbers a direction's loadings
        hold chance of square γ = dim/n in units of √D: what is seen of square s has the variance
        1 + (s - γ)²/s along what is seen of it, and where s ≤ γ it is left out.
        """
        mean = self.along / self.seen
        inner = (self.products - self.seen * torch.outer(mean, mean)) / (self.seen - 1)
        crossed = self.crossed - self.seen * torch.outer(self.total / self.seen, mean)
        values, vectors = torch.linalg.eigh(inner)
        values, vectors = values.flip(0), vectors.flip(1)
        unit = (self.square / self.seen - (self.total / self.seen) ** 2) * self.seen / (self.seen - 1)
        unit = unit.clamp_min(LEAST)
        rank = min(self.rank, int((values > LEAST * values[0]).sum()))
        loadings = crossed @ vectors[:, :rank] / (values[:rank].sqrt() * (self.seen - 1))
        chance = len(unit) / self.seen
        while rank >= 1:
            own = self._own(unit, loadings[:, :rank])
            U, squares = _directions(loadings[:, :rank] / own.sqrt()[:, None], chance)
            F = own.sqrt()[:, None] * U * ((squares - chance) / squares.sqrt())
            own = self._own(unit, F)  # again, so that each number's variance is what it was
            U, squares = _directions(F / own.sqrt()[:, None], 0.0)
            one = torch.ones(1, dtype=torch.float64)
            yield U.shape[1], own.sqrt() * self.scale, Spectral(U, 1 + squares, one)
            rank //= 2

    def _own(self, variance: torch.Tensor, F: torch.Tensor) -> torch.Tensor:
        """D, what F leaves of the variance."""
        return torch.maximum(variance - (F**2).sum(dim=1), OWN_SHARE * variance)


def _directions(V: torch.Tensor, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """U and s with V Vᵀ = U diag(s) Uᵀ, of s above `least`, at least one."""
    squares, turned = torch.linalg.eigh(V.T @ V)
    kept = squares > max(least, 1e-12 * float(squares[-1]))
    kept[-1] = True
    squares = squares[kept]
    return (V @ turned[:, kept]) / squares.sqrt(), squares


def rank_of(wanted: int | None, draws: int, dim: int) -> int:
    """As many directions as wanted, or as many as draws and numbers bear. Raises: ValueError for more."""
    if wanted is None:
        return max(1, min(DIRECTIONS, draws // 4, dim // 4))
    if wanted >= min(dim, draws):
        raise ValueError(
            f"rank={wanted} needs fewer directions than the {dim} numbers of the field and the {draws} "
            "draws; take a smaller rank, or more draws"
        )
    return wanted


def sketch_scale(rows: torch.Tensor) -> torch.Tensor:
    """Deviations of each number in a few rows (batch, dim), none of them next to nothing."""
    deviations = rows.std(dim=0, correction=0)
    typical = math.sqrt(float((deviations**2).mean())) or 1.0
    return deviations.clamp_min(UNIT * typical)
