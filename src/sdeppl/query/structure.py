"""How the covariance of a prior is estimated from draws, and held: by the structure of its layout."""

import warnings
from collections.abc import Callable, Iterable

import torch

from ..linalg import Diagonalisable, FieldShape, Grid, Spectral

DENSE_LIMIT = 2_000  # numbers up to which all entries of a covariance are held
RANK_TOLERANCE = 4 * torch.finfo(torch.float64).eps  # times dim: what rounding leaves of zero
CONSTANT = 1e-12


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
    scale = covariance.diagonal().clamp_min(0).sqrt()
    # a latent that never varies stays at its value: what rounding leaves of it is no covariance
    varies = scale > CONSTANT * (shift + mean).abs()
    if not varies.any():
        raise ValueError("no latent varies from draw to draw; there is nothing to infer")
    scale = torch.where(varies, scale, torch.ones_like(scale))
    covariance = torch.where(varies & varies[:, None], covariance, 0.0)
    eigenvalues, basis = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    kept = eigenvalues > RANK_TOLERANCE * len(scale) * eigenvalues[-1]
    if int(kept.sum()) < int(varies.sum()):
        warnings.warn(
            f"along {int(varies.sum()) - int(kept.sum())} of {int(varies.sum())} directions the prior's "
            "variance is zero, or too small beside the largest to be told from rounding; the posterior "
            "takes it as zero. If it is not, narrow the widest prior",
            RankWarning,
            stacklevel=4,
        )
    return shift + mean, scale, Spectral(basis[:, kept], eigenvalues[kept]), count


def estimate_field(
    batches: Callable[[int], Iterable[torch.Tensor]], field: FieldShape, grid: Grid, draws: int
) -> tuple[torch.Tensor, torch.Tensor, Diagonalisable, str]:
    """Location and scale (dim,) of a field, the covariance of what is standardised by them, and in words
    how it is held and why.

    batches: the number of a pass ↦ batches (n, dim), `draws` fresh draws in all. Raises: ValueError for a
    structure that cannot be made of so many numbers.
    """
    del draws
    if field.size > DENSE_LIMIT:
        raise ValueError(
            f"the covariance of {field.size} numbers ({field}) is not held with all entries, of which "
            f"{DENSE_LIMIT} numbers are the most; it has covariance={grid.covariance!r}"
        )
    location, scale, covariance, _ = dense_moments(batches(0))
    return location, scale, covariance, "dense"
