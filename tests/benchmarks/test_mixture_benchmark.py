"""The mixture problem's exact answers, and the peers where the prior is one Gaussian."""

import importlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import sdeppl as sp

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SDE = sp.VPSDE(sp.LinearSchedule(0.1, 30.0))


@pytest.fixture
def script(monkeypatch):
    """A benchmark's module by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def moments(problem):
    """Mean (d_x,) and covariance of x_0 given y, component by component."""
    A, S = problem.A, problem.A @ problem.A.T + problem.sd**2 * np.eye(problem.count)
    logs = [multivariate_normal(A @ m, S).logpdf(problem.y) for m in problem.means]
    shares = problem.weights * np.exp(logs - np.max(logs))
    shares = shares / shares.sum()
    gain = np.linalg.solve(S, A).T
    centres = problem.means + (problem.y - problem.means @ A.T) @ gain.T
    mean = shares @ centres
    apart = centres - mean
    return mean, np.eye(problem.dim) - gain @ A + (shares[:, None] * apart).T @ apart


@pytest.mark.parametrize("cell", [(8, 1), (8, 4)])
def test_exact_draws_have_the_exact_moments(cell, script):
    """100,000 draws: means and covariances within 5 of their own standard errors. A component whose expected
    count is below one would be missed, and add less than that."""
    problem, n = script("mixture_problems").make(cell, 3), 100_000
    draws = problem.exact_draws(n, np.random.default_rng(0))
    mean, covariance = moments(problem)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * sd / math.sqrt(n))
    apart = draws - mean
    products = apart[:, :, None] * apart[:, None, :]
    assert np.all(np.abs(products.mean(axis=0) - covariance) < 5 * products.std(axis=0) / math.sqrt(n))


def test_construction_and_evidence(script):
    problem = script("mixture_problems").make((8, 2), 5)
    assert problem.means.shape == (25, 8) and problem.weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(problem.means[0], [16.0] * 8)
    np.testing.assert_array_equal(problem.means[7, :4], [8.0, 0.0, 8.0, 0.0])
    V, s, y = problem.frame()
    assert np.all((s > 0) & (s < 1)) and 0 < problem.sd < s.max()
    np.testing.assert_allclose(V.T @ V, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(
        (problem.A @ V) @ y, (problem.A @ V) @ (V.T @ np.linalg.pinv(problem.A) @ problem.y)
    )
    S = problem.A @ problem.A.T + problem.sd**2 * np.eye(2)
    parts = [multivariate_normal(problem.A @ m, S).logpdf(problem.y) for m in problem.means]
    assert problem.log_evidence() == pytest.approx(logsumexp(parts, b=problem.weights), abs=1e-10)


def test_the_ruler_is_zero_on_its_own_draws_and_sees_a_shift(script):
    module = script("mixture_problems")
    problem = module.make((8, 2), 1)
    ruler = module.Ruler.of(problem, 500)
    own = np.random.default_rng([1, 1])
    own.standard_normal((8, module.DIRECTIONS))
    draws = problem.exact_draws(500, own)
    assert ruler.distance(draws) == pytest.approx(0, abs=1e-12)
    # along a direction u it is |d·u|, whose mean in 8 dimensions is Γ(4)/(Γ(4.5) √π) |d| = .2909 |d|
    assert ruler.distance(draws + 3.0) == pytest.approx(3 * math.sqrt(8) * 0.2909, rel=0.05)


@pytest.fixture
def gaussian_problem(script):
    """One component has all the weight."""
    problem = script("mixture_problems").make((8, 4), 2)
    weights = np.where(np.arange(25) == 8, 1.0, 1e-200)
    prior_draw = problem.means[8] + 5 * np.random.default_rng(0).standard_normal(8)  # far out: guidance tells
    return replace(problem, weights=weights, y=problem.A @ prior_draw, sd=0.4)


def assert_gaussian(draws, problem, bias):
    """Means and standard deviations within 5 standard errors and a bias in units of the latter."""
    mean, covariance = moments(problem)
    sd, error = np.sqrt(np.diag(covariance)), 5 / math.sqrt(len(draws))
    assert np.max(np.abs(draws.mean(axis=0) - mean) / sd) < error + bias
    assert np.max(np.abs(draws.std(axis=0) / sd - 1)) < error + bias


def test_mcgdiff_is_right_for_a_gaussian(gaussian_problem, script):
    """100 steps and 10,000 particles, of which many are copies: a tenth counts. Seed 0; DDRM, which is not
    exact, is checked to fit the data to three of its noise's standard deviations."""
    module, times = script("mcgdiff"), sp.log_snr_grid(SDE, 100)
    draws = module.mcgdiff(gaussian_problem, 10_000, 0, SDE, times)
    assert_gaussian(draws[::10], gaussian_problem, 0.05)
    fitted = module.ddrm(gaussian_problem, 500, 0, SDE, times) @ gaussian_problem.A.T
    assert np.max(np.abs(fitted.mean(axis=0) - gaussian_problem.y)) < 3 * gaussian_problem.sd


def test_azulas_methods_are_driven_rightly(gaussian_problem, script):
    """Its denoiser gives the mixture's mean; MMPS run to convergence and TDS give a Gaussian's posterior."""
    pytest.importorskip("azula")
    module, ours, times = script("azula_methods"), script("mixture_ours"), sp.log_snr_grid(SDE, 100)
    setting = module.Setting(gaussian_problem, SDE, times)
    x, k = np.random.default_rng(1).standard_normal((5, 8)), 40
    expected = ours.known(gaussian_problem, sp.resolve("numpy")).mean(x, times[k])
    found = setting.prior(module.torch.tensor(x), module.torch.tensor(1 - k / 100)).mean
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-10)
    assert_gaussian(module.METHODS["MMPS, d_y"](setting, 2_000, 0), gaussian_problem, 0.05)
    assert_gaussian(module.METHODS["TDS"](setting, 2_000, 0)[::4], gaussian_problem, 0.15)


def test_it_prints_a_row_for_each_method():
    options = ["--short", "--cells", "8,2", "--only", "floor", "exact", "MCGDiff"]
    finished = subprocess.run(
        [sys.executable, str(BENCHMARKS / "mixture.py"), *options], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    rows = finished.stdout.split("d_x = 8, d_y = 2: 2 problems, 100 draws")[1].splitlines()[2:]
    names = ["floor", "exact, 50 steps"]
    names += [f"MCGDiff, β to {top}{more}" for top in (20, 30) for more in ("", ", × 10")]
    assert [row[:38].strip() for row in rows] == names
    assert all(0 < float(row[38:46]) < 5 for row in rows)


def test_mcgdiffs_weights_choose_the_components(script):
    """Of 25 components, which the prior draws at a distance of about 10; without weights it is 1.5."""
    module, problems = script("mcgdiff"), script("mixture_problems")
    problem = problems.make((8, 2), 0)
    draws = module.mcgdiff(problem, 4_000, 0, SDE, sp.log_snr_grid(SDE, 50))
    assert problems.Ruler.of(problem, 4_000).distance(draws) < 0.4
