"""Independent observations: predictors, missing rows, blocks, and the Gaussian as a special case."""

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of
from observed_families import CASES
from scipy import stats

import sdeppl as sp
from sdeppl.likelihood import families

DIM = 4
H = np.random.default_rng(1).standard_normal((4, DIM)) * 1.3
OFFSET = np.array([0.2, -0.4, 0.0, 1.0])
X = np.random.default_rng(2).standard_normal((6, DIM)) * 1.5 + 0.3
SCALES = np.array([0.4, 1.7, 0.05, 3.0])
Y = np.array([1.0, -0.4, 2.02, 9.0])
V = np.random.default_rng(3).uniform(0.01, 3.0, (6, 4))
MISSING = pytest.mark.parametrize("missing", [(), (1,), (0, 1, 2, 3)], ids=["none", "one", "all"])


def with_missing(y, missing):
    return np.where(np.isin(np.arange(4), list(missing)), np.nan, y)


def observe(name, backend, missing=(), **options):
    make, y, _ = CASES[name]
    options = options or {"H": array(H, backend), "offset": array(OFFSET, backend)}
    data = array(with_missing(y, missing), backend)
    return sp.IndependentObservation(make(lambda a: array(a, backend)), data, **options)


def functions(backend):
    """η = H x + offset as functions with and without the Jacobian."""
    matrix, offset = array(H, backend), array(OFFSET, backend)

    def function(x):
        return x @ matrix.T + offset, backend.xp.broadcast_to(matrix, (x.shape[0], 4, DIM))

    return function, lambda x: function(x)[0]


def said(found, eta, v):
    """Slope and curvature of each number, and the value, of the first rows of a surrogate: y and R alone
    magnify rounding where a number says little."""
    y, R, log_scale = (host(a)[: len(eta)] for a in (found.y, found.R, found.log_scale))
    value = log_scale + stats.norm.logpdf(y, eta, np.sqrt(v + R)).sum(axis=1)
    return (y - eta) / (v + R), 1 / (v + R), value


@MISSING
def test_normal_noise_is_the_linear_gaussian_observation(missing, backend):
    """Density, linearisation, and the surrogate's Gaussian in value, slope and curvature, whatever v."""
    y = with_missing(Y, missing)
    seen = sp.IndependentObservation(
        families.Normal(array(SCALES, backend)), array(y, backend), H=array(H, backend)
    )
    same = sp.LinearGaussian(array(H, backend), array(y, backend), array(SCALES**2, backend))
    assert (seen.count, seen.dim) == (same.count, same.dim)
    assert (seen.is_linear, seen.is_gaussian, seen.has_jacobian, seen.hard) == (False, False, True, False)
    x0 = array(X, backend)
    assert_array(seen.log_prob(x0), host(same.log_prob(x0)), backend)
    linear = seen.linearise(x0)
    assert_array(linear.predicted, host(same.linearise(x0).predicted), backend)
    assert_array(linear.H, host(same.H), backend)
    kept = np.flatnonzero(~np.isnan(y))
    for variance in (V, V[0], 0 * V[0], 1e-12 * V):
        found = seen.site_approximation(linear, array(variance[..., kept], backend))
        R = np.broadcast_to(host(same.R), host(found.R).shape)
        np.testing.assert_allclose(host(found.R), R, rtol=1e3 * tolerance_of(backend))
        np.testing.assert_allclose(
            host(found.y), np.broadcast_to(y[kept], R.shape), atol=1e2 * tolerance_of(backend)
        )
        if len(kept):
            np.testing.assert_allclose(host(found.log_scale), 0.0, atol=1e3 * tolerance_of(backend))


@pytest.mark.parametrize("name", CASES)
def test_a_function_as_predictor_is_the_linear_one(name, backend):
    function, value = functions(backend)
    linear = observe(name, backend, (2,))
    x0, v = array(X, backend), array(V[:, [0, 1, 3]], backend)
    expected = linear.site_approximation(linear.linearise(x0), v)
    close = {"rtol": 1e3 * tolerance_of(backend), "atol": 1e2 * tolerance_of(backend)}
    for options in ({"function": function}, {"function": function, "value": value}):
        seen = observe(name, backend, (2,), dim=DIM, **options)
        assert seen.dim == DIM
        assert_array(seen.log_prob(x0), host(linear.log_prob(x0)), backend)
        at = seen.linearise(x0)
        assert_array(at.H, np.broadcast_to(H[[0, 1, 3]], (6, 3, DIM)), backend)
        found = seen.site_approximation(at, v)
        eta = (X @ H.T + OFFSET)[:, [0, 1, 3]]
        for here, there in zip(said(found, eta, host(v)), said(expected, eta, host(v)), strict=True):
            np.testing.assert_allclose(here, there, **close)


@pytest.mark.parametrize("name", CASES)
def test_missing_rows_are_rows_left_out(name, precise):
    """Of any family, also where a parameter differs from row to row."""
    x0 = array(X, precise)
    whole, seen = observe(name, precise), observe(name, precise, (0, 2))
    all_rows = whole.site_approximation(whole.linearise(x0), array(V, precise))
    found = seen.site_approximation(seen.linearise(x0), array(V[:, [1, 3]], precise))
    assert_array(found.y, host(all_rows.y)[:, [1, 3]], precise, 1e-12)
    assert_array(found.R, host(all_rows.R)[:, [1, 3]], precise, 1e-9)
    nothing = observe(name, precise, (0, 1, 2, 3))
    assert nothing.count == 0
    assert_array(nothing.log_prob(x0), np.zeros(6), precise)
    empty = nothing.site_approximation(nothing.linearise(x0), array(V[:, :0], precise))
    assert (empty.y.shape, empty.R.shape, empty.log_scale) == ((0,), (0,), 0.0)
    zero = array(np.zeros((6, 0, 0)), precise)
    assert empty.noise.added_to(zero).shape == (6, 0, 0)


