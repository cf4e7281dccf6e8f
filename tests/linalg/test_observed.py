"""The covariance of what was observed against its matrix, in each of its forms."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of

from sdeppl import linalg as la
from sdeppl.linalg import observed
from sdeppl.linalg.lanczos import log_trace

DIM, FIELD = 48, la.FieldShape(1, (6, 8), (True, True))
PLACES = [40, 3, 17, 3, 22, 9, 31]  # one of them twice
SCALES = np.array([1.0, -2.0, 0.5, 1.5, 1.0, 3.0, 0.7])
NOISE = np.array([0.3, 0.1, 0.5, 0.2, 0.4, 0.3, 0.6])


def spectrum():
    k = [np.minimum(np.arange(n), n - np.arange(n)) for n in FIELD.shape]
    return (3.0 / (1 + 0.5 * (k[0][:, None] ** 2 + k[1][None, :] ** 2)) ** 2 + 0.02).reshape(-1)


def field(backend):
    return la.Stationary(FIELD, array(spectrum(), backend))


def covariances(backend):
    rng = np.random.default_rng(5)
    basis, _ = np.linalg.qr(rng.standard_normal((DIM, 4)))
    low_rank = la.Spectral(array(basis, backend), array([5.0, 3.0, 2.0, 1.0], backend), array([0.4], backend))
    first = la.Stationary(la.FieldShape(1, (4, 5), (True, True)), array(np.full(20, 1.5), backend))
    second = la.Diagonal(array(rng.uniform(0.5, 2.0, DIM - 20), backend))
    places = [[slice(10, 30)], [slice(0, 10), slice(30, DIM)]]
    return {
        "stationary": field(backend),
        "low rank": low_rank,
        "diagonal": la.Diagonal(array(rng.uniform(0.5, 2.0, DIM), backend)),
        "blocks": la.DiagonalisableBlocks([first, second], places),
    }


def indices(numbers, backend):
    return backend.xp.asarray(list(numbers), dtype=backend.xp.int64, device=backend.device)


def selected(backend):
    chosen = la.Selection(indices(PLACES, backend), DIM, array(SCALES, backend))
    return la.Diagonal(array(SCALES, backend)) @ chosen


def operators(backend):
    """H that is known in different ways, and the noise's covariance."""
    rng = np.random.default_rng(2)
    matrix, low = rng.standard_normal((7, DIM)), rng.standard_normal((7, 2))
    dense = la.Dense(array(matrix, backend))
    free = la.MatrixFree(dense.matvec, dense.rmatvec, (7, DIM), array(SCALES, backend))
    diagonal = la.Diagonal(array(NOISE, backend))
    parts = [selected(backend).rows(slice(0, 3)), selected(backend).rows(slice(3, 7))]
    return {
        "one by one": (selected(backend), diagonal),
        "a stack": (la.Stack(parts), diagonal),
        "all entries": (dense, diagonal),
        "products": (free, la.LowRankUpdate(diagonal, array(low, backend))),
    }


def iterated(S):
    """The same, as if it had no closed form."""
    S.__dict__["closed"] = None
    return S


@pytest.mark.parametrize("known", ["one by one", "a stack", "all entries", "products"])
@pytest.mark.parametrize("held", ["stationary", "low rank", "diagonal", "blocks"])
def test_each_form_is_the_matrix(held, known, backend):
    """Numbers that were observed twice, with negative scale, and correlated noise, among them."""
    C, (H, R) = covariances(backend)[held], operators(backend)[known]
    matrix = host(H.dense()) @ host(C.dense()) @ host(H.dense()).T + host(R.dense())
    b, limit = np.random.default_rng(3).standard_normal((3, 7)), 200 * tolerance_of(backend)
    exact = np.linalg.solve(matrix, b.T).T
    S = la.ObservedCovariance(H, C, R)
    assert S.form == "factored" and "one factorisation" in S.words
    assert_array(S.solve(array(b, backend)), exact, backend, limit)
    assert_array(S.matvec(array(b, backend)), b @ matrix, backend, limit)
    assert float(S.logdet()) == pytest.approx(np.linalg.slogdet(matrix)[1], abs=limit)
    assert S.log_determinant.error == 0.0
    slow = iterated(la.ObservedCovariance(H, C, R))
    assert_array(slow.solve(array(b, backend)), exact, backend, max(limit, 1e-5))
    assert 1 <= slow.iterations <= 40 and str(slow.iterations) in slow.words


