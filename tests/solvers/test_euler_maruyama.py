"""One step of Euler–Maruyama is its formula, whichever way it is computed."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp

A, B, S, X = 1.5, 0.7, 0.25, np.array([[0.4, -3.0], [20.0, 0.001]])
Z = np.array([[1.2, -0.3], [-2.0, 0.7]])


@pytest.mark.parametrize("factor", [0.0, 1e-9, 1e-4, -1e-4, 2e-3, 0.5, 0.999, 1.0, -2.0, 7.0])
def test_a_linear_drift_is_carried_exactly_for_any_step(factor, backend):
    """x (1 - a h) + b √h z; with h = 1/a nothing is left of x."""
    h = 0.5
    sde = sp.LinearSDE(a=(1 - factor) / h, b=B)
    found, _ = sp.EulerMaruyama().step(sde, array(X, backend), S, S + h, array(Z, backend))
    expected = factor * X + B * math.sqrt(h) * Z
    assert_array(found, expected, backend, tolerance=3e-6 if "32" in str(backend.dtype) else 1e-14)


@pytest.mark.parametrize("h", [0.1, -0.1])
def test_backward_in_time_the_noise_keeps_its_sign(h, backend):
    found, _ = sp.EulerMaruyama().step(sp.LinearSDE(A, B), array(X, backend), S, S + h, array(Z, backend))
    assert_array(found, X * (1 - A * h) + B * math.sqrt(0.1) * Z, backend, tolerance=3e-6)


def test_a_step_leaves_what_it_is_given_as_it_was(backend):
    x, z = array(X, backend), array(Z, backend)
    for sde in (sp.LinearSDE(A, B), sp.VPSDE(), sp.ItoSDE(lambda x, t: -x, lambda x, t: B, "additive")):
        sp.EulerMaruyama().step(sde, x, S, S + 0.1, z)
        np.testing.assert_array_equal(host(x), host(array(X, backend)))
        np.testing.assert_array_equal(host(z), host(array(Z, backend)))


def test_noise_of_less_precision_leaves_the_state_its_own():
    """A float32 z from a stream of one's own: x keeps its float64 digits."""
    x = np.array([[1.0 + 1e-12]])
    found, _ = sp.EulerMaruyama().step(sp.LinearSDE(0.5, B), x, 0.0, 1.0, np.zeros((1, 1), np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, 0.5 * x, rtol=1e-15)
