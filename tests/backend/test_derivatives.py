"""Jacobian–vector products of every backend against Jacobians by hand."""

import numpy as np
import pytest
from checks import array, assert_array, host

from sdeppl.backend import backend_of, jvp

X = np.array([[0.3, -1.2, 2.0], [150.0, -80.0, 40.0], [1e-3, 2e-3, -5e-3]])
V = np.array([[1.0, -0.5, 0.25], [30.0, 20.0, -10.0], [1e-3, 0.0, 2e-3]])


def tolerance(backend):
    """What `jvp` states: exact in torch, else about 1e-11 in float64 and 1e-4 in float32."""
    if backend.name == "torch":
        return 1e-14 if "64" in str(backend.dtype) else 1e-6
    return 2e-11 if "64" in str(backend.dtype) else 3e-4


def assert_rows(found, expected, backend, factor=1.0):
    """Each row relative to its own largest entry, since rows have scales of their own."""
    assert backend_of(found) == backend
    assert tuple(found.shape) == expected.shape
    axes = tuple(range(1, expected.ndim))
    error = np.max(np.abs(host(found) - expected), axis=axes)
    assert np.all(error <= factor * tolerance(backend) * np.max(np.abs(expected), axis=axes)), error


def sine(y):
    xp = backend_of(y).xp
    return xp.sin(y / 50) * y


def test_elementwise_function_on_rows_of_different_scales(backend):
    """g = x sin(x/50): g' = sin(x/50) + x cos(x/50)/50."""
    exact = (np.sin(X / 50) + X * np.cos(X / 50) / 50) * V
    found = jvp(sine, array(X, backend), array(V, backend))
    # the step is meant for |x| about 1: the row with |x| = 0.005 has g of 1e-7, and a looser bound
    assert_rows(found[:2, :], exact[:2], backend)
    error = np.max(np.abs(host(found)[2] - exact[2])) / np.max(np.abs(V[2]))
    assert error <= 10 * tolerance(backend)


def test_rows_that_share_memory(backend):
    """A broadcast x and v, which torch cannot make dual as they are."""
    x, v = (backend_of(a).xp.broadcast_to(a, (4, 3)) for a in (array(X[:1], backend), array(V[:1], backend)))
    exact = np.broadcast_to((np.sin(X / 50) + X * np.cos(X / 50) / 50) * V, (3, 3))[:1].repeat(4, axis=0)
    assert_rows(jvp(sine, x, v), exact, backend)


def test_matrix_valued_function(backend):
    """g_ik = x_i x_{k+1} for k = 0, 1: (Dg v)_ik = v_i x_{k+1} + x_i v_{k+1}. A polynomial of degree 2
    has no error of the differences but rounding."""

    def outer(y):
        return y[..., :, None] * y[..., None, 1:]

    exact = V[:, :, None] * X[:, None, 1:] + X[:, :, None] * V[:, None, 1:]
    assert_rows(jvp(outer, array(X, backend), array(V, backend)), exact, backend, factor=10)


def test_coupled_components(backend):
    """g = (x_0 x_1 x_2, x_0² - x_2), from three components to two."""
    x, v = X[:2], V[:2]

    def function(y):
        xp = backend_of(y).xp
        return xp.stack((y[..., 0] * y[..., 1] * y[..., 2], y[..., 0] ** 2 - y[..., 2]), axis=-1)

    product = v[:, 0] * x[:, 1] * x[:, 2] + x[:, 0] * v[:, 1] * x[:, 2] + x[:, 0] * x[:, 1] * v[:, 2]
    exact = np.stack((product, 2 * x[:, 0] * v[:, 0] - v[:, 2]), axis=-1)
    assert_rows(jvp(function, array(x, backend), array(v, backend)), exact, backend)


def test_rows_with_direction_zero_give_zero(backend):
    v = V.copy()
    v[1] = 0.0
    found = host(jvp(sine, array(X, backend), array(v, backend)))
    np.testing.assert_array_equal(found[1], 0.0)
    assert np.all(found[0] != 0)


def test_it_is_linear_in_the_direction_over_sixteen_decades(backend):
    """The step follows the direction's length, so that neither tiny nor huge directions lose digits."""
    x, v = array(X[:1], backend), V[:1]
    unit = host(jvp(sine, x, array(v, backend)))
    for scale in (1e-8, 1e8):
        scaled = host(jvp(sine, x, array(scale * v, backend))) / scale
        np.testing.assert_allclose(scaled, unit, rtol=20 * tolerance(backend))


def test_differences_have_order_4():
    """(x⁵)' at x = 1 comes out as 5 - 4 h⁴."""
    numpy_backend = backend_of(X)
    eps = np.finfo(np.float64).eps
    h = eps**0.2 * 2.0  # for |x| = 1 and |v| = 1
    found = numpy_backend.adapter.jvp(lambda y: y**5, np.ones((1, 1)), np.ones((1, 1)))
    assert found[0, 0] - 5 == pytest.approx(-4 * h**4, rel=0.2)


def test_a_single_row_without_batch(backend):
    assert_array(
        jvp(lambda y: y * y, array([3.0, -2.0], backend), array([1.0, 0.5], backend)),
        [6.0, -2.0],
        backend,
        tolerance=10 * tolerance(backend),
    )