def test_every_number_observed_alike_is_diagonal_where_the_prior_is(backend):
    C, limit = field(backend), 50 * tolerance_of(backend)
    unit = backend.xp.asarray(1.5, dtype=backend.dtype, device=backend.device)
    S = la.ObservedCovariance(la.Isotropic(unit, DIM), C, la.Diagonal(array(np.full(DIM, 0.2), backend)))
    matrix = 2.25 * host(C.dense()) + 0.2 * np.eye(DIM)
    assert S.form == "diagonal"
    b = np.random.default_rng(1).standard_normal((2, DIM))
    assert_array(S.solve(array(b, backend)), np.linalg.solve(matrix, b.T).T, backend, limit)
    assert float(S.logdet()) == pytest.approx(np.linalg.slogdet(matrix)[1], abs=50 * limit)


def test_some_of_a_diagonal_prior_are_diagonal_and_a_number_seen_twice_is_not(precise):
    C = covariances(precise)["diagonal"]
    for places, form in (([4, 1, 30], "diagonal"), ([4, 1, 4], "factored")):
        H = la.Selection(indices(places, precise), DIM, array(SCALES, precise))
        S = la.ObservedCovariance(H, C, la.Diagonal(array([0.1, 0.2, 0.3], precise)))
        assert S.form == form
        assert_array(S.solve(array(np.eye(3), precise)), np.linalg.inv(host(S.dense())), precise, 1e-10)


def test_numbers_seen_in_any_order_have_the_entries_of_that_order(precise):
    """Each once and not in rising order, where looking entries up sorts them."""
    places, C = [40, 3, 17, 22, 9, 31, 8], field(precise)
    H = la.Diagonal(array(SCALES, precise)) @ la.Selection(
        indices(places, precise), DIM, array(SCALES, precise)
    )
    S = la.ObservedCovariance(H, C, la.Diagonal(array(NOISE, precise)))
    rows = SCALES[:, None] * np.eye(DIM)[places]
    expected = rows @ host(C.dense()) @ rows.T + np.diag(NOISE)
    assert S.form == "factored"
    assert_array(S.closed.dense(), expected, precise, 1e-10)
    b = np.arange(14.0).reshape(2, 7)
    assert_array(S.solve(array(b, precise)), b @ np.linalg.inv(expected), precise, 1e-9)


def test_more_than_are_factored_are_iterated(precise, monkeypatch):
    monkeypatch.setattr(observed, "FACTORED", 5)
    S = la.ObservedCovariance(selected(precise), field(precise), la.Diagonal(array(NOISE, precise)))
    assert S.form == "iterated"


def test_equations_that_have_no_solution_are_refused(precise):
    zero = la.Diagonal(array(np.zeros(7), precise))
    with pytest.raises(ValueError, match="two rows say the same"):
        la.ObservedCovariance(selected(precise), field(precise), zero).solve(array(np.ones((1, 7)), precise))
    S = iterated(la.ObservedCovariance(selected(precise), -1 * field(precise), zero))
    with pytest.raises(FloatingPointError, match="7 observed numbers"):
        S.solve(array(np.ones((1, 7)), precise))


def test_a_selection_of_numbers_chosen_several_times_has_its_transpose(backend):
    H = la.Selection(indices([3, 1, 3, 3, 0, 1], backend), 5, array(SCALES, backend))
    w = np.random.default_rng(0).standard_normal((2, 6))
    assert_array(H.rmatvec(array(w, backend)), w @ host(H.dense()), backend)


def test_ln_det_by_lanczos_is_within_its_error_as_often_as_it_says(precise, monkeypatch):
    """60 estimates by probes of their own: (estimate - exact)/error is Student's t of 23 degrees of freedom.

    Its mean is within 4 standard errors of 0, and its standard deviation, 1.05, within [.75, 1.4]: 1 of 1,000
    sets of probes fails.
    """
    rng = np.random.default_rng(4)
    basis, _ = np.linalg.qr(rng.standard_normal((120, 120)))
    values = np.exp(rng.uniform(-4, 3, 120))
    matrix = array((basis * values) @ basis.T, precise)
    scores = []
    for probe in range(60):
        monkeypatch.setattr("sdeppl.linalg.lanczos.STREAM", (0x736C71, probe))
        found = log_trace(lambda v: v @ matrix, 120, matrix)
        scores.append((float(found.value) - np.log(values).sum()) / found.error)
    assert abs(np.mean(scores)) < 4 * 1.05 / math.sqrt(60)
    assert 0.75 < np.std(scores, ddof=1) < 1.4


def test_ln_det_of_what_is_not_positive_is_refused(precise):
    matrix = array(np.diag([1.0, -2.0, 3.0]), precise)
    with pytest.raises(FloatingPointError, match="not positive definite"):
        log_trace(lambda v: v @ matrix, 3, matrix)
