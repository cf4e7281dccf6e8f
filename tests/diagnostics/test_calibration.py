"""Calibration tests accept exact posteriors and reject wrong ones, each wrong in one known way.

A right posterior fails with p < 0.001 in a thousandth of fresh seeds, by construction.
"""

import functools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array

import sdeppl as sp

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
H, R = np.array([[1.0, 0.5], [0.0, 1.5]]), np.array([0.8, 0.3])


def prior(sets, seed):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, sets)


def simulate(truths, seed):
    return truths @ H.T + np.random.default_rng(seed).standard_normal((len(truths), 2)) * np.sqrt(R)


def log_likelihood(truths, ys, noise=R):
    return -0.5 * ((ys - truths @ H.T) ** 2 / noise + np.log(2 * np.pi * noise)).sum(axis=1)


def posteriors(ys, backend, noise=R, **settings):
    gaussian = sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))
    ys = array(ys, backend)
    seen = sp.LinearGaussian(array(H, backend), ys[0, :], array(noise, backend))
    return sp.Posteriors(gaussian, seen, ys, **settings)


def by_conditioning(ys, draws, seed, noise=R):
    """The exact posterior, by NumPy."""
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + np.diag(noise))
    root = np.linalg.cholesky(COVARIANCE - gain @ H @ COVARIANCE)
    z = np.random.default_rng(seed).standard_normal((len(ys), draws, 2))
    return (MEAN + (ys - MEAN @ H.T) @ gain.T)[:, None, :] + z @ root.T


def simulated(posterior, sets=1_000, draws=39, seed=0, **arguments):
    arguments = {"prior": prior, "simulate": simulate, "progress": False, **arguments}
    return sp.simulate_posteriors(posterior, sets, draws, seed=seed, **arguments)


@functools.cache
def exact(seed=0):
    return simulated(by_conditioning, log_likelihood=log_likelihood, seed=seed)


@pytest.mark.parametrize("selector", ["numpy", "torch"])
def test_an_amortised_posterior_is_accepted_and_half_the_noise_rejected(selector):
    """SBC with 1,000 data sets, TARP with 2,000."""
    backend = sp.resolve(selector)

    def posterior(ys, draws, seed, noise=R):
        found = posteriors(ys, backend, noise).sample(draws, seed=seed)
        assert sp.backend.backend_of(found).name == selector
        return found

    right = simulated(posterior, 2_000)
    thousand = sp.Simulations(right.truths["x"][:1_000], right.draws["x"][:1_000])
    assert sp.sbc(thousand).p > 1e-3
    found = sp.tarp(right)
    assert found.p > 1e-3 and found.deviation <= 0.05
    assert sp.coverage(right).trusted
    wrong = simulated(functools.partial(posterior, noise=R / 2), 2_000)
    thousand = sp.Simulations(wrong.truths["x"][:1_000], wrong.draws["x"][:1_000])
    rejected = sp.sbc(thousand)
    assert rejected.p < 1e-4 and "draws too narrow" in rejected.verdict
    for test in (sp.tarp, sp.coverage):
        assert test(wrong).p < 1e-4 and test(wrong).verdict.startswith("do not trust")


class Scaled(sp.TweedieDenoiser):
    """Guidance that is too weak: 0.8 of its shift of the mean."""

    def _guided(self, x, t, moments):
        guided = super()._guided(x, t, moments)
        mean = guided.prior.mean + 0.8 * (guided.mean - guided.prior.mean)
        return sp.likelihood.Guided(guided.prior, mean, guided.log_likelihood)


def test_guidance_scaled_by_0_8_is_rejected_and_unscaled_accepted():
    backend = sp.resolve("numpy")

    def posterior(ys, draws, seed, rung):
        found = posteriors(ys, backend, likelihood=rung, correction=None)
        return found.sample(draws, seed=seed)

    kinds = [functools.partial(posterior, rung=rung) for rung in (sp.TweedieDenoiser, Scaled)]
    right, wrong = (sp.sbc(simulated(kind, log_likelihood=log_likelihood)) for kind in kinds)
    assert right.p > 1e-3
    assert wrong.p < 1e-4, str(wrong)


def test_twisted_smc_is_accepted_and_dps_rejected():
    """A mixture of three modes, the sum of two numbers seen; its closed form is left unused."""
    weights = np.array([0.2, 0.5, 0.3])
    means, sds = np.array([[-4.0, 1.0], [0.0, -2.0], [3.0, 2.0]]), np.array([0.5, 1.0, 0.7])
    modes = sp.GaussianMixtureDenoiser(SDE, weights, means, np.eye(2) * sds[:, None, None] ** 2)

    def mixed(sets, seed):
        generator = np.random.default_rng(seed)
        chosen = generator.choice(3, sets, p=weights)
        return means[chosen] + sds[chosen, None] * generator.standard_normal((sets, 2))

    def summed(truths, seed):
        return truths.sum(axis=1, keepdims=True) + np.random.default_rng(seed).standard_normal(
            (len(truths), 1)
        )

    def posterior(ys, draws, seed, rung, correction):
        seen = sp.LinearGaussian(np.ones((1, 2)), ys[0], 1.0)
        return sp.Posteriors(modes, seen, ys, rung, correction=correction).sample(draws, seed=seed)

    corrected, published = (
        sp.sbc(
            simulated(functools.partial(posterior, rung=r, correction=c), 300, prior=mixed, simulate=summed)
        )
        for r, c in (("tweedie", "auto"), ("dps", None))
    )
    assert corrected.p > 1e-3, str(corrected)
    assert published.p < 1e-10 and "draws too wide" in published.verdict


