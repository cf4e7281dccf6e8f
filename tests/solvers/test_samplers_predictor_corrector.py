"""Predictor–corrector: what a Langevin correction does to a Gaussian, exactly, and what a predictor gains."""

import itertools
import math

import numpy as np
import pytest
from checks import fitted_slope
from linear_probes import COVARIANCE, EACH_SDE, SDES, errors, grids_of, marginal, moments_after, reverse_of
from mixture_start import assert_mixture_returns, mixture_reverse

import sdeppl as sp
from sdeppl.solvers import Solver


class Still(Solver):
    """A predictor that leaves everything to the corrections."""

    strong_order = {"additive": 1.0}
    weak_order = 0.0
    evaluations = 0
    draws = ()

    def step(self, sde, x, s, t, z, memory=None):
        return x, None


@EACH_SDE
@pytest.mark.parametrize("t", [0.4, 0.9])
def test_one_correction_of_the_exact_marginal(sde, t):
    """It adds δ² V⁻¹ to the covariance V and leaves the mean: order 2 in δ = 2 (snr σ_t)²."""
    mean, V = marginal(sde, t)
    for snr in (0.05, 0.16, 0.4):
        delta = 2 * (snr * sde.sigma(t)) ** 2
        solver = sp.PredictorCorrector(Still(), 1, snr)
        found_mean, found = moments_after(reverse_of(sde, 0.0), solver, [1.0, t], mean, V)
        np.testing.assert_allclose(found_mean, mean, atol=1e-13)
        np.testing.assert_allclose(found - V, delta**2 * np.linalg.inv(V), rtol=1e-7, atol=1e-14)


