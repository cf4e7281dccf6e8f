"""Log-density through the probability-flow ODE, against densities known in closed form."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, tolerance_of
from scipy.stats import lognorm, multivariate_normal, t

import sdeppl as sp
from sdeppl.denoisers import PullbackCovariance

WEIGHTS = np.array([0.2, 0.8])
MEANS = np.array([[-2.0, 1.0], [1.5, -0.5]])
COVARIANCES = np.stack([covariance_matrix(2, 1, 0.1, 0.6), covariance_matrix(2, 2, 0.2, 1.0)])
# draws of each component, points between them, and one far out
X = np.concatenate(
    [
        np.random.default_rng(0).multivariate_normal(mean, covariance, 4)
        for mean, covariance in zip(MEANS, COVARIANCES, strict=True)
    ]
    + [np.array([[-0.3, 0.2], [0.2, 0.4], [4.0, 3.0]])]
)
NUMPY = sp.resolve("numpy")
SDES = {
    "vp": sp.VPSDE(),
    "vp with signal left": sp.VPSDE(sp.LinearSchedule(0.5, 3.0)),
    "sub-vp": sp.SubVPSDE(),
    "ve": sp.VESDE(0.01, 50.0),
    "edm": sp.EDMSDE(80.0),
    "linear": sp.LinearSDE(a=1.0, b=1.5, T=3.0),
    "brownian": sp.LinearSDE(a=0.0, b=4.0),
    "growing": sp.LinearSDE(a=-0.5, b=0.8, T=4.0),
    "shifted": sp.ShiftedVPSDE(np.array([1.0, -2.0])),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def mixture(sde, backend=NUMPY):
    return sp.GaussianMixtureDenoiser(sde, *(array(a, backend) for a in (WEIGHTS, MEANS, COVARIANCES)))


def mixture_log_density(x, alpha=1.0, sigma=0.0, shift=0.0):
    terms = [
        weight
        * multivariate_normal(alpha * mean + shift, alpha**2 * covariance + sigma**2 * np.eye(2)).pdf(x)
        for weight, mean, covariance in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    ]
    return np.log(np.sum(terms, axis=0))


EXACT = mixture_log_density(X)


def error(found, exact=EXACT):
    return float(np.max(np.abs(host(found.value) - exact)))


@EACH_SDE
def test_a_mixture_under_each_sde(sde):
    """Within 1e-4 at rtol 1e-7 was asked for; measured 2e-7, at 290 to 390 evaluations."""
    found = sp.log_density(mixture(sde), X, rtol=1e-7)
    assert error(found) < 1e-6
    assert found.standard_error is None


@EACH_SDE
@pytest.mark.parametrize("time", [1e-5, 0.01, 0.4])
def test_a_mixture_at_later_times(sde, time):
    alpha, sigma, shift = sde.alpha(time), sde.sigma(time), sde.shift(time)
    x = alpha * X + shift + 0.5 * sigma
    found = sp.log_density(mixture(sde), x, t=time, rtol=1e-7)
    assert error(found, mixture_log_density(x, alpha, sigma, shift)) < 1e-6


def test_evaluations_against_tolerance():
    """Published with RK45: error 9.7e-3 with 44 evaluations at rtol 1e-4, 1.4e-5 with 134 at 1e-7."""
    limits = {1e-3: (5e-4, 100), 1e-4: (1.4e-5, 134), 1e-5: (5e-6, 190), 1e-7: (1e-6, 350)}
    for rtol, (largest, evaluations) in limits.items():
        found = sp.log_density(mixture(sp.VPSDE()), X[:8], rtol=rtol)
        assert error(found, EXACT[:8]) < largest and found.evaluations < evaluations


@pytest.mark.parametrize("solver", [sp.DormandPrince54(), sp.Tsitouras54(), sp.RungeKutta4()])
def test_any_ode_solver_serves(solver):
    assert error(sp.log_density(mixture(sp.VPSDE()), X, rtol=1e-7, solver=solver)) < 3e-6


def test_every_backend(backend):
    double = "64" in str(backend.dtype)
    found = sp.log_density(mixture(sp.VPSDE(), backend), array(X, backend))
    assert_array(found.value, EXACT, backend, tolerance=1e-6 if double else 1e-4)


@pytest.mark.parametrize("dim", [1, 2, 10])
@pytest.mark.parametrize("sde", [SDES["vp with signal left"], SDES["ve"], SDES["linear"], SDES["growing"]])
def test_a_gaussian(sde, dim):
    mean, covariance = np.linspace(-1.5, 2.0, dim), covariance_matrix(dim, 3, 0.02, 4.0)
    normal = multivariate_normal(mean, covariance)
    x = np.reshape(normal.rvs(6, random_state=1), (6, dim))
    found = sp.log_density(sp.GaussianDenoiser(sde, mean, covariance), x, rtol=1e-8)
    assert error(found, normal.logpdf(x)) < 1e-6


@pytest.mark.parametrize("selector", ["numpy", "torch", "strict"])
def test_a_posterior_of_a_gaussian(selector):
    """The guided denoiser is exact there; its divergence is the Jacobian of its mean."""
    backend, sde = sp.resolve(selector), sp.VPSDE(sp.LinearSchedule(0.5, 3.0))
    mean, covariance, H, y = (
        np.array([0.5, -1.0, 2.0]),
        covariance_matrix(3, 6),
        np.ones((1, 3)),
        np.array([2.5]),
    )
    prior = sp.GaussianDenoiser(sde, array(mean, backend), array(covariance, backend))
    guided = sp.TweedieDenoiser(prior, sp.LinearGaussian(array(H, backend), array(y, backend), 0.3**2))
    gain = covariance @ H.T / (H @ covariance @ H.T + 0.3**2)
    normal = multivariate_normal(mean + gain @ (y - H @ mean), covariance - gain @ H @ covariance)
    x = normal.rvs(5, random_state=2)
    assert_array(sp.log_density(guided, array(x, backend), rtol=1e-6).value, normal.logpdf(x), backend, 1e-6)


def test_the_density_of_an_approximate_posterior_integrates_to_one():
    """It is that of the draws: with the covariance for the divergence the integral would be 1.16."""
    observed = sp.LinearGaussian(np.array([[1.0, 0.4]]), np.array([0.3]), 0.25)
    guided = sp.TweedieDenoiser(mixture(sp.VPSDE()), observed, gradient="mean")
    axis = np.linspace(-4.5, 4.5, 31)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    found = sp.log_density(guided, points, rtol=1e-3)
    assert np.sum(np.exp(found.value)) * 0.3**2 == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("sde", [SDES["vp"], SDES["ve"], SDES["shifted"]])
def test_a_score_alone(sde):
    """Through the drift's Jacobian, in t itself, from t = 0 on."""
    score = sp.AffineMarginals(sde, WEIGHTS, MEANS, COVARIANCES)
    for source in (sp.ReverseSDE(sde, score), sp.ReverseSDE(sde, score, 2.0)):
        assert error(sp.log_density(source, X, rtol=1e-7)) < 1e-6