def test_the_log_likelihood_sees_a_posterior_that_is_the_prior():
    def all_prior(ys, draws, seed):
        return prior(len(ys) * draws, seed).reshape(len(ys), draws, 2)

    found = simulated(all_prior, log_likelihood=log_likelihood)
    result = sp.sbc(found)
    assert min(result["x[0]"].p, result["x[1]"].p) > 1e-3
    assert result["ln p(y given ·)"].p < 1e-10 and not result.trusted
    # nor does TARP, unless its references know the data
    assert sp.tarp(found).trusted
    assert not sp.tarp(found, references=np.linalg.solve(H, found.data["x"].T).T).trusted


def test_tarp_by_hand():
    """References at minus infinity order draws by their first number: TARP's ranks are then SBC's, turned."""
    found = exact()
    far = np.column_stack([np.full(found.sets, -1e9), np.zeros(found.sets)])
    ranks = sp.tarp(found, references=far).tests[0].ranks
    expected = (found.draws["x"][:, :, 0] < found.truths["x"][:, None, 0]).sum(axis=1)
    assert np.abs(ranks - expected).max() <= 1
    assert np.mean(ranks == expected) > 0.99


def test_coverage_is_that_of_central_intervals():
    """Share of truths inside the central half of draws: within a step of the curve at 1/2."""
    found, result = exact(), sp.coverage(exact())
    low, high = np.quantile(found.draws["x"][:, :, 0], [0.25, 0.75], axis=1)
    inside = ((found.truths["x"][:, 0] > low) & (found.truths["x"][:, 0] < high)).mean()
    levels, shares = result["x[0]"].shares
    assert np.interp(0.5, levels, shares) == pytest.approx(inside, abs=0.03)
    with pytest.raises(KeyError, match="no quantity 'z'"):
        result["z"]
    assert "nothing in 1000 data sets with 39 draws" in str(result)


def test_local_c2st_sees_the_wrong_posterior_where_it_is_asked():
    y, draws = np.array([2.0, -2.0]), 400
    right = exact()
    at = by_conditioning(y[None, :], draws, 9)[0]
    accepted = sp.diagnostics.local_c2st(right, y, at, nulls=60, progress=False)
    assert accepted.p > 0.02 and accepted.trusted
    wrong = simulated(functools.partial(by_conditioning, noise=R / 2))
    at = by_conditioning(y[None, :], draws, 9, R / 2)[0]
    rejected = sp.local_c2st(wrong, y, at, nulls=60, progress=False)
    assert rejected.p == pytest.approx(1 / 61) and not rejected.trusted
    assert rejected.statistic > 4 * rejected.null.mean()
    with pytest.raises(ValueError, match="3 numbers, those of the simulations 2"):
        sp.local_c2st(right, np.zeros(3), at, nulls=1, progress=False)
    with pytest.raises(ValueError, match="need"):
        sp.local_c2st(sp.Simulations(right.truths, right.draws), y, at)


D = torch.float64


def line(y=None, noise=0.8):
    x = pyro.sample("x", dist.MultivariateNormal(torch.tensor(MEAN), torch.tensor(COVARIANCE)))
    pyro.sample("y", dist.Normal(torch.tensor(H) @ x, noise).to_event(1), obs=y)


def quieter(y=None):
    line(y, 0.8 / 2**0.5)


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(line, net=None).fit_gaussian(100_000, progress=False)


def test_a_guide_is_calibrated_against_its_own_model(guide):
    found = sp.simulate_posteriors(guide, 600, 39, progress=False, backend="numpy")
    assert set(found.data) == {"y"} and found.untrusted == 0
    assert "in one solve: closed form" in found.how
    assert sp.sbc(found).p > 1e-3
    expected = (-0.5 * ((found.data["y"] - found.truths["x"] @ H.T) / 0.8) ** 2).sum(axis=1) - 2 * np.log(
        0.8 * np.sqrt(2 * np.pi)
    )
    np.testing.assert_allclose(found.log_likelihood[0], expected, rtol=1e-9)
    wrong = sp.sbc(guide, 600, 39, progress=False, model=quieter)
    assert wrong.p < 1e-4
    assert [test.name for test in wrong.tests] == ["x[0]", "x[1]", "ln p(y given ·)"]


def test_posterior_sbc_is_right_at_one_data_set(guide):
    y = np.array([4.0, -4.0])
    assert sp.posterior_sbc(guide, y=y, sets=400, draws=39, progress=False).p > 1e-3
    wrong = sp.posterior_sbc(guide, y=y, sets=400, draws=39, progress=False, settings={"model": quieter})
    assert wrong.p < 1e-3 and wrong.kind == "posterior SBC"
    with pytest.raises(sp.ModelError, match="'y'; leave the site out"):
        sp.posterior_sbc(guide, y=np.array([1.0, np.nan]), progress=False)


def test_one_by_one_and_by_site():
    def single(y, draws, seed):
        return {"x": by_conditioning(y[None, :], draws, seed)[0]}

    found = simulated(
        single, 50, 20, one_by_one=True, prior=lambda sets, seed: {"x": prior(sets, seed)},
        simulate=lambda truths, seed: simulate(truths["x"], seed),
    )  # fmt: skip
    assert found.draws["x"].shape == (50, 20, 2) and found.how == "50 data sets, one by one"
    assert len({tuple(row) for row in found.draws["x"][:, 0]}) == 50
    assert sp.sbc(found).p > 1e-3
