"""What draws of several Markov chains say of their convergence.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021, "Rank-normalization, folding, and localization:
an improved R-hat". All on draws (chains, draws, *shape); the results have the shape. Numbers that never vary,
such as the zeros of a Cholesky factor, get NaN.
"""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from ..backend import Array, array_namespace, ndtri

TAILS = (0.05, 0.95)


@dataclass(frozen=True)
class Convergence:
    """r_hat: the larger of the split R-hats of rank-normalised and of folded, rank-normalised draws;
    bulk_ess: effective sample size of rank-normalised draws, how well the middle of the posterior is known;
    tail_ess: the smaller one of the events below the 5% and the 95% quantile. Each of the site's shape."""

    r_hat: Any
    bulk_ess: Any
    tail_ess: Any


def convergence(draws: Array) -> Convergence:
    """All three at once, which share their sorting."""
    xp, shape = array_namespace(draws), tuple(draws.shape[2:])
    chains, count = draws.shape[:2]
    flat = xp.reshape(draws, (chains, count, math.prod(shape)))
    varies = _varies(flat)
    rows = xp.reshape(flat, (chains * count, -1))
    order = xp.argsort(rows, axis=0)
    ordered = xp.take_along_axis(rows, order, axis=0)
    scores = _split(_normal_scores(ordered, order, flat.shape))
    middle = ordered[(rows.shape[0] - 1) // 2, :]
    away = xp.abs(rows - middle)
    order = xp.argsort(away, axis=0)
    folded = _split(_normal_scores(xp.take_along_axis(away, order, axis=0), order, flat.shape))
    hats, tails = xp.maximum(_r_hat(scores), _r_hat(folded)), _tail_ess(flat, ordered)
    none = xp.full_like(hats, math.nan)
    found = (xp.reshape(xp.where(varies, part, none), shape) for part in (hats, _ess(scores), tails))
    return Convergence(*found)


def r_hat(draws: Array) -> Array:
    """See `Convergence`."""
    return convergence(draws).r_hat


def bulk_ess(draws: Array) -> Array:
    """See `Convergence`."""
    return convergence(draws).bulk_ess


def tail_ess(draws: Array) -> Array:
    """See `Convergence`."""
    return convergence(draws).tail_ess


def _tail_ess(flat: Array, ordered: Array) -> Array:
    xp, count, found = array_namespace(flat), ordered.shape[0], []
    for level in TAILS:
        edge = ordered[min(int(level * count), count - 1), :]
        below = xp.astype(flat <= edge, flat.dtype)
        ess = _ess(_split(below))
        found.append(xp.where(_varies(below), ess, xp.full_like(ess, math.inf)))
    least = xp.minimum(*found)
    return xp.where(xp.isinf(least), xp.full_like(least, math.nan), least)


def _varies(flat: Array) -> Array:
    xp = array_namespace(flat)
    return xp.any(flat != flat[:1, :1, :], axis=(0, 1))


def _normal_scores(ordered: Array, order: Array, shape: tuple[int, ...]) -> Array:
    """Φ⁻¹((rank - 3/8) / (count + 1/4)) over all chains; equal draws share their mean rank.

    ordered, order: (chains × draws, numbers), sorted and by which indices; the result has the shape
    (chains, draws, numbers).
    """
    xp, count = array_namespace(ordered), ordered.shape[0]
    ranks = xp.arange(1, count + 1, dtype=ordered.dtype, device=device(ordered))[:, None]
    ranks = xp.broadcast_to(ranks, ordered.shape)
    starts = ordered[1:, :] != ordered[:-1, :]
    if not bool(xp.all(starts)):
        ranks = _shared(ranks, starts)
    scores = ndtri((ranks - 0.375) / (count + 0.25))
    back = xp.argsort(order, axis=0)
    return xp.reshape(xp.take_along_axis(scores, back, axis=0), shape)


def _shared(ranks: Array, starts: Array) -> Array:
    """The mean of first and last rank of each run of equal numbers; starts: where another one begins."""
    xp = array_namespace(ranks)
    edge, far = xp.ones_like(starts[:1, :]), xp.full_like(ranks, math.inf)
    last = xp.where(xp.concat([starts, edge]), ranks, far)
    first = xp.where(xp.concat([edge, starts]), ranks, -far)
    up_to = xp.flip(running_least(xp.flip(last, axis=0)), axis=0)
    return 0.5 * (up_to - running_least(-first))


def running_least(x: Array) -> Array:
    """The least of all rows up to each, by doubling."""
    xp, step = array_namespace(x), 1
    while step < x.shape[0]:
        x = xp.concat([x[:step, :], xp.minimum(x[step:, :], x[:-step, :])])
        step *= 2
    return x


def _split(flat: Array) -> Array:
    """Each chain as two halves, (2 chains, draws // 2, numbers); of an odd count the middle is left out."""
    half = flat.shape[1] // 2
    return array_namespace(flat).concat([flat[:, :half, :], flat[:, flat.shape[1] - half :, :]])


def _variances(x: Array) -> tuple[Array, Array]:
    """Variance within chains, and the posterior's by that and the spread of the chains' means."""
    xp, n = array_namespace(x), x.shape[1]
    within = xp.mean(xp.var(x, axis=1, correction=1.0), axis=0)
    return within, within * (n - 1) / n + xp.var(xp.mean(x, axis=1), axis=0, correction=1.0)


def _r_hat(x: Array) -> Array:
    xp, (within, total) = array_namespace(x), _variances(x)
    moves, one = within > 0, xp.ones_like(within)
    return xp.where(moves, xp.sqrt(total / xp.where(moves, within, one)), xp.full_like(one, math.inf))


def _ess(x: Array) -> Array:
    """By Geyer's initial monotone sequence; at most count · log10(count), which antithetic chains come to.

    Correlations are 1 - variogram / variance (Gelman et al., Bayesian Data Analysis, 3rd ed., section 11.5),
    which, unlike those of deviations from each chain's own mean, have no bias in short chains.
    """
    xp, (chains, n, numbers) = array_namespace(x), x.shape
    centred = x - xp.mean(x, axis=(0, 1))
    spectrum = xp.fft.rfft(centred, n=2 * n, axis=1)
    products = xp.sum(xp.fft.irfft(spectrum * xp.conj(spectrum), n=2 * n, axis=1)[:, :n, :], axis=0)
    squares = xp.cumulative_sum(xp.sum(centred * centred, axis=0), axis=0)
    first = xp.flip(squares, axis=0)  # of all but the last k draws, and of all but the first k
    last = xp.concat([squares[-1:, :], squares[-1, :] - squares[:-1, :]])
    lags = xp.arange(n, dtype=x.dtype, device=device(x))[:, None]
    variogram = (first + last - 2 * products) / (2 * chains * (n - lags))
    total = _variances(x)[1]
    correlations = 1 - variogram / xp.where(total > 0, total, xp.ones_like(total))
    pairs = xp.sum(xp.reshape(correlations[: n - n % 2, :], (n // 2, 2, numbers)), axis=1)
    if n > 3:
        pairs = xp.concat([pairs[:1, :], running_least(xp.clip(pairs[1:, :], min=0.0))])
    time = 2 * xp.sum(pairs, axis=0) - 1
    count = chains * n
    return count / xp.clip(time, min=1 / math.log10(count))
