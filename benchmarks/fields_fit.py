"""How good the Gaussian part of a field is that was fitted from draws: by the exact posterior under it.

    python benchmarks/fields_fit.py [sides, default 64,128,256] [draws, default 100,300,1000,3000]

A Matérn field on the torus (ν = 1, range .06 of the side, unit variance, mean 0), 5% of the pixels observed
with noise .1. In each line, exact posteriors under the fitted spectrum against those under the true one: the
mean off, in posterior deviations (rms over pixels), the deviation (rms), ln p(y), and its expected fall
E[ln p(y) - ln p̂(y)] for y from the true field, the divergence of all numbers, the seconds of the fit without
those of the draws. What is not smoothed stands beside. One thread; the data are of one seed.
"""

import math
import sys
import time

import numpy as np
import torch
from fields_problems import matern_spectrum, stationary_draws, torus

from sdeppl.linalg import Grid, Stationary
from sdeppl.query.spectrum import PowerSums, stationary
from sdeppl.query.structure import estimate_field

NOISE, SHARE, LOOKED_AT, BATCH = 0.1, 0.05, 2_000, 2**22


class Exact:
    """The posterior of a field N(m, C) given some pixels: its mean everywhere, its deviation at a few."""

    def __init__(self, C: Stationary, mean: float, seen: np.ndarray, y: np.ndarray, at: np.ndarray) -> None:
        block = C.block(seen).dense() + NOISE**2 * np.eye(len(seen))
        root = np.linalg.cholesky(block)
        residual = y - mean
        white = np.linalg.solve(root, residual)
        back = np.zeros(C.shape[0])
        back[seen] = np.linalg.solve(root.T, white)
        self.mean = mean + C.matvec(back[None])[0]
        cross = C._looked_up(seen, at)
        self.sd = np.sqrt(C.diagonal()[at] - np.sum(np.linalg.solve(root, cross) ** 2, axis=0))
        logdet = 2 * np.sum(np.log(np.diag(root)))
        self.block, self.logdet = block, logdet
        self.evidence = -0.5 * (white @ white + logdet + len(y) * math.log(2 * math.pi))

    def fall(self, true: "Exact") -> float:
        """E[ln p(y) - ln p̂(y)] over y, of covariances alone."""
        ratio = np.linalg.solve(self.block, true.block)
        return 0.5 * (float(np.trace(ratio)) - len(ratio) + self.logdet - true.logdet)


def fitted(spectrum: np.ndarray, draws: int, seed: int, smooth: bool) -> tuple[Stationary, float, float, str]:
    """Covariance and mean from draws, the seconds of it, and in words how."""
    field, grid = torus(spectrum.shape), Grid(periodic=True, covariance="stationary")
    seconds = 0.0

    def batches(number: int):
        nonlocal seconds
        rng, at_once = np.random.default_rng([seed, number]), max(8, BATCH // field.size)
        for first in range(0, draws, at_once):
            start = time.process_time()
            z = torch.tensor(stationary_draws(spectrum, min(at_once, draws - first), rng))
            seconds += time.process_time() - start
            yield z.reshape(-1, field.size)

    start = time.process_time()
    if smooth:
        location, scale, covariance, words = estimate_field(batches, field, grid, draws)
        held, mean = scale[0] ** 2 * covariance.eigenvalues, float(location[0])
    else:
        sums = PowerSums(field)
        for z in batches(0):
            sums.add(z)
        covariance, words = stationary(sums, torch.ones(1, dtype=torch.float64), False, smooth=False)
        held, mean = covariance.spectrum, 0.0
    spent = time.process_time() - start - seconds
    return Stationary(field, held.numpy()), mean, spent, words


def line(side: int, draws: int, smooth: bool) -> str:
    """Of one fit."""
    spectrum, rng = matern_spectrum((side, side)), np.random.default_rng(side)
    field = torus((side, side))
    true = Stationary(field, spectrum.reshape(-1))
    seen = np.sort(rng.choice(field.size, round(SHARE * field.size), replace=False))
    at = np.sort(rng.choice(field.size, min(LOOKED_AT, field.size), replace=False))
    y = stationary_draws(spectrum, 1, rng).reshape(-1)[seen] + NOISE * rng.standard_normal(len(seen))
    exact = Exact(true, 0.0, seen, y, at)
    C, mean, seconds, words = fitted(spectrum, draws, 1, smooth)
    ours = Exact(C, mean, seen, y, at)
    off = math.sqrt(np.mean(((ours.mean - exact.mean)[at] / exact.sd) ** 2))
    sd = math.sqrt(np.mean((ours.sd / exact.sd - 1) ** 2))
    ratio = C.spectrum / spectrum.reshape(-1)
    divergence = 0.5 * float(np.sum(ratio - 1 - np.log(ratio)))
    carrying = spectrum.reshape(-1) >= 0.01 * spectrum.sum()
    power = float(np.max(np.abs(ratio[carrying] - 1)))
    gain, fall = ours.evidence - exact.evidence, ours.fall(exact)
    return (
        f"{side:4} {draws:6} {off:8.4f} {sd:8.2%} {gain:8.2f} {fall:8.3f} "
        f"{divergence:10.3f} {power:8.1%} {seconds:8.1f}  {words}"
    )


def main() -> None:
    torch.set_num_threads(1)
    given = [[int(n) for n in text.split(",")] for text in sys.argv[1:]]
    sides, counts = given[0] if given else [64, 128, 256], given[1] if given[1:] else [100, 300, 1_000, 3_000]
    print("side  draws mean off   sd off  ln p(y)     fall divergence    power  seconds")
    for side in sides:
        for draws in counts:
            for smooth in (True, False):
                print(line(side, draws, smooth), flush=True)


if __name__ == "__main__":
    main()
