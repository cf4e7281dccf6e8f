"""The one-file version and the library are given the same problems. Seeds 0 to 5."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdeppl as sp

SCRIPT = Path(__file__).parents[2] / "tutorials" / "mini_sdeppl.py"
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[-2.0, 0.5, 0.0], [1.5, 1.0, 0.5], [0.0, -1.5, 1.0]])
COVARIANCES = np.stack([np.diag([0.3, 0.5, 0.2]), np.diag([0.2, 0.2, 0.6]) + 0.1, np.diag([0.6, 0.1, 0.3])])
H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 1.0]]), np.array([0.8, 0.4]), np.diag([0.1, 0.2])


@pytest.fixture(scope="module")
def mini():
    spec = importlib.util.spec_from_file_location("mini_sdeppl", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mini_sdeppl"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def both(mini):
    """The same mixture in both, and the same observation."""
    ours = mini.Mixture(mini.VPSDE(), WEIGHTS, MEANS, COVARIANCES)
    theirs = sp.GaussianMixtureDenoiser(sp.VPSDE(), WEIGHTS, MEANS, COVARIANCES)
    return ours, theirs, mini.Observation(H, Y, R), sp.LinearGaussian(H, Y, R)


class LibraryNormals:
    """The normals that `sp.solve` takes from `Noise(seed)`: number 0 for the start, then one a step."""

    def __init__(self, seed):
        self.stream, self.step = sp.Noise(seed).stream(sp.resolve("numpy")), -1

    def standard_normal(self, shape):
        self.step += 1
        return self.stream.normal(self.step, shape)


def test_it_has_300_lines_and_needs_numpy_alone():
    text = SCRIPT.read_text("utf-8")
    assert len(text.splitlines()) <= 300
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name if isinstance(n, ast.Import) else n.module for n in nodes for alias in n.names}
    third_party = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert third_party == {"numpy", "matplotlib"}  # the latter only where there is one


def test_the_forward_sde_and_its_grid_are_the_librarys(mini):
    ours, theirs = mini.VPSDE(), sp.VPSDE()
    for t in (0.001, 0.2, 0.7, 1.0):
        np.testing.assert_allclose(ours.alpha_sigma(t), theirs.alpha_sigma(t), rtol=1e-13)
    np.testing.assert_allclose(ours.times(37), sp.log_snr_grid(theirs, 37), rtol=1e-9)


@pytest.mark.parametrize("t", [0.01, 0.2, 0.6, 1.0])
def test_mean_and_covariance_of_a_mixture_are_the_librarys(both, t):
    ours, theirs, _, _ = both
    x = theirs.marginals.sample(t, 50, seed=1)
    m, C = ours(x, t)
    moments = theirs(x, t)
    np.testing.assert_allclose(m, moments.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(C, moments.covariance.dense(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_the_reverse_sde_makes_the_librarys_steps(mini, both, c):
    ours, theirs, _, _ = both
    times = sp.log_snr_grid(sp.VPSDE(), 30)
    found = mini.sample(ours, 40, times, LibraryNormals(2), c)
    begin = mini.start(ours, 40, LibraryNormals(2))
    reverse = sp.ReverseSDE(sp.VPSDE(), theirs, c)
    solved = sp.solve(reverse, begin, times, solver=sp.ExponentialEuler(), noise=sp.Noise(2), keep="last")
    np.testing.assert_allclose(found, solved.states[-1], rtol=1e-9, atol=1e-10)


def test_the_mean_likelihood_is_the_librarys(both):
    ours, theirs, seen, observed = both
    x = theirs.marginals.sample(0.2, 30, seed=3)
    m_y, _, log_l = seen.condition(*ours(x, 0.2))
    guided = sp.TweedieDenoiser(theirs, observed, gradient="mean").guided(x, 0.2)
    np.testing.assert_allclose(m_y, guided.mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(log_l, guided.log_likelihood, rtol=1e-9, atol=1e-10)


def test_the_exact_posterior_is_the_librarys(mini, both):
    ours, theirs, seen, observed = both
    truth, log_evidence = mini.exact_posterior(ours, seen)
    exact = sp.exact_posterior(theirs, observed)
    assert log_evidence == pytest.approx(float(exact.log_evidence), rel=1e-10)
    np.testing.assert_allclose(truth.weights, np.exp(exact.denoiser.log_weights), rtol=1e-9)
    np.testing.assert_allclose(truth.means, exact.denoiser.means, rtol=1e-9)
    np.testing.assert_allclose(truth.covariances, exact.denoiser.covariances, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("steps", [10, 60])
def test_a_gaussian_posterior_is_exact_at_any_number_of_steps(mini, steps):
    """Of 20,000 draws means and covariances are within 4.5 standard errors; they miss once in 5,000 runs."""
    prior = mini.Mixture(mini.VPSDE(), np.ones(1), MEANS[1:2], COVARIANCES[1:2])
    seen, n = mini.Observation(H, Y, R), 20_000
    truth, log_evidence = mini.exact_posterior(prior, seen)
    rng = np.random.default_rng(4)
    x, found, share = mini.posterior(prior, seen, n, mini.VPSDE().times(steps), rng)
    assert share > 0.99  # so that the last resampling repeats hardly a draw
    assert found == pytest.approx(log_evidence, abs=1e-3)
    mean, C = truth.means[0], truth.covariances[0]
    sd = np.sqrt(np.diag(C))
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4.5 * sd / np.sqrt(n))
    assert np.all(np.abs(np.cov(x.T) - C) < 4.5 * np.sqrt(2 / n) * np.outer(sd, sd))


def test_a_mixture_posterior_is_exact_in_spite_of_an_approximate_likelihood(mini, both):
    """Ten independent runs: p(y) and the mean of p(x_0 given y), to 1% and 4.5 standard errors.

    What is left is the prior's own reverse SDE in steps: p(y) is off by 14, 4, 1.4 and .2% with 30, 60, 120
    and 240 of them.
    """
    ours, _, seen, _ = both
    truth, log_evidence = mini.exact_posterior(ours, seen)
    rng, times = np.random.default_rng(5), mini.VPSDE().times(240)
    runs = [mini.posterior(ours, seen, 300, times, rng) for _ in range(10)]
    ratios = np.exp([found - log_evidence for _, found, _ in runs])
    # a run counts by its p(y), as its draws alone are biased by about 1/particles
    off = np.stack(
        [ratio * (x.mean(axis=0) - truth.mean) for ratio, (x, _, _) in zip(ratios, runs, strict=True)]
    )
    errors = np.concatenate([ratios[:, None] - 1, off], axis=1)
    noise = errors.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert np.all(np.abs(errors.mean(axis=0)) < 0.01 + 4.5 * noise)
    assert np.all(noise < 0.02)  # or the runs would show nothing
    guided, _, _ = mini.posterior(ours, seen, 2_000, times[::4], rng, corrected=False)
    assert np.max(np.abs(guided.mean(axis=0) - truth.mean) / np.sqrt(np.diag(truth.covariance))) > 0.1


def test_the_librarys_check_accepts_its_score_and_refuses_a_longer_one(mini, both):
    """`check_score` fails an exact score once in a thousand."""
    ours, _, _, _ = both
    draws, sde = ours.draw(20_000, np.random.default_rng(0)), sp.VPSDE()

    def denoiser(scale):
        """ε̂ and the score times `scale`: x - α m is σ ε̂."""

        def mean(x, t):
            return (x - scale * (x - sde.alpha(t) * ours(x, t)[0])) / sde.alpha(t)

        return sp.CallableDenoiser(sde, mean, lambda x, t: None, dim=3, backend=sp.resolve("numpy"))

    assert sp.check_score(denoiser(1.0), draws).good
    assert not sp.check_score(denoiser(1.03), draws).good


def test_the_learned_denoiser_comes_nearer_to_the_exact_one_than_the_linear_guess(mini):
    """In the plane, from 20,000 draws; it is off by a fifth of what the linear guess is, or by a third."""
    sde, rng = mini.VPSDE(), np.random.default_rng(1)
    ours = mini.Mixture(sde, WEIGHTS, MEANS[:, :2], COVARIANCES[:, :2, :2])
    times = sde.times(10, 0.2)[6:10]
    learned = mini.Learned(sde, ours.draw(20_000, rng), times, rng)
    linear = mini.Learned(sde, ours.draw(20_000, rng), [], rng)
    for t in times:
        alpha, sigma = sde.alpha_sigma(t)
        x = alpha * ours.draw(2_000, rng) + sigma * rng.standard_normal((2_000, 2))
        exact, found, guessed = ours(x, t), learned(x, t), linear(x, t)
        for k, limit in ((0, 0.4), (1, 0.75)):  # the mean, the covariance
            off = [np.sqrt(np.mean((other[k] - exact[k]) ** 2)) for other in (found, guessed)]
            assert off[0] < limit * off[1], (t, k, off)


def test_run_as_a_script_it_ends_in_its_assertions_and_a_picture():
    picture = SCRIPT.parent / "output" / "quick" / "mini_sdeppl.png"
    picture.unlink(missing_ok=True)
    environment = os.environ | {"SDEPPL_TUTORIAL": "quick"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
