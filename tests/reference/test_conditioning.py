"""The exact posterior of linear Gaussian models, against conditioning by hand and the Kalman smoother."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import statsmodels.api as sm
import torch

import sdeppl as sp

D = torch.float64
Y = torch.tensor([2.5, -1.0, 0.3, 4.0], dtype=D)
DESIGN = torch.tensor([[1.0, 0.5], [1.0, -0.3], [1.0, 2.0], [1.0, 0.0]], dtype=D)


def regression(y=None):
    """An offset of its own prior, correlated slopes, plates, and noise that differs."""
    offset = pyro.sample("offset", dist.Normal(torch.tensor(0.7, dtype=D), 2.0))
    slopes = pyro.sample(
        "slopes",
        dist.MultivariateNormal(
            torch.tensor([1.0, -2.0], dtype=D), torch.tensor([[2.0, 0.9], [0.9, 1.5]], dtype=D)
        ),
    )
    mean = pyro.deterministic("mean", offset + DESIGN @ slopes)
    with pyro.plate("rows", 4):
        pyro.sample("y", dist.Normal(mean, torch.tensor([0.5, 0.3, 1.2, 0.8], dtype=D)), obs=y)


def by_hand(y):
    """Mean and covariance of (offset, slopes), and ln p(y)."""
    H = torch.cat([torch.ones((4, 1), dtype=D), DESIGN], dim=1)
    mean = torch.tensor([0.7, 1.0, -2.0], dtype=D)
    prior = torch.block_diag(torch.tensor([[4.0]], dtype=D), torch.tensor([[2.0, 0.9], [0.9, 1.5]], dtype=D))
    noise = torch.diag(torch.tensor([0.5, 0.3, 1.2, 0.8], dtype=D) ** 2)
    seen = ~torch.isnan(y)
    H, noise, y = H[seen], noise[seen][:, seen], y[seen]
    S = H @ prior @ H.T + noise
    gain = prior @ H.T @ torch.linalg.inv(S)
    evidence = torch.distributions.MultivariateNormal(H @ mean, S).log_prob(y)
    return mean + gain @ (y - H @ mean), prior - gain @ H @ prior, float(evidence)


@pytest.mark.parametrize("missing", [False, True])
def test_a_regression(missing):
    y = Y.clone()
    if missing:
        y[1] = math.nan
    found = sp.reference.exact(regression, {"y": y}, draws=20_000, seed=3)
    mean, covariance, evidence = by_hand(y)
    got = torch.cat([found.moments["offset"].mean.reshape(1), found.moments["slopes"].mean])
    sd = torch.cat([found.moments["offset"].sd.reshape(1), found.moments["slopes"].sd])
    assert torch.allclose(got, mean, rtol=1e-10) and torch.allclose(sd, covariance.diagonal().sqrt())
    assert found.log_evidence == pytest.approx(evidence, rel=1e-10)
    draws = torch.cat([found.draws["offset"][:, None], found.draws["slopes"]], dim=1)
    assert draws.shape == (20_000, 3) and draws.dtype == D
    # 5 standard errors of the means, and of covariances, at most √2 of sd sd each
    assert ((draws.mean(dim=0) - mean).abs() < 5 * sd / math.sqrt(20_000)).all()
    size = torch.outer(sd, sd)
    assert ((torch.cov(draws.T) - covariance).abs() < 5 * math.sqrt(2 / 20_000) * size).all()
    assert found.verdict.startswith("exact: conditioning of the joint Gaussian") and not found.reasons
    fewer = sp.reference.exact(regression, {"y": y}, draws=50, seed=3).draws["slopes"]
    assert torch.equal(fewer, found.draws["slopes"][:50])


def test_a_path_is_the_kalman_smoothers():
    """The Nile with two gaps: mean, standard deviation and ln p(y)."""
    flow = sm.datasets.nile.load_pandas().data["volume"].to_numpy(dtype=float).copy()
    flow[20:40] = flow[60:80] = np.nan

    def nile(y=None):
        start = dist.Normal(torch.tensor(1000.0, dtype=D), 500.0)
        level = pyro.sample("level", sp.SDEPath(sp.LinearSDE(a=0.0, b=38.3), start, range(100)))
        pyro.sample("y", dist.Normal(level, 122.9).to_event(1), obs=y)

    found = sp.reference.exact(nile, {"y": flow})
    smoother = sm.tsa.UnobservedComponents(flow, "local level", loglikelihood_burn=0)
    smoother.ssm.initialize_known(np.array([1000.0]), np.array([[500.0**2]]))
    smoother.ssm.loglikelihood_burn = 0
    result = smoother.smooth([122.9**2, 38.3**2])
    np.testing.assert_allclose(found.moments["level"].mean, result.smoothed_state[0], rtol=1e-9)
    np.testing.assert_allclose(found.moments["level"].sd, np.sqrt(result.smoothed_state_cov[0, 0]), rtol=1e-8)
    assert found.log_evidence == pytest.approx(result.llf, rel=1e-9)


def test_a_state_space_model_of_many_sites_in_float32():
    """x_k = .8 x_{k-1} + noise, one site each; to what float32 resolves."""

    def chain(y=None):
        x = pyro.sample("x0", dist.Normal(1.0, 2.0))
        for k in range(1, 6):
            x = pyro.sample(f"x{k}", dist.Normal(0.8 * x + 0.3, 0.5))
            pyro.sample(f"y{k}", dist.Normal(x, 0.4), obs=None if y is None else y[k - 1])

    y = [1.0, 0.2, -0.5, 0.1, 2.0]
    found = sp.reference.exact(chain, {f"y{k + 1}": v for k, v in enumerate(y)})
    A = np.eye(6) - 0.8 * np.eye(6, k=-1)
    precision = A.T @ np.diag([0.25] + [4.0] * 5) @ A + np.diag([0.0] + [1 / 0.16] * 5)
    slope = A.T @ (np.diag([0.25] + [4.0] * 5) @ np.array([1.0] + [0.3] * 5)) + np.r_[0, np.array(y)] / 0.16
    mean, covariance = np.linalg.solve(precision, slope), np.linalg.inv(precision)
    for k in range(6):
        exact = found.moments[f"x{k}"]
        assert float(exact.mean) == pytest.approx(mean[k], abs=1e-5) and exact.mean.dtype == torch.float32
        assert float(exact.sd) == pytest.approx(math.sqrt(covariance[k, k]), rel=1e-5)


def test_compare_takes_the_exact_moments():
    found = sp.reference.exact(regression, {"y": Y}, draws=400)
    other = sp.reference.exact(regression, {"y": Y}, draws=400, seed=5)
    right = sp.compare(other.draws, found, classifier=False)
    assert right.trusted and right["slopes"].mean_noise == pytest.approx(1 / math.sqrt(400))
    error = (other.draws["offset"].mean() - found.moments["offset"].mean) / found.moments["offset"].sd
    assert right["offset"].mean_error == pytest.approx(abs(float(error)))
    wrong = {name: 1.5 * value for name, value in other.draws.items()}
    assert not sp.compare(wrong, found, classifier=False).trusted


def test_hmc_agrees_with_it():
    exact = sp.reference.exact(regression, {"y": Y})
    hmc = sp.reference.hmc(regression, {"y": Y}, draws=60, warmup=120, chains=128, progress=False)
    assert sp.compare(hmc, exact, classifier=False).trusted, sp.compare(hmc, exact, classifier=False)


def sites_that_are_not():
    """Model, data, and the site that is named."""
    y = torch.tensor(1.3, dtype=D)
    zero = torch.tensor(0.0, dtype=D)

    def positive(y=None):
        s = pyro.sample("s", dist.LogNormal(zero, 1.0))
        pyro.sample("y", dist.Normal(s, 1.0), obs=y)

    def scale(y=None):
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        pyro.sample("y", dist.Normal(x, (0.1 * x).exp()), obs=y)

    def bent(y=None):
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        pyro.sample("y", dist.Normal(x + 0.01 * x**2, 1.0), obs=y)

    def child(y=None):
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        z = pyro.sample("z", dist.StudentT(5.0, x, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def counts(y=None):
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        pyro.sample("y", dist.Poisson(x.exp()), obs=y)

    def far(y=None):  # its bend lies where the posterior is, and no draw of the prior
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        pyro.sample("y", dist.Normal(x.clamp(max=15.0), 0.01), obs=y)

    def hard(y=None):
        x = pyro.sample("x", dist.Normal(zero, 1.0))
        pyro.sample("y", dist.Delta(2 * x), obs=y)

    return {
        "latent site 's' lives on": (positive, y),
        "site 'y' is not Gaussian": (scale, y),
        "site 'y' is not Gaussian with a mean that is affine": (bent, y),
        "site 'z' is not Gaussian": (child, y),
        "site 'y' is not Gaussian with a mean": (counts, torch.tensor(3.0, dtype=D)),
        "site 'y' is not Gaussian with a mean that": (far, torch.tensor(20.0, dtype=D)),
        "site 'y' is not": (hard, y),
    }


@pytest.mark.parametrize("message", sites_that_are_not())
def test_sites_that_are_not_are_named(message):
    model, y = sites_that_are_not()[message]
    with pytest.raises(sp.ModelError, match=message):
        sp.reference.exact(model, {"y": y})


def test_a_prior_that_says_nothing_and_a_model_outside_torch():
    def flat(y=None):
        x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=D), 1.0).mask(False).to_event(1))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    with pytest.raises(sp.ModelError, match="no maximum along some direction: the prior is improper"):
        sp.reference.exact(flat, {"y": torch.tensor(1.0, dtype=D)})

    def numpy(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        pyro.sample("y", dist.Normal(torch.as_tensor(2 * np.asarray(x)), 1.0), obs=y)

    with (
        pytest.warns(Warning, match="cannot be run for many draws"),
        pytest.raises(sp.ModelError, match="write the model in torch alone"),
    ):
        sp.reference.exact(numpy, {"y": torch.tensor(1.0, dtype=D)})
