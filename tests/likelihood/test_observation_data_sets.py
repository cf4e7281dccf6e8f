"""Many data sets in one observation: every row is what the observation of its own data set gives."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from observed_families import CASES

import sdeppl as sp
from sdeppl.likelihood import exact_posterior, joint_observation

DIM, SETS = 3, 4
GENERATOR = np.random.default_rng(3)
H = GENERATOR.standard_normal((4, DIM))
YS = GENERATOR.standard_normal((SETS, 4)) * 2.0 + 1.0
R = np.array([0.3, 1.1, 0.2, 0.7])
X = GENERATOR.standard_normal((SETS, DIM)) * 1.5 - 0.4
SDE = sp.LinearSDE(a=0.7, b=1.3)


def bent(backend, y):
    def function(x):
        a = host(x)
        predicted = a @ H.T + 0.2 * a[:, :1] ** 2
        jacobian = np.broadcast_to(H, (len(a), *H.shape)).copy()
        jacobian[:, :, 0] += 0.4 * a[:, :1]
        noise = 0.3 + 0.1 * np.repeat(a[:, 1:2], 4, axis=1) ** 2
        return tuple(array(part, backend) for part in (predicted, jacobian, noise))

    return sp.NonlinearGaussian(function, DIM, array(y, backend), None)


def linear(backend, y, rows=slice(None)):
    return sp.LinearGaussian(array(H[rows], backend), array(y[rows], backend), array(R[rows], backend))


def counts(backend, y, nodes=32):
    family = sp.likelihood.families.Poisson()
    return sp.IndependentObservation(family, array(y, backend), H=array(H, backend), nodes=nodes)


KINDS = {
    "linear": (linear, YS),
    "bent": (bent, YS),
    "counts": (counts, np.floor(np.abs(YS * 3))),
    "joint": (
        lambda backend, y: joint_observation([counts(backend, y[:4]), linear(backend, y[4:])]),
        np.concatenate([np.floor(np.abs(YS * 3)), YS], axis=1),
    ),
}


def of_all(kind, backend):
    make, ys = KINDS[kind]
    return make(backend, ys[0]).with_data(array(ys, backend)), [make(backend, y) for y in ys]


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_and_gradient_of_each_row_are_of_its_own_data(kind, precise):
    many, single = of_all(kind, precise)
    assert (many.sets, single[0].sets, many.count) == (SETS, None, single[0].count)
    x = array(X, precise)
    rows = [one.log_prob(x[i : i + 1, :]) for i, one in enumerate(single)]
    assert_array(many.log_prob(x), np.concatenate([host(row) for row in rows]), precise, 1e-12)
    slopes = [one.log_prob_gradient(x[i : i + 1, :]) for i, one in enumerate(single)]
    assert_array(many.log_prob_gradient(x), np.concatenate([host(row) for row in slopes]), precise, 1e-9)
    # neighbours of one data set, and data sets in another order
    twice = array(np.repeat(X, 2, axis=0), precise)
    assert_array(many.log_prob(twice), np.repeat(host(many.log_prob(x)), 2), precise, 1e-12)
    order = precise.xp.asarray([2, 0, 2], dtype=precise.xp.int64, device=precise.device)
    expected = [host(single[k].log_prob(x[k : k + 1, :]))[0] for k in (2, 0, 2)]
    assert_array(many.of_sets(order).log_prob(array(X[[2, 0, 2]], precise)), expected, precise, 1e-12)


@pytest.mark.parametrize("rung", ["naive", "dps", "sda", "pigdm", "tweedie", "monte-carlo", "cubature"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_likelihood_guides_each_row_by_its_own_data(kind, rung, precise):
    if rung == "cubature" and kind != "bent":
        pytest.skip("cubature is for nonlinear Gaussian observations")
    many, single = of_all(kind, precise)
    weights, means = array([0.4, 0.6], precise), array(GENERATOR.standard_normal((2, DIM)), precise)
    covariances = array(np.stack([covariance_matrix(DIM, 1), covariance_matrix(DIM, 2)]), precise)
    prior = sp.GaussianMixtureDenoiser(SDE, weights, means, covariances)
    made = sp.posterior.choice.RUNGS[rung]
    x, guided = array(X, precise), made(prior, many)
    for t in (0.05, 0.8):
        rows = [made(prior, one).guided(x[i : i + 1, :], t) for i, one in enumerate(single)]
        together = guided.guided(x, t)
        for name in ("mean", "log_likelihood"):
            expected = np.concatenate([host(getattr(row, name)) for row in rows])
            assert_array(getattr(together, name), expected, precise, 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_surrogates_of_all_families_are_those_of_each_data_set(case, precise):
    family, data, _ = CASES[case]
    ys = np.stack([data, data[::-1] if case in ("poisson", "bernoulli", "ordinal") else data, data])
    rows = array(H, precise)

    def made(y):
        return sp.IndependentObservation(
            family(lambda v: array(v, precise)), array(y, precise), H=rows, offset=0.2, nodes=16
        )

    many = made(ys[0]).with_data(array(ys, precise))
    x = array(X[:3], precise)
    linear = many.linearise(x)
    variance = array(np.array([[0.1, 1.0, 3.0, 0.5]] * 3), precise)
    found = many.site_approximation(linear, variance)
    for i in range(3):
        one = made(ys[i])
        expected = one.site_approximation(one.linearise(x[i : i + 1, :]), variance[i : i + 1, :])
        for name in ("y", "R", "log_scale"):
            values = host(getattr(found, name))[i : i + 1]
            np.testing.assert_allclose(values, host(getattr(expected, name)), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("prior", ["gaussian", "one covariance", "several"])
def test_exact_posteriors_of_many_are_those_of_each(prior, precise):
    one, two = covariance_matrix(DIM, 1), covariance_matrix(DIM, 2)
    means = np.array([[2.0, -1.0, 0.5], [-1.0, 1.5, 3.0]])
    if prior == "gaussian":
        denoiser = sp.GaussianDenoiser(SDE, array(means[0], precise), array(one, precise))
    else:
        covariances = np.stack([one, two if prior == "several" else one])
        denoiser = sp.GaussianMixtureDenoiser(
            SDE, array([0.3, 0.7], precise), array(means, precise), array(covariances, precise)
        )
    many, single = of_all("linear", precise)
    exact, x = exact_posterior(denoiser, many), array(X, precise)
    rows = exact.denoiser
    for t in (0.02, 0.5, 1.0):
        moments = rows(x, t)
        for i, observation in enumerate(single):
            expected = exact_posterior(denoiser, observation)
            at = expected.denoiser(x[i : i + 1, :], t)
            assert_array(moments.mean[i, :], host(at.mean)[0], precise, 1e-10)
            assert_array(rows.mean(x, t)[i, :], host(at.mean)[0], precise, 1e-10)
            dense = host(at.covariance.dense()).reshape(DIM, DIM)
            assert_array(moments.covariance.dense()[i, ...], dense, precise, 1e-9)
            assert float(exact.log_evidence[i]) == pytest.approx(float(expected.log_evidence), abs=1e-10)


def test_the_end_of_a_mixture_is_drawn_from_its_marginal():
    """Mean and variance of x_T of two data sets within 5 standard errors: 1 in 10⁵ fresh seeds fails."""
    numpy = sp.resolve("numpy")
    prior = sp.GaussianMixtureDenoiser(
        SDE, np.array([0.3, 0.7]), np.array([[4.0], [-3.0]]), np.array([[[0.5]], [[2.0]]])
    )
    many = sp.LinearGaussian(np.array([[1.0]]), np.array([0.0]), 4.0).with_data(np.array([[0.5], [2.0]]))
    rows, n = exact_posterior(prior, many).denoiser, 200_000
    stream = sp.Noise(5).stream(numpy)
    index = np.repeat([0, 1], n)
    draws = rows.of_sets(index).sample(SDE.T, stream.uniform(0, 2 * n), stream.normal(0, (2 * n, 1)))[:, 0]
    alpha, sigma = SDE.alpha(1.0), SDE.sigma(1.0)
    for i, y in enumerate((0.5, 2.0)):
        marginals = exact_posterior(prior, sp.LinearGaussian(np.array([[1.0]]), np.array([y]), 4.0)).denoiser
        weights, means = np.exp(marginals.log_weights), marginals.means[:, 0]
        mean = weights @ means
        variance = weights @ (marginals.covariances[:, 0, 0] + (means - mean) ** 2)
        mine = draws[i * n : (i + 1) * n]
        expected = alpha**2 * variance + sigma**2
        assert abs(mine.mean() - alpha * mean) < 5 * np.sqrt(expected / n)
        assert mine.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / n))


def test_errors_say_what_fits():
    seen = linear(sp.resolve("numpy"), YS[0])
    with pytest.raises(ValueError, match=r"data must be \(4,\) or \(data sets, 4\)"):
        seen.with_data(YS[:, :3])
    with pytest.raises(ValueError, match="observed in the same numbers"):
        seen.with_data(np.where(YS > 2, np.nan, YS))
    with pytest.raises(TypeError, match="float64"):
        seen.with_data(YS.astype(np.float32))
    with pytest.raises(ValueError, match="5 rows of x_0 cannot be shared out among 4 data sets"):
        seen.with_data(YS).log_prob(np.zeros((5, DIM)))
    counted = counts(sp.resolve("numpy"), np.ones(4))
    with pytest.raises(ValueError, match="Poisson takes whole numbers"):
        counted.with_data(np.array([[1.0, 2.0, 0.0, 1.0], [1.0, -2.0, 0.0, 1.0]]))
    black_box = sp.DensityObservation(lambda x: -0.5 * (x**2).sum(axis=1), DIM, YS)
    with pytest.raises(TypeError, match="holds one data set"):
        black_box.with_data(YS)
