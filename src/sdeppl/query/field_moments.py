"""What held-out draws of a field say of its mean and covariance, however many numbers it has."""

import math
from typing import Any

import torch

from ..linalg import Diagonalisable, FieldShape, LinearOperator, PathShape, Spectral, Stationary
from ..linalg.grid import spectral
from .spectrum import bands, wavenumbers

BLOCKS = 8  # along each axis of a grid
SURE = 4.0  # standard errors
LEADING = 4, 32, 512  # wavenumbers of most variance


def whitened_in_place(covariance: LinearOperator, x: torch.Tensor) -> torch.Tensor:
    """Rows x (draws, dim) of covariance C as rows of covariance I, as near their own numbers as can be.

    C^-½ x with the symmetric root, which on a grid mixes neighbours alone; of a structure without one, as
    its own `whiten` has them.
    """
    held: Any = covariance
    if isinstance(covariance, Diagonalisable):
        held = covariance.map(lambda values: values**-0.5)
        found: torch.Tensor = held.matvec(x)
        return found
    found = held.whiten(x)
    return found


def field_moments(x: torch.Tensor, covariance: LinearOperator, field: FieldShape) -> tuple[float, float]:
    """Divergence of N(0, C) from the Gaussian of what rows x (draws, dim) are drawn from, at least, in nats,
    and its standard error where there is none.

    With w = C^-½ x of mean m and covariance S it is |m|²/2 + |S - I|²/4 to second order. Of |S - I|² parts
    are taken that few draws tell: the power in bands of wavenumbers, in blocks and in lines of the grid, the
    products of neighbouring lines, and all of it, from the products of each two draws; each from draws
    without their products with themselves, so that its mean is 0 where S = I. What is clearest counts: above
    4 standard errors in 1 of 600 right fits. What is spread over all entries is seen from 2 dim/draws nats
    on. Time and memory grow with draws × dim and draws².
    """
    w = whitened_in_place(covariance, x)
    mean, mean_noise = _of_mean(w)
    found = [_of_pairs(w, 2 * mean), _of_groups(w**2 - 1, _blocks(field)), *_of_lines(w, field)]
    if isinstance(covariance, Stationary):
        held: Any = covariance
        lengths = bands(wavenumbers(field))
        channel = torch.arange(field.channels).repeat_interleave(field.points)
        number = lengths.repeat(field.channels) + channel * (int(lengths.max()) + 1)
        found.append(_of_groups(held.whiten(x) ** 2 - 1, number))
    spread, spread_noise = max(found, key=lambda pair: pair[0] - SURE * pair[1])
    return mean + spread, math.hypot(mean_noise, spread_noise)


def path_moments(x: torch.Tensor, covariance: LinearOperator, path: PathShape) -> tuple[float, float]:
    """The same of paths: parts of |S - I|² by stretches of time, by the numbers of a state, and all of it."""
    w = whitened_in_place(covariance, x)
    mean, mean_noise = _of_mean(w)
    states = torch.arange(path.states).repeat(path.length)
    powers = w**2 - 1
    found = [_of_pairs(w, 2 * mean), _of_groups(powers, _blocks(path)), _of_groups(powers, states)]
    spread, spread_noise = max(found, key=lambda pair: pair[0] - SURE * pair[1])
    return mean + spread, math.hypot(mean_noise, spread_noise)


def projections(
    w: torch.Tensor, x: torch.Tensor, part: LinearOperator, shape: FieldShape | PathShape
) -> list[torch.Tensor]:
    """White numbers (draws, few) of a field or path, in which others may share: of its blocks, and of its
    wavenumbers or directions of most variance.

    w: x (draws, dim) whitened in place; part: the covariance of x.
    """
    number = _blocks(shape)
    sizes = torch.bincount(number).double()
    sums = torch.zeros((len(w), len(sizes)), dtype=torch.float64).index_add_(1, number, w)
    found, held, values = [sums / sizes.sqrt()], part, torch.zeros(())
    if isinstance(held, (Stationary, Spectral)):
        inside: Any = held.inside(x)
        values = held.eigenvalues  # type: ignore[assignment]
        order = values.argsort(descending=True)
        found += [inside[:, order[:few]] / values[order[:few]].sqrt() for few in LEADING]
    return found