def test_a_reverse_sde_of_a_denoiser_is_its_denoiser():
    sde = sp.VPSDE()
    expected = sp.log_density(mixture(sde), X)
    for forward in (sde, sp.VPSDE()):
        found = sp.log_density(sp.ReverseSDE(forward, mixture(sde)), X)
        np.testing.assert_array_equal(found.value, expected.value)


@pytest.mark.parametrize("selector", ["numpy", "torch", "strict"])
@pytest.mark.parametrize("kind", ["matrix", "critically damped"])
def test_sdes_with_matrices(selector, kind):
    """Correlated noise of one Wiener process in two components; noise on the velocity alone."""
    backend = sp.resolve(selector)
    A, B = array([[1.0, 0.5], [-0.3, 0.8]], backend), array([[1.0, 0.0], [0.7, 0.4]], backend)
    sde = sp.MatrixLinearSDE(A, B) if kind == "matrix" else sp.CriticallyDampedSDE()
    marginals = sp.AffineMarginals(sde, *(array(a, backend) for a in (WEIGHTS, MEANS, COVARIANCES)))
    rtol, largest = (1e-7, 1e-6) if selector == "numpy" else (1e-3, 5e-3)
    found = sp.log_density(sp.ReverseSDE(sde, marginals), array(X, backend), rtol=rtol)
    assert error(found) < largest
    x, time = X + 0.3, 0.5
    found = sp.log_density(sp.ReverseSDE(sde, marginals), array(x, backend), t=time, rtol=rtol)
    means, covariances = (host(part) for part in marginals.components(time))
    terms = [
        weight * multivariate_normal(mean, covariance).pdf(x)
        for weight, mean, covariance in zip(WEIGHTS, means, covariances, strict=True)
    ]
    assert error(found, np.log(np.sum(terms, axis=0))) < largest


