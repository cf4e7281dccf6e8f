"""The power spectrum of a stationary field from draws, smoothed across wavenumbers so that few draws do."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..linalg import FieldShape, Stationary
from ..linalg.grid import negated, periodic_axes, spectral

WIDTHS = (0.0, 0.7, 1.5, 3.0, 6.0, 12.0, 24.0)  # of kernels, in steps of the wavenumber
ALL_DIRECTIONS = math.inf  # in place of a width: the same at all wavenumbers of one length
RINGS = 0.1  # of ln(1 + r/2), r the length of a wavenumber
REACH = 0.15  # of the smoothing from ring to ring
BANDS = 1.42  # a band of wavenumbers ends at so many times the length at which it begins
LEAST = 1e-10  # of the mean variance: none is taken to be less


class PowerSums:
    """Sums of products of a field's spectral coefficients over draws, in two halves.

    The halves, of every second draw, tell how much chance is in the whole. For c channels of p points the
    memory is 4 c² p numbers, and a draw takes a transform and 2 c² p products (one channel: p).
    """

    def __init__(self, field: FieldShape) -> None:
        c = field.channels
        kinds = 1 if c == 1 else 2
        self.field, self.count = field, [0, 0]
        self.products = torch.zeros((2, kinds, c, c, field.points), dtype=torch.float64)
        self.total = torch.zeros((2, c, field.points), dtype=torch.float64)

    def add(self, x: torch.Tensor) -> None:
        """Rows x (batch, dim), near zero mean."""
        field, flat = self.field, (len(x), self.field.channels, self.field.points)
        h: Any = spectral(x.reshape(len(x), field.channels, *field.shape), field)
        opposite: Any = negated(h, periodic_axes(field)[0])
        h, opposite = torch.reshape(h, flat), torch.reshape(opposite, flat)
        first = sum(self.count) % 2
        for half in (0, 1):
            own = h[(half + first) % 2 :: 2]
            self.count[half] += len(own)
            self.total[half] += own.sum(dim=0)
            self.products[half, 0] += torch.einsum("nak,nbk->abk", own, own)
            if field.channels > 1:
                other = opposite[(half + first) % 2 :: 2]
                self.products[half, 1] += torch.einsum("nak,nbk->abk", other, own)

    def power(self, halves: Sequence[int], every_mean: bool) -> torch.Tensor:
        """Re and Im of C_k, (2, channels, channels, points), of some halves; less the mean's own power at all
        wavenumbers, or at 0 alone, where a field has the same mean everywhere."""
        n = sum(self.count[half] for half in halves)
        products = sum((self.products[half] for half in halves), start=torch.zeros(()))
        mean = sum((self.total[half] for half in halves), start=torch.zeros(())) / n
        kept = torch.ones(self.field.points, dtype=torch.float64)
        if not every_mean:
            kept[1:] = 0.0
        freedom = n - kept
        mean = mean * kept
        same = (products[0] - n * mean[:, None] * mean[None]) / freedom
        real = 0.5 * (same + self._negated(same))
        if self.field.channels == 1:
            return torch.stack([real, torch.zeros_like(real)])
        crossed = (products[1] - n * self._negated(mean)[:, None] * mean[None]) / freedom
        return torch.stack([real, 0.5 * (crossed - self._negated(crossed))])

    def _negated(self, values: torch.Tensor) -> torch.Tensor:
        shaped = values.reshape(*values.shape[:-1], *self.field.shape)
        turned: Any = negated(shaped, periodic_axes(self.field)[0])
        found: torch.Tensor = turned.reshape(values.shape)
        return found


def stationary(
    sums: PowerSums, scale: torch.Tensor, every_mean: bool, smooth: bool = True
) -> tuple[Stationary, str]:
    """The covariance of the field in units of `scale` (channels,), and in words how it was smoothed.

    The spectrum is first smoothed as a function of the length of the wavenumber alone; what the draws have
    over it, C_k in its units, is smoothed by Gaussian kernels in k. In each band of lengths that kernel is
    taken, none and an infinitely wide one among them, whose expected squared error is least, by Stein's
    unbiased estimate: |J_h - J_0|² - var (1 - 2 w_h), w_h its weight at its own wavenumber and var what two
    halves of the draws tell. The power at k = 0 is taken as it is. Source: Stein 1981, Ann. Statist. 9.
    """
    field = sums.field
    units = 1 / (scale[:, None] * scale[None])[..., None]
    whole = sums.power((0, 1), every_mean) * units
    halves = [sums.power((half,), every_mean) * units for half in (0, 1)] if smooth else []
    own = torch.diagonal(whole[0]).T
    least = LEAST * own.mean()
    own = own.clamp_min(least)
    if not smooth or min(sums.count) < 2:
        return _held(field, whole, least), "not smoothed"
    lengths = wavenumbers(field)
    pilot = torch.stack([_by_length(lengths, one) for one in own])
    pilot[:, 0] = own[:, 0]
    relative = 1 / torch.sqrt(pilot[:, None] * pilot[None])
    first, second = (half * relative for half in halves)
    raw = whole * relative
    band = bands(lengths)
    chance = mean_by(band, 0.25 * ((first - second) ** 2).sum(dim=(0, 1, 2)))
    best = torch.full_like(chance, math.inf)
    found, kinds = raw, [0.0] * len(chance)
    for width, ratio, weight in _smoothings(raw, field, lengths):
        risk = mean_by(band, ((ratio - raw) ** 2).sum(dim=(0, 1, 2)))
        risk = risk - chance * (1 - 2 * mean_by(band, weight))
        better = risk < best
        best = torch.where(better, risk, best)
        found = torch.where(better[band], ratio, found)
        kinds = [width if better[b] else old for b, old in enumerate(kinds)]
    found[..., 0] = raw[..., 0]
    return _held(field, found / relative, least), _in_words(kinds, best, chance)


def wavenumbers(field: FieldShape) -> torch.Tensor:
    """Lengths |k| in cycles over the longest axis, (points,)."""
    longest, d = max(field.shape), len(field.shape)
    square = torch.zeros((), dtype=torch.float64)
    for axis, (size, periodic) in enumerate(zip(field.shape, field.periodic, strict=True)):
        k = torch.arange(size, dtype=torch.float64)
        cycles = torch.minimum(k, size - k) / size if periodic else 0.5 * k / size
        square = square + (longest * cycles.reshape(size, *(1,) * (d - 1 - axis))) ** 2
    return square.expand(field.shape).reshape(-1).sqrt()


def _by_length(lengths: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """A smooth function of the length, (points,): a local line through the logarithms of means over rings."""
    place = torch.log1p(0.5 * lengths)
    ring = (place / RINGS).round().long()
    _, ring, counts = torch.unique(ring, return_inverse=True, return_counts=True)
    weights = counts.double()
    weights[0] = 0.0  # k = 0, which is apart
    at, means = mean_by(ring, place), mean_by(ring, power)
    if len(at) < 3:
        return means[ring]
    values = means.log()
    apart = at[None, :] - at[:, None]
    near = weights * torch.exp(-0.5 * (apart / REACH) ** 2)
    sums = [torch.sum(near * apart**p, dim=1) for p in (0, 1, 2)]
    heights = [torch.sum(near * apart**p * values, dim=1) for p in (0, 1)]
    bent = sums[0] * sums[2] - sums[1] ** 2
    line = (sums[2] * heights[0] - sums[1] * heights[1]) / bent
    flat = heights[0] / sums[0].clamp_min(1e-300)
    smooth = torch.where(bent > 1e-6 * sums[0] ** 2 * REACH**2, line, flat)
    smooth[0] = values[0]
    right = torch.searchsorted(at, place).clamp(1, len(at) - 1)
    share = ((place - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)
    between = torch.lerp(smooth[right - 1], smooth[right], share)
    # between k = 0 and the next ring there is nothing to go by but the latter
    return torch.where(right == 1, smooth[1], between).exp()


def _smoothings(
    raw: torch.Tensor, field: FieldShape, lengths: torch.Tensor
) -> list[tuple[float, torch.Tensor, torch.Tensor]]:
    """Each width with what it makes of J_k (2, channels, channels, points), and its weight at k itself."""
    found = []
    if field.channels == 1:
        ring = (torch.log1p(0.5 * lengths) / RINGS).round().long()
        _, ring, counts = torch.unique(ring, return_inverse=True, return_counts=True)
        weight = (2.0 / counts.double()).clamp_max(1.0)[ring]
        flat = torch.zeros_like(raw)
        flat[0] = 1.0
        found.append((ALL_DIRECTIONS, flat, weight))
    inner = raw.clone()
    inner[0, ..., 0] = torch.eye(field.channels, dtype=raw.dtype)
    inner[1, ..., 0] = 0.0
    grid = inner.reshape(-1, *field.shape)
    for width in reversed(WIDTHS):
        if width > 0 and 3 * width <= min(n for n in field.shape if n > 1):
            smooth = _convolved(grid, field, width).reshape(raw.shape)
            found.append((width, smooth, _own_weight(field, width)))
    return [*found, (0.0, raw, torch.ones(field.points, dtype=raw.dtype))]


def _kernel(width: float, size: int) -> torch.Tensor:
    reach = min(math.ceil(3 * width), size - 1)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / width) ** 2)
    return weights / weights.sum()


def _convolved(grid: torch.Tensor, field: FieldShape, width: float) -> torch.Tensor:
    """Each of (fields, *grid) by a Gaussian kernel along each axis: round periodic ones, at the ends of
    others, where the spectrum goes on as its mirror image, back into it."""
    for axis, (size, periodic) in enumerate(zip(field.shape, field.periodic, strict=True), start=1):
        if size == 1:
            continue
        weights = _kernel(width, size)
        moved = grid.movedim(axis, -1)
        rows = moved.reshape(-1, 1, size)
        reach = len(weights) // 2
        mode = "circular" if periodic else "reflect"
        padded = torch.nn.functional.pad(rows, (reach, reach), mode=mode)
        smooth = torch.nn.functional.conv1d(padded, weights[None, None])
        grid = smooth.reshape(moved.shape).movedim(-1, axis)
    return grid


def _own_weight(field: FieldShape, width: float) -> torch.Tensor:
    """What k and -k, which are the same number, have in the mean at k, (points,)."""
    d = len(field.shape)
    here, there, mirrored = 1.0, torch.ones((1,) * d, dtype=torch.float64), torch.ones((1,) * d).double()
    for axis, (size, periodic) in enumerate(zip(field.shape, field.periodic, strict=True)):
        if size == 1:
            continue
        weights = _kernel(width, size)
        reach = len(weights) // 2
        k = 2 * torch.arange(size)
        apart = torch.minimum(k % size, size - k % size) if periodic else k
        other = torch.where(apart <= reach, weights[(reach + apart).clamp_max(2 * reach)], 0.0)
        other = other.reshape(size, *(1,) * (d - 1 - axis))
        if periodic:
            here, there = here * float(weights[reach]), there * other
        else:
            mirrored = mirrored * (float(weights[reach]) + other)
    weight = (here + there) if any(field.periodic) else torch.ones(())
    return (weight * mirrored).expand(field.shape).reshape(-1).clamp_max(1.0)


def bands(lengths: torch.Tensor) -> torch.Tensor:
    """The number of each wavenumber's band, (points,)."""
    number = (torch.log(lengths.clamp_min(1.0)) / math.log(BANDS)).floor().long()
    return torch.unique(number, return_inverse=True)[1]


