"""Conjugate gradients, row by row, against direct solutions."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, tolerance_of

from sdeppl.backend import all_without_sync
from sdeppl.linalg import conjugate_gradients

SYSTEMS = np.stack([covariance_matrix(6, seed, 0.2, 5.0) for seed in range(4)])
RIGHT = np.random.default_rng(0).standard_normal((4, 6))


def product_with(systems, backend):
    matrices = array(systems, backend)
    return lambda v: ((matrices @ v[..., None])[..., 0], v)


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

    found = conjugate_gradients(lambda v: (plain(v)[0] * disturbed, v), right, 1e-5, 200)
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


def test_a_linear_map_of_the_solution_comes_without_another_product(backend):
    right, tolerance = array(RIGHT, backend), 0.1 * tolerance_of(backend)
    A = np.random.default_rng(2).standard_normal((3, 6))
    plain, wanted = product_with(SYSTEMS, backend), array(A, backend)
    found = conjugate_gradients(lambda v: (plain(v)[0], v @ wanted.T), right, tolerance, 40)
    exact = np.linalg.solve(SYSTEMS, RIGHT[..., None])[..., 0] @ A.T
    assert_array(found, exact, backend, tolerance_of(backend) * 10)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_near_inverse_leaves_what_it_is_not(shift, precise):
    """S = B + 0.3 u uᵀ in units of B: with P = B⁻¹ two iterations solve what takes six without, and any P
    that is positive definite gives the same solution."""
    base, u = covariance_matrix(6, 9, 0.2, 50.0), np.random.default_rng(3).standard_normal(6)
    systems = np.broadcast_to(base + shift * np.outer(u, u), (4, 6, 6))
    near = array(np.linalg.inv(base), precise)
    counted = []

    def product(v):
        counted.append(1)
        return product_with(systems, precise)(v)

    right = array(RIGHT, precise)
    found = conjugate_gradients(product, right, 1e-9, 2 if shift else 1, lambda r: r @ near)
    exact = np.linalg.solve(systems, RIGHT[..., None])[..., 0]
    assert_array(found, exact, precise, 1e-6)
    assert len(counted) == (2 if shift else 1)
    assert np.isnan(host(conjugate_gradients(product, right, 1e-9, 2))).all()


def test_where_the_host_sees_it_products_end_with_the_last_row(backend):
    """The identity takes one product; 30 are allowed, and taken where looking would be waiting."""
    counted = []

    def product(v):
        counted.append(1)
        return v, v

    found = conjugate_gradients(product, array(RIGHT, backend), 1e-4, 30)
    assert_array(found, RIGHT, backend, 1e-5)
    assert len(counted) == (1 if all_without_sync(array(np.array([1.0]), backend) > 0) else 30)


def test_looking_is_free_on_the_host_alone(backend):
    there = all_without_sync(array(np.array([1.0, 2.0]), backend) > 0)
    assert there == (str(backend.device) in ("cpu", "CPU_DEVICE", "Device('CPU_DEVICE')"))
    assert not all_without_sync(array(np.array([1.0, -2.0]), backend) > 0)


def test_a_learned_matrix_gives_what_is_positive_in_it(precise):
    """S = V diag(2, 2, 2, 2, 2, -1) Vᵀ: the first step is 2⁻¹ r where r has nothing along the negative
    direction; where r lies along it there is no step; and none is ever NaN."""
    V = np.linalg.qr(np.random.default_rng(4).standard_normal((6, 6)))[0]
    systems = np.broadcast_to((V * [2.0, 2.0, 2.0, 2.0, 2.0, -1.0]) @ V.T, (3, 6, 6))
    right = np.stack([V[:, 0] + 3 * V[:, 2], V[:, 5], V[:, 5] + 2 * V[:, 1]])
    product = product_with(systems, precise)
    found = host(conjugate_gradients(product, array(right, precise), 1e-9, 12, learned=True))
    np.testing.assert_allclose(found[0], right[0] / 2, atol=1e-12)
    np.testing.assert_array_equal(found[1], np.zeros(6))
    assert np.linalg.norm(right[2] - systems[2] @ found[2]) < np.linalg.norm(right[2])


def test_a_learned_matrix_that_is_symmetric_and_positive_is_solved_as_any(precise):
    found = conjugate_gradients(product_with(SYSTEMS, precise), array(RIGHT, precise), 1e-9, 40, learned=True)
    assert_array(found, np.linalg.solve(SYSTEMS, RIGHT[..., None])[..., 0], precise, 1e-7)


def test_a_learned_matrix_that_is_not_symmetric_leaves_the_smallest_residual(precise):
    """With a fiftieth of asymmetry the residual does not go to 0, and 40 iterations are no worse than 5."""
    skew = np.random.default_rng(5).standard_normal((4, 6, 6))
    systems = SYSTEMS + 0.02 * (skew - np.swapaxes(skew, 1, 2))
    product, left = product_with(systems, precise), []
    for iterations in (1, 5, 40):
        found = host(conjugate_gradients(product, array(RIGHT, precise), 1e-9, iterations, learned=True))
        left.append(np.linalg.norm(RIGHT - (systems @ found[..., None])[..., 0], axis=-1))
    assert (left[0] >= left[1]).all() and (left[1] >= left[2]).all()
    assert (left[2] < 0.1 * np.linalg.norm(RIGHT, axis=-1)).all()