@EACH_SDE
def test_many_corrections(sde):
    """From far away they reach V (I - δ/2 V⁻¹)⁻¹, about V + δ/2: order 1 in δ; the mean is exact."""
    t, solver = 0.6, sp.PredictorCorrector(Still(), 40, 0.4)
    mean, V = marginal(sde, t)
    delta = 2 * (0.4 * sde.sigma(t)) ** 2
    found_mean, found = mean + 1.0, np.eye(2) * 3
    for _ in range(40):
        found_mean, found = moments_after(reverse_of(sde, 0.0), solver, [1.0, t], found_mean, found)
    expected = V @ np.linalg.inv(np.eye(2) - delta / 2 * np.linalg.inv(V))
    np.testing.assert_allclose(found_mean, mean, atol=1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.trace(found - V) == pytest.approx(delta, rel=0.2)


@EACH_SDE
def test_the_step_is_that_of_song_et_al_for_a_known_x0(sde):
    """δ = 2 (snr |z|/|score|)² with norms averaged over 50,000 rows of 8 numbers.

    Seed 15; 2% is 6 standard errors.
    """
    t, snr, rng = 0.5, 0.16, np.random.default_rng(15)
    eps, z = rng.standard_normal((2, 50_000, 8))
    known = sp.CallableDenoiser(sde, lambda x, t: 0 * x + 2.0, None, 8, sp.resolve("numpy"))
    reverse, x = sp.ReverseSDE(sde, known, 0.0), 2.0 * sde.alpha(t) + sde.sigma(t) * eps
    score = reverse.score(x, t)
    norms = np.linalg.norm(z, axis=1).mean(), np.linalg.norm(score, axis=1).mean()
    delta = 2 * (snr * norms[0] / norms[1]) ** 2
    found, _ = sp.PredictorCorrector(Still(), 1, snr).step(reverse, x, 1.0, t, z)
    ours = np.sum((found - x - math.sqrt(2 * delta) * z) * score) / np.sum(score**2)
    assert ours == pytest.approx(delta, rel=0.02)


def test_a_row_does_not_depend_on_the_others():
    x, times = np.random.default_rng(0).standard_normal((30, 2)), [1.0, 0.5, 0.1, 0.0]
    solver = sp.PredictorCorrector(sp.EulerMaruyama(), 2)
    few, many = (
        sp.solve(mixture_reverse(SDES["vp"], 1.0), x[:n], times, solver=solver, keep="last").states[0]
        for n in (3, 30)
    )
    np.testing.assert_allclose(few, many[:3], atol=1e-13)


@pytest.mark.parametrize("name", ["ve", "linear"])
@pytest.mark.parametrize(
    "predictor", [sp.EulerMaruyama(), sp.ExponentialEuler()], ids=["euler", "exponential"]
)
def test_corrections_improve_a_coarse_predictor(name, predictor):
    """16 steps: the error of the covariance falls with each further correction, by 10% or more with 3."""
    sde = SDES[name]
    grids, c = grids_of(sde, "t", (16,)), 0.0 if isinstance(predictor, sp.EulerMaruyama) else 1.0
    found = [errors(sde, sp.PredictorCorrector(predictor, n), grids, c)[1, 0] for n in (0, 1, 2, 3)]
    assert all(after < before for before, after in itertools.pairwise(found))
    assert found[3] < 0.75 * found[0]


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_down_to_zero_the_bias_falls_as_one_over_steps(c):
    """On log_snr_grid, for a predictor of order 2 and snr = 0.3."""
    sde, sizes, found = SDES["vp"], (512, 1024, 2048), []
    solver, reverse = sp.PredictorCorrector(sp.ExponentialHeun(), 1, 0.3), reverse_of(sde, c)
    for n in sizes:
        times = sp.log_snr_grid(sde, n, 1e-3)
        covariance = marginal(sde, 1.0)[1]
        for s, t in itertools.pairwise(times):  # one-step, so that step by step is cheaper than all at once
            covariance = moments_after(reverse, solver, [s, t], np.zeros(2), covariance)[1]
        found.append(np.linalg.norm(covariance - COVARIANCE))
    assert -fitted_slope(sizes, found) == pytest.approx(1.0, abs=0.15)
    assert found[-1] < 5e-3


def test_no_correction_at_zero():
    x, z = np.random.default_rng(4).standard_normal((2, 5, 2))
    reverse = mixture_reverse(SDES["ve"], 1.0)
    solver = sp.PredictorCorrector(sp.ExponentialEuler(), 2)
    found, _ = solver.step(reverse, x, 0.1, 0.0, (z, z, z))
    np.testing.assert_array_equal(found, sp.ExponentialEuler().step(reverse, x, 0.1, 0.0, z)[0])


PREDICTORS = [
    (sp.EulerMaruyama(), 0.0),
    (sp.EulerMaruyama(), 1.0),
    (sp.ExponentialHeun(), 0.5),
    (sp.DPMSolverPP(3), 0.0),
    (sp.DPMSolverPP(2), 1.0),
    (sp.UniPC(2), 0.0),
    (sp.EDMHeun(2.0, 5), 0.0),
    (sp.AncestralSampler(), 1.0),
]
IDS = [f"{type(predictor).__name__}-{c}" for predictor, c in PREDICTORS]


class Given:
    """The normals of draw j of step k, the same for a predictor alone and within corrections."""

    def draws(self, step, s, t, kinds, shapes):
        return tuple(
            np.random.default_rng([step, j]).standard_normal(shape) for j, shape in enumerate(shapes)
        )


@pytest.mark.parametrize(("predictor", "c"), PREDICTORS, ids=IDS)
def test_a_step_is_the_predictors_and_then_corrections(predictor, c):
    """In NumPy: a new start of the predictor for each step, and x + δ score + √(2δ) z twice."""
    sde, times, noise = SDES["linear"], [1.0, 0.8, 0.5, 0.2, 0.05, 0.0], Given()
    reverse, x = mixture_reverse(sde, c), np.random.default_rng(7).standard_normal((4, 2))
    solver = sp.PredictorCorrector(predictor, 2, 0.2)
    found = sp.solve(reverse, x, times, solver=solver, noise=noise).states
    for k, (s, t) in enumerate(itertools.pairwise(times), start=1):
        z = noise.draws(k, s, t, solver.draws, [x.shape] * len(solver.draws))
        own = z[: len(predictor.draws)]
        silent = not own or (c == 0 and "extra" not in predictor.draws)
        x, _ = predictor.step(reverse, x, s, t, None if silent else own[0], predictor.init(reverse, x, s))
        for normal in z[len(own) :] if t > 0 else ():
            delta = 2 * 0.2**2 * sde.sigma(t) ** 2
            x = x + delta * reverse.score(x, t) + np.sqrt(2 * delta) * normal
        np.testing.assert_allclose(found[k], x, atol=1e-12)
    assert solver.evaluations == predictor.evaluations + 2
    assert solver.draws == (*predictor.draws, "extra", "extra")


@pytest.mark.parametrize(("c", "given"), [(0.0, False), (1.0, True)])
def test_a_predictor_without_noise_is_given_none(c, given):
    """Of the flow: normals are drawn for the corrections alone."""
    seen = []

    class Looking(Still):
        draws = ("wiener",)

        def step(self, sde, x, s, t, z, memory=None):
            seen.append(z is not None)
            return x, None

    sp.solve(
        mixture_reverse(SDES["vp"], c), np.ones((2, 2)), [1.0, 0.5], solver=sp.PredictorCorrector(Looking())
    )
    assert seen == [given]


@pytest.mark.parametrize(("predictor", "c"), PREDICTORS, ids=IDS)
def test_without_corrections_it_is_the_predictor(predictor, c):
    """What a multistep predictor remembers included."""
    x, times = np.random.default_rng(7).standard_normal((4, 2)), [1.0, 0.8, 0.5, 0.2, 0.05, 0.0]
    reverse = mixture_reverse(SDES["vp"], c)
    found, expected = (
        sp.solve(reverse, x, times, solver=solver, noise=Given()).states
        for solver in (sp.PredictorCorrector(predictor, 0), predictor)
    )
    np.testing.assert_array_equal(found, expected)


@EACH_SDE
@pytest.mark.parametrize("c", [0.0, 1.0])
def test_a_mixture_comes_back(sde, c):
    """Seed 16."""
    solver = sp.PredictorCorrector(sp.ExponentialHeun(), 1, 0.1)
    assert_mixture_returns(sde, solver, c, sp.log_snr_grid(sde, 80, 1e-3), seed=16, draws=10_000)


def test_what_it_does_not_take_is_refused():
    with pytest.raises(TypeError, match="predictor must be a solver such as EulerMaruyama"):
        sp.PredictorCorrector("euler")
    for wrong in ({"corrections": -1}, {"corrections": 1.5}, {"snr": 0.0}, {"snr": math.nan}):
        with pytest.raises(
            ValueError,
            match=r"corrections must be a whole number, at least 0; got|snr must be positive and finite; got",
        ):
            sp.PredictorCorrector(sp.EulerMaruyama(), **wrong)
    x, times, solver = np.ones((2, 2)), [1.0, 0.1], sp.PredictorCorrector(sp.EulerMaruyama())
    with pytest.raises(TypeError, match=r"PredictorCorrector solves the ReverseSDE of .* got VPSDE"):
        sp.solve(SDES["vp"], x, times[::-1], solver=solver)
    with pytest.raises(TypeError, match=r"UniPC solves the probability-flow ODE"):
        sp.solve(mixture_reverse(SDES["vp"], 1.0), x, times, solver=sp.PredictorCorrector(sp.UniPC()))
