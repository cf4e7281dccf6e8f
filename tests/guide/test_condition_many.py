"""One guide on many data sets at once, against single queries and exact conditioning."""

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
PRIOR_MEAN, PRIOR_SD = np.array([1.0, 2.0]), np.array([2.0, 0.7])
H = np.stack([np.linspace(-1.0, 1.0, 4), np.ones(4)], axis=1)
YS = np.random.default_rng(1).normal(2.0, 1.5, (6, 4))


def latents():
    mean, sd = torch.tensor(PRIOR_MEAN), torch.tensor(PRIOR_SD)
    return pyro.sample("x", dist.Normal(mean, sd).to_event(1))


def line(y=None):
    pyro.sample("y", dist.Normal(torch.tensor(H) @ latents(), 0.5).to_event(1), obs=y)


def counts(y=None):
    rate = (0.3 * torch.tensor(H) @ latents()).exp()
    pyro.sample("y", dist.Poisson(rate).to_event(1), obs=y)


def ratios(y=None):
    pyro.sample("y", dist.LogNormal(torch.tensor(H) @ latents(), 0.5).to_event(1), obs=y)


def scaled(y=None):
    with pyro.plate("scales", 2):
        scale = pyro.sample("s", dist.Gamma(torch.tensor(3.0, dtype=D), torch.tensor(2.0, dtype=D)))
    pyro.sample("y", dist.Normal(torch.tensor(H) @ scale, 0.5).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    return fitted(line)


def fitted(model):
    return sp.ScoreGuide(model, net=None).fit_gaussian(20_000, progress=False)


def exact(guide, *ys):
    """Mean and covariance by conditioning the guide's own Gaussian prior, on as many experiments as ys."""
    part = guide.gaussian
    scale = part.scale.numpy()
    C = scale[:, None] * ((part.basis * part.eigenvalues) @ part.basis.T).numpy() * scale
    stacked = np.concatenate([H] * len(ys))
    gain = C @ stacked.T @ np.linalg.inv(stacked @ C @ stacked.T + 0.25 * np.eye(len(stacked)))
    mean = part.location.numpy()
    return mean + gain @ (np.concatenate(ys) - stacked @ mean), C - gain @ stacked @ C


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_moments_are_those_of_exact_conditioning(guide, backend):
    """Within 5 standard errors, and 7% in standard deviations: 1 in 10⁴ fresh seeds fails."""
    run = guide.condition_many(y=YS, backend=backend).run(4_000, seed=2)
    assert run.trusted and run.alone == ()
    assert tuple(run.draws["x"].shape) == (6, 4_000, 2)
    for y, draws in zip(YS, np.asarray(run.draws["x"]), strict=True):
        mean, covariance = exact(guide, y)
        sd = np.sqrt(np.diag(covariance))
        assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * sd / math.sqrt(4_000) + 0.01 * sd)
        np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.07)


def test_the_first_data_set_has_the_draws_of_a_single_query(guide):
    for first in (0, 4):
        ys = np.roll(YS, -first, axis=0)
        many = guide.condition_many(y=ys).sample(5, seed=3)["x"]
        single = guide.condition(y=YS[first]).sample(5, seed=3)["x"]
        np.testing.assert_allclose(many[0], single, rtol=1e-9)


def test_log_likelihoods_are_the_models_own():
    trained = fitted(scaled)
    posteriors = trained.condition_many(y=YS, backend="numpy")
    values = np.random.default_rng(2).gamma(3.0, 0.5, (6, 3, 2))
    predicted = values @ H.T
    expected = (-0.5 * ((YS[:, None, :] - predicted) / 0.5) ** 2).sum(axis=-1) - 4 * (
        math.log(0.5) + 0.5 * math.log(2 * math.pi)
    )
    np.testing.assert_allclose(posteriors.log_likelihood({"s": values}), expected, rtol=1e-9)


def test_counts_are_batched_and_agree_with_single_queries():
    """Means of 600 draws within 5 standard errors of each other; 1 in 10⁴ fresh seeds fails."""
    trained = fitted(counts)
    ys = np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 3.0, 2.0, 1.0]])
    run = trained.condition_many(y=ys, backend="numpy").run(600, seed=5)
    assert run.text.startswith("2 data sets in one solve") and run.trusted
    # which way it took, and that a single query takes another
    assert "twisted SMC (a query of one would temper" in run.text and "would temper" in str(run.diagnoses[0])
    assert "tempered SMC" in str(trained.condition(y=ys[0], backend="numpy").run(50).diagnosis)
    for i, y in enumerate(ys):
        single = trained.condition(y=y, backend="numpy").sample(600, seed=9)["x"]
        error = np.hypot(single.std(axis=0), run.draws["x"][i].std(axis=0)) / math.sqrt(600)
        assert np.all(np.abs(single.mean(axis=0) - run.draws["x"][i].mean(axis=0)) < 6 * error)