@pytest.mark.parametrize("selector", ["numpy", "torch"])
def test_noise_that_depends_on_the_state(selector):
    """Geometric Brownian motion from a log-normal start stays log-normal; ∇·G enters the drift."""
    backend, mu, s, spread, middle, T = sp.resolve(selector), 0.3, 0.6, 0.5, 0.2, 1.5

    def marginal(r):
        return middle + (mu - s**2 / 2) * r, spread**2 + s**2 * r

    def score(x, r):
        mean, variance = marginal(r)
        return -(1 + (backend.xp.log(x) - mean) / variance) / x

    def log_density(x, r):
        mean, variance = marginal(r)
        return lognorm(math.sqrt(variance), scale=math.exp(mean)).logpdf(x)

    sde = sp.ItoSDE(lambda x, r: mu * x, lambda x, r: s * x)
    x = np.array([[0.4, 1.1], [1.7, 0.8], [3.0, 1.2]])
    found = sp.log_density(
        sp.ReverseSDE(sde, score),
        array(x, backend),
        T=T,
        terminal=lambda y: array(np.sum(log_density(host(y), T), axis=-1), backend),
        rtol=1e-8,
    )
    assert error(found, np.sum(log_density(x, 0.0), axis=-1)) < 1e-6


class Products(sp.denoisers.Covariance):
    """A covariance of which products alone are known."""

    shared = materialised = False

    def __init__(self, covariance):
        self.covariance = covariance

    def product(self, v):
        return self.covariance @ v

    def dense(self):
        raise AssertionError("a trace needs no matrix")


def black_box(denoiser, wrap=Products):
    return sp.CallableDenoiser(
        denoiser.sde,
        denoiser.mean,
        lambda x, r: wrap(denoiser(x, r).covariance),
        denoiser.dim,
        denoiser.backend,
    )


def test_products_with_the_covariance_are_enough(precise):
    exact = mixture(sp.VPSDE(), precise)
    found = sp.log_density(black_box(exact), array(X, precise), terminal=lambda x: exact.log_density(x, 1.0))
    assert_array(found.value, host(sp.log_density(exact, array(X, precise)).value), precise, tolerance=1e-10)


def test_the_gaussian_end_is_exact_for_a_gaussian():
    """A black box does not know its density at T: the Gaussian with its moments there stands in."""
    sde, mean, covariance = SDES["vp with signal left"], np.array([1.0, -2.0]), covariance_matrix(2, 8)
    denoiser = black_box(sp.GaussianDenoiser(sde, mean, covariance), wrap=lambda c: c)
    found = sp.log_density(denoiser, X, rtol=1e-8)
    assert error(found, multivariate_normal(mean, covariance).logpdf(X)) < 1e-6


@pytest.mark.parametrize(("sde", "largest"), [(SDES["vp"], 2e-5), (SDES["ve"], 5e-4)])
def test_the_gaussian_end_of_a_mixture_costs_little(sde, largest):
    """Measured: 1.6e-6 and 5e-5 for draws, more far out; at T α/σ is 0.007 and 0.02."""
    found = sp.log_density(black_box(mixture(sde), wrap=lambda c: c), X, rtol=1e-7)
    assert 1e-7 < error(found) < largest


