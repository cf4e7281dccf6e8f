"""The criterion by which trajectories find their length, against differences of itself. Seed 0."""

import math

import numpy as np

from sdeppl.mcmc.adapt import chees_slope
from sdeppl.mcmc.trajectory import Proposal, Scale, State

MEAN, SD, COUNT = np.array([5.0, -3.0]), np.array([2.0, 0.5]), 200_000


def turned(time):
    """Positions and momenta of exact trajectories on N(MEAN, SD²): whitened, they go round in circles."""
    rng = np.random.default_rng(0)
    w, n = rng.normal(size=(2, COUNT, 2))
    w *= 0.3  # not yet at the posterior, or all lengths are alike on average
    return w, w * math.cos(time) + n * math.sin(time), n * math.cos(time) - w * math.sin(time)


def criterion(time):
    """ChEES of whitened positions (Hoffman, Radul & Sountsov 2021, equation 6)."""
    before, after, _ = turned(time)
    squares = [np.sum((x - x.mean(axis=0)) ** 2, axis=1) for x in (before, after)]
    return float(np.mean((squares[1] - squares[0]) ** 2)) / 4


def test_the_slope_is_that_of_the_criterion():
    """Off by 0.2% at most: the mean momentum that it leaves out."""
    for time in (0.4, 1.1, 2.0):
        before, after, momentum = turned(time)
        rows = np.zeros(COUNT)
        end = State(MEAN + SD * after, rows, 0 * after)
        proposal = Proposal(end, momentum, rows + 1.0, rows > 0, rows > 0)
        slope = chees_slope(MEAN + SD * before, proposal, Scale(SD), time)
        step = 1e-4
        difference = (criterion(time * math.exp(step)) - criterion(time * math.exp(-step))) / (2 * step)
        assert abs(slope / difference - 1) < 0.01
