"""A sparse root of the inverse of a covariance by neighbours, and what it spares."""

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of

from sdeppl import linalg as la
from sdeppl.backend import earlier_neighbours
from sdeppl.linalg import observed
from sdeppl.linalg.nearest import NearestRoot

FIELD = la.FieldShape(2, (5, 7), (True, False))
TORUS = la.FieldShape(1, (24, 24), (True, True))


def torus(backend):
    k = np.minimum(np.arange(24), 24 - np.arange(24))
    spectrum = (20.0 / (1 + 0.3 * (k[:, None] ** 2 + k[None, :] ** 2)) ** 2).reshape(-1)
    return la.Stationary(TORUS, array(spectrum, backend))


def indices(numbers, backend):
    return backend.xp.asarray(list(numbers), dtype=backend.xp.int64, device=backend.device)


def root_of(C, places, noise, backend):
    """Of the covariance of C's numbers at `places` with noise, and that covariance."""
    index = indices(places, backend)

    def entries(i, j):
        xp = backend.xp
        at = (xp.reshape(xp.take(index, xp.reshape(one, (-1,))), one.shape) for one in (i, j))
        found = C.entries(*at)
        return found + noise * xp.astype(i == j, found.dtype)

    S = host(C.dense())[np.ix_(places, places)] + noise * np.eye(len(places))
    return NearestRoot.of(C.positions(index), entries, C.like), S


def test_entries_are_those_of_the_matrix_and_positions_those_of_the_grid(backend):
    rng = np.random.default_rng(0)
    spectrum = rng.uniform(0.5, 2.0, FIELD.size)
    spectrum = spectrum.reshape(2, 5, 7)
    spectrum = (spectrum + spectrum[:, (-np.arange(5)) % 5, :]).reshape(-1)
    C = la.Stationary(FIELD, array(spectrum, backend))
    i, j = rng.integers(0, FIELD.size, (2, 3, 4))
    found = C.entries(
        *(backend.xp.asarray(one, dtype=backend.xp.int64, device=backend.device) for one in (i, j))
    )
    assert_array(found, host(C.dense())[i, j], backend, 20 * tolerance_of(backend))
    points, periods = C.positions(indices([0, 13, 35 + 8], backend))
    np.testing.assert_array_equal(host(points), [[0, 0, 0], [1, 6, 0], [1, 1, 2]])
    assert periods == (5.0, 0.0, 0.0)


def test_neighbours_are_the_nearest_of_those_before(backend):
    """Also around the ends of an axis that begins again."""
    points = np.random.default_rng(1).uniform(0, 10, (60, 2))
    columns, missing = earlier_neighbours(array(points, backend), (10.0, 0.0), 4)
    columns, missing = host(columns).astype(int), host(missing).astype(bool)
    assert columns.shape == (60, 5) and (columns[:, -1] == np.arange(60)).all()
    assert sorted((~missing[:, :-1]).sum(axis=1)) == [0, 1, 2, 3] + [4] * 56
    order = sorted(range(60), key=lambda i: (~missing[i]).sum())
    assert not missing[order[-1]].any()
    apart = np.abs(points[:, None, :] - points[None, :, :])
    apart[..., 0] = np.minimum(apart[..., 0], 10 - apart[..., 0])
    distance = np.linalg.norm(apart, axis=-1)
    near = np.array([distance[i, columns[i, :4]].mean() for i in range(60) if not missing[i].any()])
    assert near.mean() < 0.6 * distance.mean()


def test_few_numbers_have_the_inverse_itself(backend):
    """All of 12 others are neighbours."""
    root, S = root_of(torus(backend), list(range(0, 26, 2)), 0.3, backend)
    v, limit = np.random.default_rng(2).standard_normal((3, 13)), 500 * tolerance_of(backend)
    assert_array(root.near_inverse(array(v, backend)), np.linalg.solve(S, v.T).T, backend, limit)
    assert float(root.logdet()) == pytest.approx(-0.5 * np.linalg.slogdet(S)[1], abs=limit)


def test_many_numbers_are_nearly_white_and_the_transpose_is_the_transpose(precise):
    places = np.random.default_rng(3).choice(576, 150, replace=False)
    root, S = root_of(torus(precise), places, 0.05, precise)
    L = host(root.matvec(array(np.eye(150), precise))).T
    np.testing.assert_allclose(host(root.rmatvec(array(np.eye(150), precise))), L, atol=1e-12)
    white = L @ S @ L.T
    np.testing.assert_allclose(np.diag(white), 1.0, atol=1e-9)
    assert np.linalg.cond(white) < 0.05 * np.linalg.cond(S)


def test_what_is_not_positive_has_none(precise):
    root, _ = root_of(torus(precise), [0, 1, 2], -50.0, precise)
    assert root is None


def test_equations_by_it_take_a_part_of_the_iterations_and_ln_det_is_as_exact(precise, monkeypatch):
    """The estimate of ln det within 4 of its standard errors, probes fixed."""
    monkeypatch.setattr(observed, "QUICK", 100)
    places = np.random.default_rng(3).choice(576, 300, replace=False)
    places[7] = places[3]  # one of them twice
    C, noise = torus(precise), np.random.default_rng(4).uniform(0.03, 0.06, 300)
    H = la.Diagonal(array(np.full(300, -2.0), precise)) @ la.Selection(indices(places, precise), 576, C.like)
    matrix = 4 * host(C.dense())[np.ix_(places, places)] + np.diag(noise)
    b = np.random.default_rng(5).standard_normal((2, 300))
    found = []
    for plain in (False, True):
        S = la.ObservedCovariance(H, C, la.Diagonal(array(noise, precise)))
        if plain:
            S.__dict__ |= {"near_root": None, "closed": None}
        assert_array(S.solve(array(b, precise)), np.linalg.solve(matrix, b.T).T, precise, 1e-6)
        assert not S.has_factor
        found.append(S.iterations)
    assert found[0] < 0.5 * found[1]
    S = la.ObservedCovariance(H, C, la.Diagonal(array(noise, precise)))
    S.__dict__["closed"] = None
    estimate = S.log_determinant
    assert abs(float(estimate.value) - np.linalg.slogdet(matrix)[1]) < 4 * estimate.error
    many = array(np.random.default_rng(6).standard_normal((20, 300)), precise)
    whole = la.ObservedCovariance(H, C, la.Diagonal(array(noise, precise)))
    assert_array(whole.solve(many), np.linalg.solve(matrix, host(many).T).T, precise, 1e-9)
    assert whole.has_factor and "one factorisation" in whole.words


def test_nothing_near_is_looked_for_where_s_has_the_eigenvectors_of_c(precise, monkeypatch):
    monkeypatch.setattr(observed, "QUICK", 100)
    noise = la.Diagonal(array(np.full(576, 0.2), precise))
    S = la.ObservedCovariance(
        la.Selection(indices(range(576), precise), 576, noise.like), torus(precise), noise
    )
    b = np.random.default_rng(7).standard_normal((1, 576))
    exact = np.linalg.solve(host(torus(precise).dense()) + 0.2 * np.eye(576), b.T).T
    assert_array(S.solve(array(b, precise)), exact, precise, 1e-9)
    assert S.form == "diagonal" and "near_root" not in S.__dict__