def test_a_network_by_products_with_its_jacobian():
    """A pullback covariance, exact here, so that the mean's Jacobian and the covariance agree."""
    torch = pytest.importorskip("torch")
    sde, backend = sp.VPSDE(), sp.resolve("torch")
    exact = mixture(sde, backend)

    def covariance(x, r):
        _, pull = torch.func.vjp(lambda y: exact.mean(y, r), x)
        return PullbackCovariance(
            sde.sigma(r) ** 2 / sde.alpha(r), lambda v: pull(v, retain_graph=True)[0], x
        )

    network = sp.CallableDenoiser(sde, exact.mean, covariance, 2, backend)
    found = sp.log_density(
        network, array(X, backend), terminal=lambda x: exact.log_density(x, 1.0), rtol=1e-7
    )
    assert error(found) < 1e-6


def hutchinson(rows, probes, seed):
    """Estimates for one x in `rows` rows, of a Gaussian in ten dimensions, and the exact value."""
    sde, mean, covariance = SDES["vp with signal left"], np.linspace(-1.0, 1.0, 10), covariance_matrix(10, 3)
    x = np.linspace(0.5, -1.5, 10)
    prior = sp.GaussianDenoiser(sde, mean, covariance)
    found = sp.log_density(prior, np.broadcast_to(x, (rows, 10)) + 0.0, probes=probes, seed=seed, rtol=1e-5)
    return found, multivariate_normal(mean, covariance).logpdf(x)


def test_hutchinson_is_unbiased_and_knows_its_error():
    """400 independent rows of 16 probes, seed 5. Bias within 4.5 standard errors (false alarm 7e-6);
    spread as stated within 20% (its standard deviation is 3.5%); 95% intervals of Student's t with 15
    degrees of freedom hold the truth in 90.2% to 99.8% of the rows (4.4 standard errors)."""
    found, exact = hutchinson(400, 16, seed=5)
    deviation, stated = found.value - exact, found.standard_error
    assert abs(np.mean(deviation)) < 4.5 * np.std(deviation) / math.sqrt(400)
    assert np.std(deviation) == pytest.approx(math.sqrt(np.mean(stated**2)), rel=0.2)
    assert 0.05 < np.mean(stated) < 1.0
    assert 0.902 < np.mean(np.abs(deviation) < t(15).ppf(0.975) * stated) < 0.998


def test_the_stated_variance_of_few_probes_is_unbiased():
    """4 probes in 2,000 rows, seed 9: the mean of the squared errors stated is the variance within 16%
    (4.5 of its standard deviations)."""
    found, exact = hutchinson(2_000, 4, seed=9)
    assert np.mean(found.standard_error**2) == pytest.approx(np.mean((found.value - exact) ** 2), rel=0.16)


def test_hutchinsons_error_falls_with_the_root_of_the_number_of_probes():
    few, many = (float(np.mean(hutchinson(100, n, 3)[0].standard_error)) for n in (8, 72))
    assert few / many == pytest.approx(3.0, rel=0.2)


def test_hutchinson_is_exact_for_independent_components():
    """Signs give the trace of a diagonal matrix without error."""
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.array([1.0, 2.0]), np.diag([0.5, 3.0]))
    found = sp.log_density(prior, X, probes=3, rtol=1e-8)
    assert error(found, multivariate_normal([1.0, 2.0], np.diag([0.5, 3.0])).logpdf(X)) < 1e-6
    assert float(np.max(found.standard_error)) < 1e-10


def test_hutchinson_with_a_score():
    """By products with the drift's Jacobian; 64 probes, within 5 standard errors for each of 11 rows."""
    score = sp.AffineMarginals(sp.VPSDE(), WEIGHTS, MEANS, COVARIANCES)
    found = sp.log_density(sp.ReverseSDE(sp.VPSDE(), score), X, probes=64, seed=2, rtol=1e-5)
    assert np.all(np.abs(found.value - EXACT) < 5 * found.standard_error + 1e-5)


