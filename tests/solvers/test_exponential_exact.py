"""Exact transitions as a solver: moments after steps of any length, without Monte Carlo."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, propagate

import sdeppl as sp

MEAN, COVARIANCE = np.array([1.5, -0.8, 0.4, 2.0]), covariance_matrix(4, seed=6)
A = np.array([[0.5, -1.2, 0.0, 0.1], [1.0, 0.3, 0.2, 0.0], [0.0, 0.4, 1.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
B = np.array([[1.0, 0.0], [0.4, 0.9], [0.0, -0.5], [0.0, 0.0]])  # the last component has no noise
TIMES = [0.0, 0.03, 0.5, 1.0]
NAMES = ("matrix", "critically damped", "shifted", "sub-vp")


def sde_named(name, backend):
    matrix = sp.MatrixLinearSDE(array(A, backend), array(B, backend), array([0.3, 0.0, -1.0, 2.0], backend))
    return {
        "matrix": matrix,
        "critically damped": sp.CriticallyDampedSDE(sp.LinearSchedule(1.0, 4.0), 0.3),
        "shifted": sp.ShiftedVPSDE(1.7, sp.LinearSchedule(0.5, 3.0)),
        "sub-vp": sp.SubVPSDE(sp.LinearSchedule(0.5, 3.0)),
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_exact_on_any_grid(name, backend):
    sde = sde_named(name, backend)
    found = propagate(sde, sp.ExactAffine(), TIMES, MEAN, COVARIANCE, backend)
    precise = sp.resolve("numpy")
    exact = sde_named(name, precise).moments(MEAN, COVARIANCE, TIMES[-1])
    tolerance = 1e-12 if "64" in str(backend.dtype) else 2e-5
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), atol=tolerance)


def test_a_step_keeps_the_digits_of_a_small_variance():
    """Positions get noise of variance h³/3 from a velocity's h: one part in 1e18 of it at h = 1e-9."""
    sde = sp.MatrixLinearSDE(np.array([[0.0, -1.0], [0.0, 0.0]]), np.array([[0.0], [1.3]]))
    h = 1e-9
    zero = np.zeros((1, 2))
    root = np.concatenate([sde.advance(zero, 0.0, h, np.eye(2)[i : i + 1]) for i in range(2)])
    q = root.T @ root
    assert q[0, 0] == pytest.approx(1.69 * h**3 / 3, rel=1e-7)
    assert q[1, 1] == pytest.approx(1.69 * h, rel=1e-7)
    assert q[0, 1] == pytest.approx(1.69 * h**2 / 2, rel=1e-7)


def test_it_draws_what_it_needs_and_solves(backend):
    """x' = z of the step's own number, in the SDE's law."""
    sde = sp.LinearSDE(a=0.8, b=1.4)
    x = array([[2.0], [-1.0]], backend)
    path = sp.solve(sde, x, [0.0, 2.0], solver=sp.ExactAffine(), noise=sp.Noise(4), keep="last")
    z = sp.Noise(4).stream(backend).normal(1, (2, 1))
    expected = math.exp(-1.6) * x + math.sqrt(1.96 * (1 - math.exp(-3.2)) / 1.6) * z
    assert path.stats["evaluations"] == 0
    assert_array(path.states[0, ...], host(expected), backend)


def test_other_sdes_are_refused():
    sde = sp.ItoSDE(lambda x, t: -x, lambda x, t: 1.0, noise="additive")
    with pytest.raises(TypeError, match="ExactAffine takes the transition of an affine SDE"):
        sp.solve(sde, np.ones((2, 1)), [0.0, 1.0], solver=sp.ExactAffine())
    with pytest.raises(ValueError, match="runs up in time"):
        sp.solve(sp.VPSDE(), np.ones((2, 1)), [1.0, 0.0], solver=sp.ExactAffine())
