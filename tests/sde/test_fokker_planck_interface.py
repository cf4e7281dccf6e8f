"""The grid of the Fokker–Planck equation: moments, histograms, walls, and what it refuses."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from scipy.stats import multivariate_normal, norm

import sdeppl as sp

OU = sp.LinearSDE(a=1.3, b=0.9)


def test_moments_mass_and_histogram(precise):
    grid = sp.FokkerPlanckGrid(sp.LinearSDE(1.0, 0.8), [-4.0, -6.0], [5.0, 6.0], (90, 120), precise)
    law = multivariate_normal([0.5, -1.0], [[0.6, 0.3], [0.3, 1.1]])
    density = grid.density_of(lambda x: array(law.pdf(host(x)), precise))
    assert grid.mass(density) == pytest.approx(1.0, abs=1e-14)
    assert_array(grid.mean(density), law.mean, precise, 1e-5)
    assert_array(grid.covariance(density), law.cov, precise, 1e-4)
    states = law.rvs(5000, random_state=1)
    states[:5] = 100.0  # outside: counted in none
    expected, *_ = np.histogram2d(*states.T, bins=(90, 120), range=((-4, 5), (-6, 6)))
    assert expected.sum() == 4995
    assert_array(grid.histogram(array(states, precise)), expected / 5000 / grid.volume, precise)


def make(**changes):
    arguments = {"sde": OU, "lower": -5.0, "upper": 5.0, "cells": 50, "backend": "numpy"} | changes
    return sp.FokkerPlanckGrid(**arguments)


def start(grid):
    return grid.density_of(lambda x: norm(0, 0.5).pdf(x[:, 0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(cells=(5, 5, 5)), r"has 1 or 2 dimensions; got cells=\(5, 5, 5\)"),
        (lambda: make(cells=2), "cells must be a whole number, at least 3; got 2"),
        (lambda: make(cells=(5, 5.5)), r"cells must be a whole number, at least 3; got 5\.5"),
        (lambda: make(lower=5.0), r"need lower < upper; got \(5.0,\) and \(5.0,\)"),
        (lambda: make(upper=math.inf), "need lower < upper"),
        (lambda: make(upper=[1.0, 2.0]), r"upper must be a number or 1 of them; got \[1.0, 2.0\]"),
        (lambda: make().solve(np.ones(49), [0, 1]), r"shape of the cells \(50,\); got \(49,\)"),
        (lambda: make().solve(np.ones(50) - 1.5, [0, 1]), "must be at least 0; its smallest value is -0.5"),
        (lambda: make().solve(np.full(50, np.nan), [0, 1]), "must be at least 0; its smallest value is nan"),
        (lambda: make().solve(np.zeros(50), [0, 1]), "mass in the box must be positive and finite; got 0.0"),
        (lambda: make().solve(start(make()), [1, 0]), "times of LinearSDE must strictly rise"),
        (lambda: make().solve(start(make()), [0]), "times of LinearSDE must strictly rise"),
        (lambda: make().solve(start(make()), [0, 1], max_step=0.0), "max_step must be positive; got 0.0"),
        (
            lambda: make(sde=sp.ReverseSDE(OU, lambda x, t: -x)).solve(start(make()), [0, 1]),
            "times of ReverseSDE must strictly fall",
        ),
        (
            lambda: make(lower=-1.0, upper=1.0).solve(start(make(lower=-1.0, upper=1.0)), [0, 1]),
            r"at t=0 the outermost cells hold 0.00\d+ of the mass, more than edge_mass=0.0001.* widen it",
        ),
        (
            lambda: make(sde=sp.ItoSDE(lambda x, t: 1 / (x - x), lambda x, t: x)).solve(
                start(make()), [0, 1]
            ),
            "drift or diffusion is NaN or infinite in the box",
        ),
        (
            lambda: make(
                sde=sp.StratonovichSDE(lambda x, t: x, lambda x, t: x[:, ::-1]), cells=(20, 20)
            ).solve(np.ones((20, 20)), [0, 1]),
            "StratonovichSDE says noise='diagonal'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_cannot_be_solved_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_real_wall_is_allowed():
    grid = make(lower=-1.0, upper=1.0)
    end = grid.solve(start(grid), [0.0, 5.0], edge_mass=1.0)[-1]
    exact = np.exp(-1.3 * grid.axes[0] ** 2 / 0.81)  # e^{-a x²/b²} between reflecting walls
    np.testing.assert_allclose(end, exact / (exact.sum() * grid.volume), rtol=3e-3)