def test_a_seed_says_it_all():
    first, again, other = (hutchinson(3, 4, seed)[0].value for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t": 1.0}, r"need 0 <= t < T.* got t=1.0, T=1.0"),
        ({"t": -0.1}, r"need 0 <= t < T.* got t=-0.1"),
        ({"T": 2.0}, r"T no later than the forward SDE's; got t=0.0, T=2.0"),
        ({"probes": 1}, "probes must be a whole number, at least 2 for a standard error, or None; got 1"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        sp.log_density(mixture(sp.VPSDE()), X, **options)


@pytest.mark.parametrize("x", [X[0], X[:, :1], np.ones((2, 3))])
def test_a_wrong_shape(x):
    with pytest.raises(ValueError, match=r"x must be \(batch, 2\); got \("):
        sp.log_density(mixture(sp.VPSDE()), x)


def test_what_is_no_source():
    with pytest.raises(TypeError, match="takes a Denoiser or a ReverseSDE, which holds a score; got VPSDE"):
        sp.log_density(sp.VPSDE(), X)


def test_an_unknown_end_is_asked_for():
    with pytest.raises(ValueError, match=r"function does not know its density at T=1: give terminal"):
        sp.log_density(sp.ReverseSDE(sp.VPSDE(), lambda x, r: -x), X)
    with pytest.raises(ValueError, match="ItoSDE has no T: give the time T"):
        sp.log_density(sp.ReverseSDE(sp.ItoSDE(lambda x, r: x, lambda x, r: x), lambda x, r: -x), X)
    with pytest.raises(ValueError, match=r"CallableDenoiser does not know its density at T=0.5"):
        sp.log_density(black_box(mixture(sp.VPSDE())), X, T=0.5)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[0.0, 0.0]], TypeError, "log_density: x must be an array of NumPy, torch or CuPy; got list"),
        (np.full((1, 2), np.nan), ValueError, "x has NaN or infinity; give log_density finite rows"),
    ],
)
def test_rows_that_are_none_are_refused(x, error, message):
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.eye(2))
    with pytest.raises(error, match=message):
        sp.log_density(prior, x)


def test_another_library_is_refused():
    with pytest.raises(sp.BackendMismatch, match="x is of numpy"):
        sp.log_density(mixture(sp.VPSDE(), sp.resolve("torch")), X)


def test_an_end_without_signal_is_named():
    sde = sp.VPSDE(sp.ConstantSchedule(4000.0))
    with pytest.raises(ValueError, match="no signal is left at T=1, where α = 0: use a smaller T or β"):
        sp.log_density(mixture(sde), X)


def test_an_earlier_end():
    """At T = 0.3 the marginal is far from Gaussian; the mixture knows it."""
    assert error(sp.log_density(mixture(sp.VPSDE()), X, T=0.3, rtol=1e-7)) < 1e-6


def test_the_closed_forms_of_denoisers(backend):
    """Of a mixture, and of a Gaussian whose covariance is singular."""
    sde = sp.VPSDE(sp.LinearSchedule(0.5, 3.0))
    alpha, sigma = sde.alpha(0.3), sde.sigma(0.3)
    found = mixture(sde, backend).log_density(array(X, backend), 0.3)
    assert_array(found, mixture_log_density(X, alpha, sigma), backend, 10 * tolerance_of(backend))
    mean, covariance = array([1.0, -2.0], backend), array([[1.0, 2.0], [2.0, 4.0]], backend)  # of rank 1
    found = sp.GaussianDenoiser(sde, mean, covariance).log_density(array(X, backend), 0.3)
    marginal = alpha**2 * host(covariance) + sigma**2 * np.eye(2)
    expected = multivariate_normal(alpha * host(mean), marginal).logpdf(X)
    assert_array(found, expected, backend, 10 * tolerance_of(backend))
