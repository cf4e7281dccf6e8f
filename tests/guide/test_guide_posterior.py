"""Posteriors of Gaussian models against exact conditioning.

With N draws and moments from M draws, a posterior mean is off by Monte Carlo error, sd/√N, and by the
error of the estimated prior, of the order of prior sd/√M. Tests allow 5 times both together.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
M, N = 200_000, 20_000
nan = math.nan
PRIOR_MEAN = np.array([1.0, -2.0, 30.0])
ROOT = np.array([[2.0, 0.0, 0.0], [0.6, 0.3, 0.0], [-4.0, 5.0, 10.0]])
PRIOR_COVARIANCE = ROOT @ ROOT.T
H = np.array([[1.0, 0.0, 0.1], [0.0, 2.0, -0.05], [0.5, 0.5, 0.02]])
SHIFT = np.array([0.3, -1.0, 4.0])
NOISE = np.array([0.5, 0.2, 0.9])
Y = np.array([3.7, -6.0, 5.2])


def prior():
    return pyro.sample("x", dist.MultivariateNormal(torch.tensor(PRIOR_MEAN), scale_tril=torch.tensor(ROOT)))


def vector_model(y=None, operator=H, noise=NOISE):
    x = prior()
    mean = torch.as_tensor(operator) @ x + torch.tensor(SHIFT)
    pyro.sample("y", dist.Normal(mean, torch.as_tensor(noise)).to_event(1), obs=y)


def exact(y, operator=H, noise=NOISE, mean=PRIOR_MEAN, covariance=PRIOR_COVARIANCE, shift=SHIFT):
    seen = ~np.isnan(y)
    operator, noise, y = operator[seen], noise[seen], (y - shift)[seen]
    gain = np.linalg.solve(operator @ covariance @ operator.T + np.diag(noise**2), operator @ covariance).T
    return mean + gain @ (y - operator @ mean), covariance - gain @ operator @ covariance


def agree(draws, mean, covariance, prior_sd):
    """Means and covariances within 5 standard errors of draws and estimated prior together."""
    draws = np.asarray(draws, dtype=float)
    sd, n = np.sqrt(np.diag(covariance)), len(draws)
    # the gain moves by at most about 1/√M relative, so the mean by that part of the prior's own scale
    allowed = 5 * (sd / math.sqrt(n) + 3 * prior_sd / math.sqrt(M))
    assert np.all(np.abs(draws.mean(0) - mean) < allowed), (draws.mean(0) - mean) / allowed
    scale = np.outer(sd, sd)
    found = np.atleast_2d(np.cov(draws.T))
    np.testing.assert_allclose(
        found / scale, covariance / scale, atol=5 * (1.5 / math.sqrt(n) + 3 / math.sqrt(M))
    )


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(vector_model, net=None, seed=1).fit_gaussian(M, progress=False)


PRIOR_SD = np.sqrt(np.diag(PRIOR_COVARIANCE))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("c", [0.0, 1.0])
def test_correlated_prior(guide, backend, c):
    draws = guide.condition(y=Y, backend=backend).sample(N, seed=3, c=c)["x"]
    assert draws.shape == (N, 3)
    assert draws.dtype == (np.float64 if backend == "numpy" else D)
    agree(draws, *exact(Y), PRIOR_SD)


def test_missing_entries(guide):
    y = np.array([3.7, nan, 5.2])
    agree(guide.condition({"y": y}).sample(N)["x"], *exact(y), PRIOR_SD)


def test_another_operator_and_another_noise(guide):
    operator, noise = 2 * H[::-1].copy(), 3 * NOISE
    expected = exact(Y, operator, noise)

    def other(y=None):
        vector_model(y, operator, noise)

    agree(guide.condition(y=Y, model=other).sample(N)["x"], *expected, PRIOR_SD)
    inputs = {"operator": operator, "noise": noise}
    one = guide.condition(y=Y, kwargs=inputs).sample(50)["x"]
    positional = guide.condition(y=Y, args=(None, operator, noise)).sample(50)["x"]
    torch.testing.assert_close(one, guide.condition(y=Y, model=other).sample(50)["x"], rtol=1e-9, atol=1e-9)
    assert torch.equal(one, positional)


def test_arguments_given_to_the_guide_are_its_defaults():
    operator = torch.tensor(2 * H)
    guide = sp.ScoreGuide(vector_model, net=None, args=(None, operator)).fit_gaussian(2000, progress=False)
    default = guide.condition(y=Y).sample(20)["x"]
    same = guide.condition(y=Y, args=(None, operator.clone())).sample(20)["x"]
    other = guide.condition(y=Y, args=(None, operator / 2)).sample(20)["x"]
    assert torch.equal(default, same)
    assert float((default - other).abs().max()) > 0.1


def test_backends_give_the_same_draws(guide):
    one = guide.condition(y=Y, backend="numpy").sample(200, seed=5)["x"]
    other = guide.condition(y=Y, backend="torch").sample(200, seed=5)["x"]
    np.testing.assert_allclose(one, other.numpy(), rtol=1e-9, atol=1e-9)
    assert not np.allclose(one, guide.condition(y=Y, backend="numpy").sample(200, seed=6)["x"])


def two_sites(y=None, w=None):
    mu = pyro.sample("mu", dist.Normal(torch.tensor(2.0, dtype=D), 3.0))
    with pyro.plate("groups", 3):
        theta = pyro.sample("theta", dist.Normal(mu, 0.8))
        pyro.sample("y", dist.Normal(5 * theta - 1, 2.0), obs=y)
    pyro.sample("w", dist.Normal(mu + theta[0], 0.6), obs=w)


@pytest.fixture(scope="module")
def hierarchy():
    return sp.ScoreGuide(two_sites, net=None, latents=["mu", "theta"]).fit_gaussian(M, progress=False)


@pytest.mark.parametrize("observed", ["y", "w", "both", "some of each"])
def test_two_latents_with_a_plate_and_two_observed_sites(hierarchy, observed):
    mean = np.full(4, 2.0)
    covariance = np.full((4, 4), 9.0) + np.diag([0, 0.64, 0.64, 0.64])
    operator = np.array([[0, 5.0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5], [1, 1, 0, 0]])
    noise, shift = np.array([2.0, 2.0, 2.0, 0.6]), np.array([-1.0, -1, -1, 0])
    values = np.array([11.0, 9.0, 17.0, 6.5])
    if observed == "y":
        values[3] = nan
        data = {"y": values[:3]}
    elif observed == "w":
        values[:3] = nan
        data = {"w": 6.5}
    else:
        if observed == "some of each":
            values[1:3] = nan
        data = {"w": values[3], "y": values[:3]}
    draws = hierarchy.condition(**data).sample(N)
    assert (draws["mu"].shape, draws["theta"].shape) == ((N,), (N, 3))
    both = torch.cat([draws["mu"][:, None], draws["theta"]], dim=1)
    agree(both, *exact(values, operator, noise, mean, covariance, shift), np.sqrt(np.diag(covariance)))


def test_what_the_model_observes_by_itself_counts():
    """y1 is fixed inside the model; y2 comes with the call, or does not; a given y1 replaces the fixed."""

    def fixed(y2=None):
        x = prior()
        mean = torch.tensor(H) @ x + torch.tensor(SHIFT)
        pyro.sample("y1", dist.Normal(mean[:2], torch.tensor(NOISE[:2])).to_event(1), obs=torch.tensor(Y[:2]))
        pyro.sample("y2", dist.Normal(mean[2], NOISE[2]), obs=y2)

    guide = sp.ScoreGuide(fixed, net=None, seed=1).fit_gaussian(M, progress=False)
    both = guide.condition(y2=Y[2], backend="numpy").sample(N, seed=3)["x"]
    agree(both, *exact(Y), PRIOR_SD)
    alone = guide.condition(backend="numpy").sample(N, seed=3)["x"]
    agree(alone, *exact(np.array([Y[0], Y[1], nan])), PRIOR_SD)
    replaced = guide.condition(y1=Y[:2] + 1.0, y2=Y[2], backend="numpy").sample(N, seed=3)["x"]
    agree(replaced, *exact(Y + np.array([1.0, 1.0, 0.0])), PRIOR_SD)


def test_probes_near_the_posterior_have_its_moments(guide):
    """256 of them: standard error of a mean 0.0625 sd; four of them. NaN is left out."""
    from sdeppl.query import posterior_probes
    from sdeppl.tracing import read_sites

    y = np.array([Y[0], nan, Y[2]])
    draws = guide.prior_batch(256, 7)
    sites = read_sites(vector_model, guide.space, {"y": torch.tensor(y)}, draws)
    probes = posterior_probes(sites, guide.gaussian, draws, 0).numpy()
    mean, covariance = exact(y)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(probes.mean(0) - mean) < 0.25 * sd)
    np.testing.assert_allclose(probes.std(0), sd, rtol=4 * math.sqrt(0.5 / 256))


@pytest.mark.parametrize("start_sd", [1e5, 1e6])
def test_a_diffuse_start_of_a_path(start_sd):
    """A random walk of 40 years from a start known to a million: rms over the years, 4,000 draws."""

    def walk(y=None):
        start = dist.Normal(torch.tensor(0.0, dtype=D), start_sd)
        x = pyro.sample("x", sp.SDEPath(sp.LinearSDE(a=0.0, b=38.0), start, range(40)))
        pyro.sample("y", dist.Normal(x, 120.0).to_event(1), obs=y)

    years = np.arange(40)
    y = 900 + 60 * np.sin(years)
    y[10:25] = nan
    covariance = start_sd**2 + 38.0**2 * np.minimum.outer(years, years)
    mean, covariance = exact(y, np.eye(40), np.full(40, 120.0), np.zeros(40), covariance, 0.0)
    guide = sp.ScoreGuide(walk, net=None).fit_gaussian(M, progress=False)
    draws = guide.condition(y=y, backend="numpy").sample(4_000, seed=1)
    reference = sp.reference.Exact(mean, np.sqrt(np.diag(covariance)))
    found = sp.compare(draws, {"x": reference})["x"]
    assert found.mean_error < 0.06
    assert found.sd_error < 0.04


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_learned_prior_can_be_drawn_from(guide, backend):
    """Without data: moments in the site's units, within 5 standard errors (seed 1)."""
    found = guide.prior(backend=backend).run(N, seed=1)
    assert found.draws["x"].dtype == (np.float64 if backend == "numpy" else D)
    draws = np.asarray(sp.to_host(found.draws["x"]))
    assert draws.shape == (N, 3) and "exact" in str(found.diagnosis)
    sd = np.sqrt(np.diag(PRIOR_COVARIANCE))
    noise = 5 * (1 / math.sqrt(N) + 1 / math.sqrt(M))
    assert (np.abs(draws.mean(axis=0) - PRIOR_MEAN) < noise * sd).all()
    np.testing.assert_allclose(np.corrcoef(draws.T), PRIOR_COVARIANCE / np.outer(sd, sd), atol=noise)
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=noise)