def shared(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """|S|²/2 of the products S of white numbers a (draws, few) with others b, by number of the fewer: what
    the Gaussian of independent ones is off by; and its standard error where there is nothing."""
    draws, fewer = len(a), min(a.shape[1], b.shape[1])
    products = (a @ a.T) * (b @ b.T)
    pairs = draws * (draws - 1)
    nats = float(products.sum() - torch.diagonal(products).sum()) / pairs / 2
    return nats / fewer, math.sqrt(a.shape[1] * b.shape[1] / pairs / 2) / fewer


def _of_mean(w: torch.Tensor) -> tuple[float, float]:
    """|m|²/2 and its standard error."""
    draws, dim = w.shape
    pairs = draws * (draws - 1)
    square = float((w.sum(dim=0) ** 2).sum() - (w**2).sum()) / pairs
    return square / 2, math.sqrt(dim / 2) / draws


def _of_pairs(w: torch.Tensor, mean: float) -> tuple[float, float]:
    """|S - I|²/4, from (w_i·w_j)² and |w_i|², which are tr S² + 2 mᵀ S m + |m|⁴ and tr S + |m|² on average;
    mean: |m|²."""
    draws, dim = w.shape
    products = w @ w.T if draws < dim else w.T @ w  # of the same norm
    own = (w**2).sum(dim=1)
    pairs = draws * (draws - 1)
    squares = float((products**2).sum() - (own**2).sum()) / pairs
    spread = squares - mean**2 - 2 * float(own.mean()) + dim
    return spread / 4, math.sqrt(dim * (dim + 1) / 4) / draws


def _of_groups(values: torch.Tensor, number: torch.Tensor, each: float = 1.0) -> tuple[float, float]:
    """The part of |S - I|²/4 that the means of groups of its entries are.

    values (draws, entries): w_i w_j - δ_ij; number: of each entry its group's; each: how often it stands in
    S. How far chance moves the means is told by the draws themselves: of what is not Gaussian it is further.
    """
    sizes = torch.bincount(number).double()
    sums = torch.zeros((len(values), len(sizes)), dtype=torch.float64).index_add_(1, number, values)
    means = sums / sizes
    variance = means.var(dim=0) / len(values)
    nats = each * sizes * (means.mean(dim=0) ** 2 - variance) / 4
    noise = each * sizes * variance * math.sqrt(2) / 4
    return float(nats.sum()), float((noise**2).sum().sqrt())


def _of_lines(w: torch.Tensor, field: FieldShape) -> list[tuple[float, float]]:
    """Of the powers at each place along an axis, in bands of the wavenumbers along the others, and of the
    products with the next place: what ends do that neither meet nor reflect."""
    shaped = w.reshape(len(w), field.channels, *field.shape)
    found = []
    for axis, size in enumerate(field.shape):
        if size == 1:
            continue
        others = [k for k in range(len(field.shape)) if k != axis]
        across = FieldShape(
            1, tuple(field.shape[k] for k in others), tuple(field.periodic[k] for k in others)
        )
        lines: Any = shaped.movedim(axis + 2, 2)
        band = torch.zeros(1, dtype=torch.long)
        if others:
            lines, band = spectral(lines, across), bands(wavenumbers(across))
        lines = lines.reshape(len(w), field.channels, size, -1)
        number = torch.arange(size)[:, None] * (int(band.max()) + 1) + band
        number = number.expand(field.channels, *number.shape)
        found.append(_of_groups((lines**2 - 1).reshape(len(w), -1), number.reshape(-1)))
        products = lines * lines.roll(-1, dims=2)
        if not field.periodic[axis]:
            products, number = products[:, :, :-1], number[:, :-1]
        found.append(_of_groups(products.reshape(len(w), -1), number.reshape(-1), each=2.0))
    return found


def _blocks(field: FieldShape | PathShape) -> torch.Tensor:
    """Of each number of a field the number of its block, of a path that of its stretch of time, (dim,)."""
    if isinstance(field, PathShape):
        stretch = torch.arange(field.length) * min(BLOCKS, field.length) // field.length
        return stretch.repeat_interleave(field.states)
    number = torch.arange(field.channels).reshape(-1, *(1,) * len(field.shape))
    for axis, size in enumerate(field.shape):
        count = min(BLOCKS, size)
        own = (torch.arange(size) * count // size).reshape(size, *(1,) * (len(field.shape) - 1 - axis))
        number = number * count + own
    return number.reshape(-1)


def seen_of(field: FieldShape | PathShape, most: int) -> torch.Tensor:
    """At most so many numbers of a field, evenly over it, each channel alike."""
    stride = max(1, -(-field.size // most))
    sizes = field.shape if isinstance(field, FieldShape) else (field.states,)
    while stride > 1 and any(size > 1 and stride % size == 0 for size in sizes):
        stride += 1  # lest all of them stand in one column
    return torch.arange(0, field.size, stride)
