"""Each family with parameters that differ from row to row, data and SciPy's log-density; for tests."""

import numpy as np
from scipy import special, stats

from sdeppl.likelihood import families

ETA = np.array([[0.3, -1.2, 2.0, -3.5], [1.9, 0.4, -0.7, 5.0], [-6.0, 3.3, 0.0, 1.1]])
SCALES = np.array([0.4, 1.7, 0.05, 3.0])
DEGREES = np.array([1.0, 2.5, 4.0, 30.0])
TOTALS = np.array([5.0, 12.0, 1.0, 40.0])
CUTPOINTS = (-1.5, 0.2, 1.9)
MIXTURE = ((0.2, 0.5, 0.3), (0.0, -3.0, 1.0), (0.1, 0.5, 4.0))


def ordered(eta, y):
    """Pyro's OrderedLogistic, by its definition."""
    points = np.array([-np.inf, *CUTPOINTS, np.inf])
    k = y.astype(int)
    return np.log(special.expit(points[k + 1] - eta) - special.expit(points[k] - eta))


def censored(eta, y, low, high):
    """SciPy's own density of censored data, number by number."""
    values = np.empty_like(eta)
    for row, column in np.ndindex(eta.shape):
        normal, at = stats.norm(eta[row, column], SCALES[column]), y[column]
        if at <= low[column]:
            values[row, column] = normal.logcdf(low[column])
        elif at >= high[column]:
            values[row, column] = normal.logsf(high[column])
        else:
            values[row, column] = normal.logpdf(at)
    return values


LOW, HIGH = np.array([-1.0, -np.inf, 0.0, -2.0]), np.array([2.0, 0.7, 0.1, np.inf])


def interval(eta, y):
    """From whichever tail the interval lies in."""
    a, b = (LOW - eta) / SCALES, (HIGH - eta) / SCALES
    a, b = np.where(a + b > 0, -b, a), np.where(a + b > 0, -a, b)
    upper, lower = special.log_ndtr(b), special.log_ndtr(a)
    return upper + np.log1p(-np.exp(lower - upper))


def mixture(eta, y):
    weights, means, scales = (np.array(a) for a in MIXTURE)
    parts = stats.norm.logpdf(y[..., None], eta[..., None] + means, scales)
    return special.logsumexp(parts + np.log(weights / weights.sum()), axis=-1)


# name: (family with array parameters made by `array`, data, ln p by SciPy)
CASES = {
    "poisson": (
        lambda a: families.Poisson(),
        np.array([0.0, 1.0, 7.0, 250.0]),
        lambda eta, y: stats.poisson.logpmf(y, np.exp(eta)),
    ),
    "bernoulli": (
        lambda a: families.Bernoulli(),
        np.array([0.0, 1.0, 1.0, 0.0]),
        lambda eta, y: stats.bernoulli.logpmf(y, special.expit(eta)),
    ),
    "binomial": (
        lambda a: families.Binomial(a(TOTALS)),
        np.array([0.0, 7.0, 1.0, 40.0]),
        lambda eta, y: stats.binom.logpmf(y, TOTALS, special.expit(eta)),
    ),
    "negative binomial": (
        lambda a: families.NegativeBinomial(a(TOTALS + 0.5)),
        np.array([0.0, 3.0, 11.0, 90.0]),
        lambda eta, y: stats.nbinom.logpmf(y, TOTALS + 0.5, special.expit(-eta)),
    ),
    "ordinal": (lambda a: families.Ordinal(CUTPOINTS), np.array([0.0, 1.0, 3.0, 2.0]), ordered),
    "normal": (
        lambda a: families.Normal(a(SCALES)),
        np.array([1.0, -0.4, 2.02, 9.0]),
        lambda eta, y: stats.norm.logpdf(y, eta, SCALES),
    ),
    "student t": (
        lambda a: families.StudentT(a(DEGREES), a(SCALES)),
        np.array([1.0, -0.4, 2.02, 9.0]),
        lambda eta, y: stats.t.logpdf(y, DEGREES, eta, SCALES),
    ),
    "laplace": (
        lambda a: families.Laplace(a(SCALES)),
        np.array([1.0, -0.4, 2.02, 9.0]),
        lambda eta, y: stats.laplace.logpdf(y, eta, SCALES),
    ),
    "mixture": (lambda a: families.NormalMixture(*MIXTURE), np.array([1.0, -0.4, 2.02, 9.0]), mixture),
    "censored": (
        lambda a: families.Censored(a(SCALES), a(LOW), a(HIGH)),
        np.array([2.0, 0.1, 0.0, -2.0]),
        lambda eta, y: censored(eta, y, LOW, HIGH),
    ),
    "interval": (
        lambda a: families.Interval(a(LOW), a(HIGH), a(SCALES)),
        np.array([0.5, 0.0, 0.05, 3.0]),
        interval,
    ),
}