def test_what_cannot_be_batched_is_looped_over_and_said(guide):
    """A log-normal's slope depends on its data; gaps that differ leave other numbers."""
    trained = fitted(ratios)
    run = trained.condition_many(y=np.exp(YS[:2]), backend="numpy").run(400, seed=1)
    assert run.alone == (0, 1) and "not a function of the data alone" in run.text
    for i in (0, 1):
        mean, covariance = exact(trained, YS[i])
        assert np.all(np.abs(run.draws["x"][i].mean(axis=0) - mean) < 6 * np.sqrt(np.diag(covariance) / 400))
    gaps = YS[:2].copy()
    gaps[1, 2] = math.nan
    run = guide.condition_many(y=gaps, backend="numpy").run(5)
    assert run.alone == (0, 1)
    gaps[0, 2] = math.nan  # the same gap in both is no obstacle
    assert guide.condition_many(y=gaps, backend="numpy").run(5).alone == ()


def test_a_second_experiment_is_given_to_all(guide):
    posteriors = guide.condition_replicates({"y": YS[1:3]}, {"y": YS[0]}, backend="numpy")
    run = posteriors.run(3_000, seed=6)
    for i in (0, 1):
        mean, covariance = exact(guide, YS[1 + i], YS[0])
        sd, draws = np.sqrt(np.diag(covariance)), run.draws["x"][i]
        assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * sd / math.sqrt(3_000) + 0.01 * sd)
        np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.07)


def test_errors_name_the_sites(guide):
    with pytest.raises(sp.ModelError, match="as many data sets"):
        guide.condition_many(y=3.0)
    with pytest.raises(sp.ModelError, match="shape"):
        guide.condition_many(y=YS[:, :3])
    with pytest.raises(sp.ModelError, match="y"):
        guide.condition_many()


def test_many_follow_the_models_density_where_one_would():
    """x ~ Laplace(1, 2), y ~ N(x, 2²), nothing trained: means by quadrature, at 5 standard errors of what the
    draws are worth (half of 2,000)."""

    def model(y=None):
        x = pyro.sample("x", dist.Laplace(torch.tensor(1.0, dtype=D), 2.0))
        pyro.sample("y", dist.Normal(x, 2.0), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=20_000).fit(steps=0, progress=False)
    ys, t = np.array([11.0, -3.0]), np.linspace(-25, 35, 600_001)
    posteriors = guide.condition_many(y=ys, backend="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", sp.UntrustedWarning)
        run = posteriors.run(2_000, seed=1)
        posteriors.sample(10)
    assert run.trusted and {found.prior for found in run.diagnoses} == {"known"}
    assert "each on the model's own density" in run.text and run.alone == (0, 1)
    for draws, y in zip(run.draws["x"], ys, strict=True):
        w = np.exp(-abs(t - 1) / 2 - 0.5 * ((y - t) / 2) ** 2)
        mean = (w * t).sum() / w.sum()
        sd = math.sqrt((w * (t - mean) ** 2).sum() / w.sum())
        assert abs(draws.mean() - mean) < 5 * sd / math.sqrt(1_000)


def test_samples_by_what_was_learned_say_what_runs_say():
    """Of one and of many: a correction that keeps the learned prior, which is not the model's."""

    def model(y=None):
        x = pyro.sample("x", dist.Laplace(torch.tensor(1.0, dtype=D), 2.0))
        pyro.sample("y", dist.Normal(x, 2.0), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=20_000).fit(steps=0, progress=False)
    for correction in (None, sp.TwistedSMC()):
        one = guide.condition(y=11.0, backend="numpy", correction=correction)
        many = guide.condition_many(y=np.array([11.0, -3.0]), backend="numpy", correction=correction)
        for posterior in (one, many):
            with pytest.warns(sp.UntrustedWarning, match="do not trust"):
                posterior.sample(20)
            with pytest.warns(sp.UntrustedWarning, match="not to be trusted|do not trust"):
                posterior.run(20)