@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_its_batch(name, precise, monkeypatch):
    """Nor on how a large batch is cut into blocks."""
    seen = observe(name, precise)
    together = seen.site_approximation(seen.linearise(array(X, precise)), array(V, precise))
    monkeypatch.setattr("sdeppl.likelihood.independent.BLOCK", 2 * 32 * 4)
    far = np.concatenate([X[:3], 50 * X])
    alone = seen.site_approximation(
        seen.linearise(array(far, precise)), array(np.concatenate([V[:3], V]), precise)
    )
    eta = X[:3] @ H.T + OFFSET
    for here, there in zip(said(alone, eta, V[:3]), said(together, eta, V[:3]), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)
    assert host(alone.y).shape == (9, 4) and host(alone.log_scale).shape == (9,)


def test_an_empty_batch(backend):
    seen = observe("poisson", backend)
    found = seen.site_approximation(seen.linearise(array(X[:0], backend)), array(V[:0], backend))
    assert (tuple(found.y.shape), tuple(found.log_scale.shape)) == ((0, 4), (0,))


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool"])
def test_whole_numbers_may_be_integers(dtype):
    numpy = sp.resolve("numpy")
    y = np.array([0, 1, 1, 0])
    seen = sp.IndependentObservation(families.Bernoulli(), y.astype(dtype), H=H)
    same = sp.IndependentObservation(families.Bernoulli(), y.astype(float), H=H)
    assert_array(seen.y, y.astype(float), numpy)
    assert_array(seen.log_prob(X), same.log_prob(X), numpy)


def test_one_offset_for_all_may_be_a_number(backend):
    y = array([0.0, 1.0, 1.0, 0.0], backend)
    one = sp.IndependentObservation(families.Bernoulli(), y, H=array(H, backend), offset=-1.5)
    each = sp.IndependentObservation(
        families.Bernoulli(), y, H=array(H, backend), offset=array(np.full(4, -1.5), backend)
    )
    assert_array(one.log_prob(array(X, backend)), host(each.log_prob(array(X, backend))), backend)


def test_a_predictor_without_a_jacobian_is_known_by_its_density(backend):
    _, value = functions(backend)
    seen = observe("poisson", backend, value=value, dim=DIM)
    assert not seen.has_jacobian
    assert_array(
        seen.log_prob(array(X, backend)),
        host(observe("poisson", backend).log_prob(array(X, backend))),
        backend,
    )
    with pytest.raises(sp.NotDifferentiable, match="without its Jacobian; use likelihood='monte-carlo'"):
        seen.linearise(array(X, backend))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "takes either H or a function"),
        ({"H": H, "function": lambda x: x}, TypeError, "takes either H or a function"),
        ({"function": lambda x: x}, TypeError, "a function needs dim"),
        ({"function": lambda x: x, "dim": 4, "offset": OFFSET}, TypeError, "takes no offset"),
        ({"H": H[:3]}, ValueError, r"expected H \(observations, dim\) and y .*; got \(3, 4\) and \(4,\)"),
        ({"H": np.where(H > 1, np.nan, H)}, ValueError, "the operator H holds NaN or infinity"),
        ({"H": H, "offset": OFFSET[:2]}, ValueError, r"offset must be finite and \(4,\); got shape \(2,\)"),
        ({"H": H, "offset": np.full(4, np.nan)}, ValueError, "offset must be finite"),
        ({"H": H, "offset": OFFSET.astype(np.float32)}, TypeError, "H is float64, offset float32"),
        ({"H": H.astype(np.float32)}, TypeError, "H is float32, y float64"),
        ({"H": H, "nodes": 4}, ValueError, "nodes must be a whole number, at least 8; got 4"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        sp.IndependentObservation(families.Normal(1.0), Y, **options)


def test_data_of_another_shape_or_dtype_are_refused():
    with pytest.raises(ValueError, match=r"y must be \(observations,\); got \(2, 2\)"):
        sp.IndependentObservation(families.Normal(1.0), np.ones((2, 2)), H=np.eye(2))
    with pytest.raises(TypeError, match="y: expected arrays of a real floating dtype"):
        sp.IndependentObservation(families.Poisson(), np.ones(2, dtype=int), function=lambda x: x, dim=2)
    with pytest.raises(sp.BackendMismatch, match="y is of torch on cpu, expected numpy on cpu"):
        sp.IndependentObservation(families.Poisson(), array(np.ones(4), sp.resolve("torch")), H=H)


@pytest.mark.parametrize("t", [0.02, 0.4, 1.0])
def test_the_guided_score_is_that_of_the_linear_gaussian_observation(t, precise):
    """Through Tweedie's likelihood, to 1e-9: correlated prior, non-zero mean."""
    prior = sp.GaussianDenoiser(
        sp.VPSDE(), array(np.arange(DIM) - 1.0, precise), array(np.diag([0.5, 2.0, 1.0, 3.0]) + 0.3, precise)
    )
    seen = sp.IndependentObservation(
        families.Normal(array(SCALES, precise)), array(Y, precise), H=array(H, precise)
    )
    same = sp.LinearGaussian(array(H, precise), array(Y, precise), array(SCALES**2, precise))
    x = array(X, precise)
    expected = sp.TweedieDenoiser(prior, same).score(x, t)
    assert_array(sp.TweedieDenoiser(prior, seen).score(x, t), host(expected), precise, 1e-9)