def mean_by(number: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Means of the values that have the same number."""
    size = int(number.max()) + 1
    sums = torch.zeros(size, dtype=torch.float64).index_add_(0, number, values.double())
    return sums / torch.bincount(number, minlength=size)


def _held(field: FieldShape, power: torch.Tensor, least: torch.Tensor) -> Stationary:
    """As an operator, of matrices Re and Im (2, channels, channels, points)."""
    c, p = field.channels, field.points
    if c == 1:
        return Stationary(field, power[0, 0, 0].clamp_min(least))
    matrices = torch.complex(power[0], power[1]).permute(2, 0, 1)
    numbers = torch.arange(p).reshape(1, *field.shape)
    turned_round: Any = negated(numbers, periodic_axes(field)[0])
    pair = turned_round.reshape(-1)
    first = torch.minimum(pair, torch.arange(p))
    own = pair == torch.arange(p)
    values, vectors = torch.linalg.eigh(matrices)
    real_values, real_vectors = torch.linalg.eigh(power[0][..., own].permute(2, 0, 1))
    values[own], vectors[own] = real_values, real_vectors.to(vectors.dtype)
    # eigenvectors have no phase of their own: those at -k are the conjugate ones
    turned = torch.where((first == torch.arange(p))[:, None, None], vectors, vectors[first].conj())
    parts = torch.stack([turned.real, turned.imag]).permute(0, 2, 3, 1).contiguous()
    return Stationary(field, values[first].T.clamp_min(least).reshape(-1), parts)


def _in_words(kinds: Sequence[float], risk: torch.Tensor, chance: torch.Tensor) -> str:
    """Which kernels were taken."""
    names = {0.0: "none", ALL_DIRECTIONS: "all directions"}
    low, high = (names.get(kinds[at], f"{kinds[at]:g} steps") for at in (0, -1))
    error = float(risk.clamp_min(0).mean().sqrt())
    raw = float(chance.mean().sqrt())
    how = low if low == high else f"{low} at the longest waves to {high} at the shortest"
    return f"smoothed over {how}: error {error:.1%} a wavenumber, {raw:.1%} without"
