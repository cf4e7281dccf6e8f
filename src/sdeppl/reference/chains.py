"""What draws of several Markov chains say of their convergence.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021, "Rank-normalization, folding, and localization:
an improved R-hat". All on draws (chains, draws, *shape); the results have the shape. Numbers that never vary,
such as the zeros of a Cholesky factor, get NaN.
"""

import math
from dataclasses import dataclass

import torch

TAILS = (0.05, 0.95)


@dataclass(frozen=True)
class Convergence:
    """r_hat: the larger of the split R-hats of rank-normalised and of folded, rank-normalised draws;
    bulk_ess: effective sample size of rank-normalised draws, how well the middle of the posterior is known;
    tail_ess: the smaller one of the events below the 5% and the 95% quantile. Each of the site's shape."""

    r_hat: torch.Tensor
    bulk_ess: torch.Tensor
    tail_ess: torch.Tensor


def convergence(draws: torch.Tensor) -> Convergence:
    """All three at once, which share their sorting."""
    flat, shape = draws.reshape(*draws.shape[:2], -1).to(torch.float64), draws.shape[2:]
    varies = _varies(flat)
    rows = flat.flatten(0, 1).T.contiguous()
    ordered, order = rows.sort(dim=1)
    scores = _split(_normal_scores(ordered, order, flat.shape))
    middle = ordered[:, (rows.shape[1] - 1) // 2]
    folded = (rows - middle[:, None]).abs().sort(dim=1)
    hats = torch.maximum(_r_hat(scores), _r_hat(_split(_normal_scores(*folded, flat.shape))))
    tails = _tail_ess(flat, ordered)
    found = (torch.where(varies, part, torch.nan).reshape(shape) for part in (hats, _ess(scores), tails))
    return Convergence(*found)


def r_hat(draws: torch.Tensor) -> torch.Tensor:
    """See `Convergence`."""
    return convergence(draws).r_hat


def bulk_ess(draws: torch.Tensor) -> torch.Tensor:
    """See `Convergence`."""
    return convergence(draws).bulk_ess


def tail_ess(draws: torch.Tensor) -> torch.Tensor:
    """See `Convergence`."""
    return convergence(draws).tail_ess


def _tail_ess(flat: torch.Tensor, ordered: torch.Tensor) -> torch.Tensor:
    count, found = ordered.shape[1], []
    for level in TAILS:
        edge = ordered[:, min(int(level * count), count - 1)]
        below = (flat <= edge).to(torch.float64)
        found.append(torch.where(_varies(below), _ess(_split(below)), torch.inf))
    least = torch.minimum(*found)
    return torch.where(torch.isinf(least), torch.nan, least)


def _varies(flat: torch.Tensor) -> torch.Tensor:
    return (flat != flat[:1, :1]).any(dim=0).any(dim=0)


def _normal_scores(ordered: torch.Tensor, order: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Φ⁻¹((rank - 3/8) / (count + 1/4)) over all chains; equal draws share their mean rank.

    ordered, order: (numbers, chains × draws), as `sort` gives them; the result has the shape
    (chains, draws, numbers).
    """
    count = ordered.shape[1]
    ranks = torch.arange(1, count + 1, dtype=torch.float64, device=ordered.device).expand(ordered.shape)
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        below = torch.searchsorted(ordered, ordered)
        up_to = torch.searchsorted(ordered, ordered, right=True)
        ranks = 0.5 * (below + up_to + 1).to(torch.float64)
    scores = torch.special.ndtri((ranks - 0.375) / (count + 0.25))
    return torch.empty_like(scores).scatter_(1, order, scores).T.reshape(shape)


def _split(flat: torch.Tensor) -> torch.Tensor:
    """Each chain as two halves, (2 chains, draws // 2, numbers); of an odd count the middle is left out."""
    half = flat.shape[1] // 2
    return torch.cat([flat[:, :half], flat[:, -half:]])


def _variances(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance within chains, and the posterior's by that and the spread of the chains' means."""
    n = x.shape[1]
    within = x.var(dim=1).mean(dim=0)
    return within, within * (n - 1) / n + x.mean(dim=1).var(dim=0)


def _r_hat(x: torch.Tensor) -> torch.Tensor:
    within, total = _variances(x)
    return (total / within).sqrt()


def _ess(x: torch.Tensor) -> torch.Tensor:
    """By Geyer's initial monotone sequence; at most count · log10(count), which antithetic chains come to.

    Correlations are 1 - variogram / variance (Gelman et al., Bayesian Data Analysis, 3rd ed., section 11.5),
    which, unlike those of deviations from each chain's own mean, have no bias in short chains.
    """
    chains, n, _ = x.shape
    centred = x - x.mean(dim=(0, 1))
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=1)
    products = torch.fft.irfft(spectrum.abs() ** 2, n=2 * n, dim=1)[:, :n].sum(dim=0)
    squares = (centred**2).sum(dim=0).cumsum(dim=0)
    first = squares.flip(0)  # of all but the last k draws, and of all but the first k
    last = torch.cat([squares[-1:], squares[-1] - squares[:-1]])
    lags = torch.arange(n, dtype=x.dtype, device=x.device)[:, None]
    variogram = (first + last - 2 * products) / (2 * chains * (n - lags))
    correlations = 1 - variogram / _variances(x)[1]
    pairs = correlations[: n - n % 2].reshape(n // 2, 2, -1).sum(dim=1)
    pairs[1:] = torch.cummin(pairs[1:].clamp_min(0.0), dim=0).values if n > 3 else pairs[1:]
    time = 2 * pairs.sum(dim=0) - 1
    count = chains * n
    return count / time.clamp_min(1 / math.log10(count))
