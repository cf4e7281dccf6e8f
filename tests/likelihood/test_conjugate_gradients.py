"""Conjugate gradients, row by row, against direct solutions."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, tolerance_of

from sdeppl.likelihood.conjugate_gradients import conjugate_gradients

SYSTEMS = np.stack([covariance_matrix(6, seed, 0.2, 5.0) for seed in range(4)])
RIGHT = np.random.default_rng(0).standard_normal((4, 6))


def product_with(systems, backend):
    matrices = array(systems, backend)
    return lambda v: (matrices @ v[..., None])[..., 0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e15])
def test_each_row_is_solved_with_its_own_matrix(scale, backend):
    right, tolerance = array(scale * RIGHT, backend), 0.1 * tolerance_of(backend)
    found = conjugate_gradients(product_with(SYSTEMS, backend), right, tolerance, 40)
    exact = np.linalg.solve(SYSTEMS, scale * RIGHT[..., None])[..., 0]
    assert_array(found, exact, backend, tolerance_of(backend) * 10)


def test_rows_that_stopped_early_stay_where_they_are(backend):
    """With the identity a row is solved in one iteration; 200 more, in large units, change nothing."""
    systems = np.concatenate([SYSTEMS[:1], np.broadcast_to(np.eye(6), (1, 6, 6))])
    right = array(np.stack([RIGHT[0], 1e15 * RIGHT[1] * (1 + 1e-5 * np.arange(6))]), backend)
    disturbed = array(1 + 1e-7 * np.random.default_rng(1).standard_normal((1, 6)), backend)
    plain = product_with(systems, backend)

    found = conjugate_gradients(lambda v: plain(v) * disturbed, right, 1e-5, 200)
    assert_array(found[1:, :], host(right)[1:], backend, 1e-4)


def test_a_right_side_of_zero_is_solved_by_zero(backend):
    right = array(np.concatenate([np.zeros((1, 6)), RIGHT[1:]]), backend)
    found = conjugate_gradients(product_with(SYSTEMS, backend), right, 0.1 * tolerance_of(backend), 40)
    np.testing.assert_array_equal(host(found)[0], np.zeros(6))
    np.testing.assert_allclose(host(found)[1], np.linalg.solve(SYSTEMS[1], RIGHT[1]), rtol=1e-3)


def test_only_the_rows_that_have_not_converged_are_nan(backend):
    """One iteration solves a multiple of the identity, and nothing else."""
    systems = np.stack([3 * np.eye(6), SYSTEMS[1]])
    found = host(conjugate_gradients(product_with(systems, backend), array(RIGHT[:2], backend), 1e-5, 1))
    np.testing.assert_allclose(found[0], RIGHT[0] / 3, rtol=1e-5)
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("kind", ["indefinite", "negative", "not a number"])
def test_a_matrix_that_is_not_positive_definite_gives_nan(kind, backend):
    """Also where the equations could be solved: a gain from such a matrix would be a wrong number."""
    systems = {
        "indefinite": SYSTEMS - 1.0 * np.eye(6),
        "negative": -SYSTEMS,
        "not a number": np.where(SYSTEMS > 2, np.nan, SYSTEMS),
    }[kind]
    found = host(conjugate_gradients(product_with(systems, backend), array(RIGHT, backend), 1e-4, 12))
    assert np.isnan(found).all()
