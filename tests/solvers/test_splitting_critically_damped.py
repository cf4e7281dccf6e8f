"""The symmetric splittings for critically damped Langevin diffusion: measured orders, refusals.

A Gaussian start makes a step affine in the state and the normals: moments are carried exactly, and
orders are measured without Monte Carlo.
"""

import math

import numpy as np
import pytest
from checks import array, covariance_matrix, fitted_slope, propagate

import sdeppl as sp

MEAN, COVARIANCE = np.array([1.5, -0.8]), covariance_matrix(2, seed=3)
RATIOS = {"0": 0.0, "half": 0.5, "1": 1.0, "2": 2.0, "of time": lambda t: 1.5 - t}
SPLITTINGS = (sp.SSCS(), sp.MidpointSSCS())
EACH_SPLITTING = pytest.mark.parametrize("solver", SPLITTINGS, ids=["SSCS", "MidpointSSCS"])


def damped(backend, c, schedule=None):
    """Reverse SDE and marginals of a Gaussian with correlated positions."""
    sde = sp.CriticallyDampedSDE(schedule or sp.LinearSchedule(2.0, 6.0), 0.4)
    mean, covariance = sde.start_moments(array(MEAN, backend), array(COVARIANCE, backend), 0.5)
    prior = sp.AffineMarginals(sde, array([1.0], backend), mean[None, :], covariance[None, :, :])
    return sp.ReverseSDE(sde, prior, c), prior


@EACH_SPLITTING
@pytest.mark.parametrize("c", RATIOS.values(), ids=RATIOS)
@pytest.mark.parametrize("schedule", [sp.LinearSchedule(2.0, 6.0), sp.ConstantSchedule(3.0)])
def test_splitting_has_the_weak_order_it_states(solver, c, schedule):
    """From the exact p_T to the exact p_0.1: mean and covariance."""
    numpy, sizes = sp.resolve("numpy"), (256, 512)
    reverse, prior = damped(numpy, c, schedule)
    exact = prior.moments(0.1)
    found = [
        propagate(reverse, solver, sp.uniform_grid(1.0, 0.1, n), *prior.moments(1.0), numpy) for n in sizes
    ]
    for i in range(2):
        errors = [np.linalg.norm(pair[i] - exact[i]) for pair in found]
        assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(solver.weak_order, abs=0.1)
        assert errors[-1] < (0.02 if solver.weak_order == 1 else 5e-4)


@EACH_SPLITTING
@pytest.mark.parametrize("c", RATIOS.values(), ids=RATIOS)
def test_splitting_leaves_the_equilibrium_as_it_is(solver, c, backend):
    """Where x_0 has the equilibrium's law the score is linear, and no step of any length errs."""
    sde = sp.CriticallyDampedSDE(sp.LinearSchedule(2.0, 6.0), 0.4)
    covariance = np.diag([1.0, 1.0, 0.4, 0.4])
    start = (array(part, backend) for part in ([1.0], np.zeros((1, 4)), covariance[None]))
    reverse = sp.ReverseSDE(sde, sp.AffineMarginals(sde, *start), c)
    found = propagate(reverse, solver, [1.0, 0.3, 0.2], np.zeros(4), covariance, backend)
    tolerance = 1e-4 if "32" in str(backend.dtype) else 1e-12
    np.testing.assert_allclose(found[0], np.zeros(4), atol=tolerance)
    np.testing.assert_allclose(found[1], covariance, atol=tolerance)


@EACH_SPLITTING
def test_a_mixture_comes_back(solver):
    """4,000 paths, seed 21, 200 steps, c = 1: moments of x_0.05 within 5 standard errors.

    Fourteen numbers; a new seed would fail with probability 1e-5.
    """
    sde, n = sp.CriticallyDampedSDE(), 4_000
    means, covariances = np.array([[1.5], [-1.5]]), np.array([[[0.1]], [[0.3]]])
    start = sde.start_moments(means, covariances)
    prior = sp.AffineMarginals(sde, np.array([0.7, 0.3]), *start)
    x = prior.sample(1.0, n, sp.Noise(21))
    grid = sp.uniform_grid(1.0, 0.05, 200)
    x = sp.solve(sp.ReverseSDE(sde, prior), x, grid, solver=solver, noise=sp.Noise(22)).states[-1]
    mean, covariance = prior.moments(0.05)
    centred, score = x - mean, prior.score(x, 0.05)
    columns = [(centred, np.zeros(2)), (score, np.zeros(2))]
    columns += [(centred * centred[:, i : i + 1], covariance[i]) for i in range(2)]
    for values, expected in columns:
        z = (values.mean(axis=0) - expected) / values.std(axis=0) * math.sqrt(n)
        assert np.max(np.abs(z)) < 5


@pytest.mark.parametrize(
    ("sde", "solver", "message"),
    [
        (sp.LinearSDE(1.0, 1.0), sp.BAOAB(), "BAOAB splits LangevinSDE"),
        (sp.CriticallyDampedSDE(), sp.BAOAB(), "got CriticallyDampedSDE; use EulerMaruyama"),
        (sp.CriticallyDampedSDE(), sp.SSCS(), "ReverseSDE of CriticallyDampedSDE; got CriticallyDampedSDE"),
        (sp.ReverseSDE(sp.VPSDE(), np.sin), sp.SSCS(), "got ReverseSDE of VPSDE; use EulerMaruyama"),
        (sp.ReverseSDE(sp.VPSDE(), np.sin), sp.MidpointSSCS(), "MidpointSSCS splits the ReverseSDE"),
        (
            sp.ReverseSDE(sp.CriticallyDampedSDE(), lambda x, t: -x, np.eye(2)),
            sp.SSCS(),
            "SSCS needs a number c, or a function of t that gives one; got a matrix",
        ),
    ],
)
def test_other_sdes_are_refused(sde, solver, message):
    times = [1.0, 0.5] if isinstance(sde, sp.ReverseSDE) else [0.0, 0.5]
    with pytest.raises(TypeError) as caught:
        sp.solve(sde, np.ones((3, 2)), times, solver=solver)
    assert message in str(caught.value)
