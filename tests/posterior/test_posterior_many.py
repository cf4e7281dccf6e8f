"""Many data sets in one solve: each has the posterior that it would have alone."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood import exact_posterior
from sdeppl.posterior.twisted import Pilot

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
H, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([0.2, 0.6])
YS = np.array([[1.5, 0.0], [4.0, 3.0], [0.0, -2.0], [2.0, 1.0], [1.0, 4.0]])
MEANS = np.array([[-4.0, 1.0, 0.0], [3.0, 2.0, 1.0]])
COVARIANCES = np.stack([covariance_matrix(3, seed, 0.2, 1.5) for seed in (1, 2)])


def gaussian(backend):
    return sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))


def mixture(backend):
    return sp.GaussianMixtureDenoiser(
        SDE, array([0.4, 0.6], backend), array(MEANS, backend), array(COVARIANCES, backend)
    )


def seen(backend, y=YS[0]):
    return sp.LinearGaussian(array(H, backend), array(y, backend), array(R, backend))


@pytest.mark.parametrize("prior", [gaussian, mixture])
def test_moments_of_each_data_set_are_the_exact_ones(prior):
    """Within 5 standard errors in mean and 6% in standard deviations: 1 in 1,000 fresh seeds fails."""
    backend, n = sp.resolve("numpy"), 4_000
    posteriors = sp.Posteriors(prior(backend), seen(backend), YS, steps=200)
    run = posteriors.run(n, seed=3)
    assert run.draws.shape == (len(YS), n, 3)
    assert run.trusted and run.text == "5 data sets in one solve: closed form for each data set"
    for i, y in enumerate(YS):
        exact = exact_posterior(prior(backend), seen(backend, y))
        assert run.diagnoses[i].log_evidence == pytest.approx(float(exact.log_evidence), abs=1e-9)
        if prior is gaussian:
            mean = exact.denoiser.location
            sd = np.sqrt(
                np.diag((exact.denoiser.basis * exact.denoiser.eigenvalues) @ exact.denoiser.basis.T)
            )
        else:
            weights, means = np.exp(exact.denoiser.log_weights), exact.denoiser.means
            mean = weights @ means
            within = np.diagonal(exact.denoiser.covariances, axis1=1, axis2=2)
            sd = np.sqrt(weights @ (within + (means - mean) ** 2))
        assert np.all(np.abs(run.draws[i].mean(axis=0) - mean) < 5 * sd / np.sqrt(n) + 0.005 * sd)
        np.testing.assert_allclose(run.draws[i].std(axis=0), sd, rtol=0.06)


def test_the_first_data_set_has_the_numbers_of_a_single_query(precise):
    for i in (0, 3):
        order = [i, *(k for k in range(len(YS)) if k != i)]
        many = sp.Posteriors(gaussian(precise), seen(precise), array(YS[order], precise))
        single = sp.Posterior(gaussian(precise), seen(precise, YS[i]))
        draws = many.sample(7, seed=4)
        assert_array(draws[0, ...], host(single.sample(7, seed=4)), precise, 1e-9)
        # blocks have noise of their own, rows in a block too
        assert np.abs(host(draws[0, ...]) - host(draws[1, ...])).min() > 1e-6


@pytest.mark.parametrize("likelihood", ["naive", "dps", "sda", "pigdm", "tweedie"])
def test_uncorrected_guidance_is_the_single_one(likelihood, precise):
    settings = {"likelihood": likelihood, "correction": None, "noise_to_signal": 1e-3, "steps": 20}
    many = sp.Posteriors(mixture(precise), seen(precise), array(YS, precise), **settings)
    single = sp.Posterior(mixture(precise), seen(precise), **settings)
    run = many.run(3, seed=1)
    if likelihood != "naive":  # blown up, and far from all numbers that could agree
        assert_array(run.draws[0, ...], host(single.sample(3, seed=1)), precise, 1e-7)
    assert not run.trusted and run.diagnoses == () and "not corrected" in run.text


@pytest.mark.once
def test_a_run_does_not_depend_on_other_data_sets(precise):
    """Given times and settings, which a pilot chooses for all; blocks of 4,096 particles as they come."""
    many = sp.Posteriors(mixture(precise), seen(precise), array(YS, precise), "tweedie")
    fewer = sp.Posteriors(mixture(precise), seen(precise), array(YS[[0, 1, 4]], precise), "tweedie")
    pilot = Pilot.of(many.problem)
    twist = pilot.twist.of_sets(index(precise, [0, 1, 4]))
    fewer.problem.once("twisted pilot", lambda: dataclasses.replace(pilot, twist=twist))
    stream = sp.Noise(2).stream(precise)
    draws, found = many.correction.draw(many.problem, 20, stream)
    again, _ = fewer.correction.draw(fewer.problem.of([0, 1]), 20, stream)
    assert_array(again, host(draws)[:2], precise, 1e-9)
    assert [d.runs for d in found] == [8] * 5


def index(backend, numbers):
    return backend.xp.asarray(list(numbers), dtype=backend.xp.int64, device=backend.device)


def test_twisted_draws_are_the_exact_posteriors():
    """Ranks of exact draws among 400 of each of 40 data sets; 1 in 10⁴ fresh seeds fails."""
    backend, generator = sp.resolve("numpy"), np.random.default_rng(8)
    truths = exact_posterior(mixture(backend), sp.LinearGaussian(np.zeros((0, 3)), np.zeros(0), 1.0))
    truths = truths.denoiser.sample(1e-9, generator.random(40), generator.standard_normal((40, 3)))
    ys = truths @ H.T + generator.standard_normal((40, 2)) * np.sqrt(R)
    run = sp.Posteriors(mixture(backend), seen(backend), ys, "tweedie").run(200, seed=5)
    assert run.trusted
    errors = [
        found.log_evidence - float(exact_posterior(mixture(backend), seen(backend, y)).log_evidence)
        for found, y in zip(run.diagnoses, ys, strict=True)
    ]
    assert np.abs(errors).max() < 0.6 and abs(np.mean(errors)) < 0.05
    shares = (run.draws < truths[:, None, :]).mean(axis=1)
    for shares_of_number in shares.T:
        assert scipy.stats.kstest(shares_of_number, "uniform").pvalue > 1e-4


def waves(y):
    """cos 9 x seen with little noise: many narrow modes, of which guidance finds some."""
    return sp.NonlinearGaussian(
        lambda x: (np.cos(9 * x), -9 * np.sin(9 * x)[..., None]), 1, np.asarray(y), 1e-4
    )


def test_what_is_not_to_be_trusted_is_solved_again_and_said():
    prior = sp.GaussianDenoiser(SDE, np.zeros(1), np.eye(1))
    ys = np.array([[0.2], [0.9]])
    run = sp.Posteriors(prior, waves([0.2]), ys).run(30)
    assert "of them again with runs of 8 times the particles, and 1 by themselves" in run.text
    assert len(run.alone) == 1 and run.trusted and "a query of one would temper" not in run.text
    # each draw lies where the data of its own set allow
    assert np.all(np.abs(np.cos(9 * run.draws[:, :, 0]) - ys) < 6e-2)
    with pytest.warns(sp.UntrustedWarning, match="2 of 2 are not to be trusted"):
        run = sp.Posteriors(prior, waves([0.2]), ys, "naive").run(30)
    assert not run.trusted and run.alone == ()


def test_corrections_that_are_not_batched_loop_and_say_so():
    backend = sp.resolve("numpy")
    few = sp.TemperedSMC(particles=32, moves=2)
    run = sp.Posteriors(gaussian(backend), seen(backend), YS[:2], correction=few).run(3, seed=1)
    assert run.text == "2 data sets, each solved by itself: TemperedSMC is not batched"
    assert run.alone == (0, 1) and run.draws.shape == (2, 3, 3)
    one = sp.Posterior(gaussian(backend), seen(backend))
    run = sp.Posteriors(gaussian(backend), None, None, one=lambda number: one, sets=2).run(3)
    assert "not a function of the data alone" in run.text
    assert not np.array_equal(run.draws[0], run.draws[1])  # each with noise of its own


def test_errors():
    backend = sp.resolve("numpy")
    with pytest.raises(ValueError, match="at least one data set"):
        sp.Posteriors(gaussian(backend), seen(backend), YS[0])
    with pytest.raises(ValueError, match="draws must be a whole number"):
        sp.Posteriors(gaussian(backend), seen(backend), YS).sample(0)
    with pytest.raises(ValueError, match="solver= is not for a corrected solve"):
        sp.Posteriors(mixture(backend), seen(backend), YS, "tweedie").sample(3, solver=sp.ExponentialHeun())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 10}, "10 steps are few"),
        ({"sde": sp.VPSDE(T=0.3)}, "the forward SDE ends with signal left"),
    ],
)
def test_a_warning_is_said_once_of_all_data_sets(settings, words):
    """Each of three is solved by itself, and each would warn."""
    backend = sp.resolve("numpy")
    sde, steps = settings.get("sde", SDE), settings.get("steps", 30)
    prior = sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))

    def one(number):
        return sp.Posterior(prior, seen(backend, YS[number]), "tweedie", steps, correction=None)

    posteriors = sp.Posteriors(prior, None, None, one=one, sets=3)
    with pytest.warns(UserWarning, match=words) as caught:
        posteriors.run(5)
    assert sum(words in str(warning.message) for warning in caught) == 1
