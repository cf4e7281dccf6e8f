"""∫ p(y given e) N(e; η, v) de and its moments, by Gauss–Legendre on many panels; for tests of surrogates."""

import math

import numpy as np
from scipy.special import roots_legendre

ROOTS, MASSES = roots_legendre(24)


def tilted(log_density, eta, v, peaks=(), width=1.0):
    """ln Z, d ln Z/dη, d² ln Z/dη² and Var[e]/v for numbers eta and v > 0.

    log_density: e (k,) ↦ ln p(y given e). Panels of a quarter of √v up to 14 √v from eta, 2,000 from there to
    each of `peaks` (kinks, edges, modes), and ones that narrow towards it from 1e4 times `width` to 1e-4.
    """
    root = math.sqrt(v)
    edges = [eta + root * np.linspace(-14, 14, 113)]
    distances = np.geomspace(1e-4, 1e4, 161) * width
    for peak in peaks:
        edges += [[peak], peak + distances, peak - distances, np.linspace(eta, peak, 2001)]
    edges = np.unique(np.concatenate(edges))
    low, high = edges[:-1, None], edges[1:, None]
    e = (low + 0.5 * (high - low) * (1 + ROOTS)).ravel()
    weights = (0.5 * (high - low) * MASSES).ravel()
    z = (e - eta) / root
    logs = log_density(e) - 0.5 * z * z
    largest = logs.max()
    weights = weights * np.exp(logs - largest)
    total = weights.sum()
    mean = (weights * z).sum() / total
    variance = (weights * (z - mean) ** 2).sum() / total
    log_mass = largest + math.log(total / (root * math.sqrt(2 * math.pi)))
    return log_mass, mean / root, (variance - 1) / v, variance
