"""The same draws on every backend, and a constant number of reads by the host.

CuPy is SIMULATED here (tests/simulated): NumPy behind its names. Nothing in this file ran on a GPU.
"""

import sys
import warnings

import numpy as np
import pytest
from checks import array, assert_array, boxed, host
from problems import COVARIANCE, MEAN, ODE, SDE, SOLVERS, H, R, Y
from simulation import simulated_cupy

import sdeppl as sp
from sdeppl.posterior.twisted import Pilot

NEEDS_TIME_LEFT = {
    "EulerMaruyama", "StochasticHeun", "PlatenWeak2", "SRA1", "SRIW1", "RungeKutta4", "Tsitouras54",
    "PredictorCorrector",
}  # fmt: skip
RUNGS = ("exact", "tweedie", "pigdm", "sda", "dps", "naive", "monte-carlo", "nested")
CORRECTIONS = {
    "twisted": sp.TwistedSMC(16, kept=8),
    "tempered": sp.TemperedSMC(16, moves=3),
    "langevin": sp.LangevinCorrector(steps=3),
}


@pytest.fixture
def simulated():
    if "cupy" in sys.modules:
        pytest.skip("CuPy itself is loaded: the matrix tests it, and a simulation cannot take its place")
    with simulated_cupy() as backend:
        yield backend


@pytest.fixture(params=["strict:device1", "torch", "cupy (simulated)"])
def other(request, simulated):
    """Every backend but NumPy, in float64."""
    return simulated if request.param.startswith("cupy") else sp.resolve(request.param)


def problem(backend):
    prior = sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))
    return prior, sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))


def quietly(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps and few particles: this is no test of accuracy
        return function()


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_agree(name, other):
    """8 paths of the reverse SDE with host noise, to 1e-10."""
    times = sp.uniform_grid(1.0, 0.05, 12) if name in NEEDS_TIME_LEFT else sp.log_snr_grid(SDE, 12)

    def ends(backend):
        prior, _ = problem(backend)
        x = array(np.random.default_rng(1).standard_normal((8, 3)), backend)
        reverse = sp.ReverseSDE(SDE, prior, 0.0 if name in ODE else 1.0)
        return sp.solve(reverse, x, times, solver=SOLVERS[name], noise=sp.Noise(7)).states[-1, ...]

    assert_array(ends(other), host(ends(sp.resolve("numpy"))), other, 1e-10)


@pytest.mark.parametrize("rung", RUNGS)
def test_rungs_agree(rung, other):
    """8 uncorrected draws, to 1e-10; 1e-9 for dps, which is so far off at high noise that rounding grows."""

    def draws(backend):
        prior, seen = problem(backend)
        return sp.Posterior(prior, seen, rung, steps=20, correction=None).sample(8, seed=3)

    wanted = quietly(lambda: draws(sp.resolve("numpy")))
    tolerance = 1e-9 if rung == "dps" else 1e-10
    assert_array(quietly(lambda: draws(other)), host(wanted), other, tolerance)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_corrections_agree(correction, other):
    """16 corrected draws, to 1e-8: the local scale of a Langevin step is a root of small numbers."""

    def draws(backend):
        prior, seen = problem(backend)
        posterior = sp.Posterior(boxed(prior), seen, "tweedie", steps=30, correction=CORRECTIONS[correction])
        return posterior.sample(16, seed=3)

    wanted = quietly(lambda: draws(sp.resolve("numpy")))
    assert_array(quietly(lambda: draws(other)), host(wanted), other, 1e-8)


CURVED = {
    "counts": lambda b: sp.IndependentObservation(
        sp.likelihood.families.Poisson(), array([1.0, 4.0], b), H=array(H, b)
    ),
    "outliers": lambda b: sp.IndependentObservation(
        sp.likelihood.families.StudentT(3.0, 0.5), array(Y, b), H=array(H, b)
    ),
}


@pytest.mark.parametrize("case", CURVED)
def test_other_noise_agrees(case, other):
    def draws(backend):
        seen = CURVED[case](backend)
        return sp.Posterior(
            problem(backend)[0], seen, "tweedie", steps=20, correction=sp.TwistedSMC(8)
        ).sample(8, seed=3)

    wanted = quietly(lambda: draws(sp.resolve("numpy")))
    assert_array(quietly(lambda: draws(other)), host(wanted), other, 1e-8)


def reads(solve):
    """How often the host read a number during `solve`."""
    cupy = sys.modules["cupy"]
    before = cupy.SYNCHRONISATIONS
    quietly(solve)
    return cupy.SYNCHRONISATIONS - before


def test_reads_do_not_grow_with_the_steps(simulated):
    """Of a solve, of guided draws after the first and of a twisted solve after its pilot: about as many for
    40 steps as for 400; each tenth of the way all of it is checked to be finite."""
    prior, seen = problem(simulated)
    box = boxed(prior)
    x = array(np.zeros((4, 3)), simulated)
    counts = []
    for steps in (40, 400):
        times = sp.log_snr_grid(SDE, steps)
        guided = sp.Posterior(box, seen, "tweedie", steps=steps, correction=None)
        twisted = sp.Posterior(box, seen, "tweedie", steps=steps, correction=sp.TwistedSMC(8, kept=8))
        quietly(lambda twisted=twisted: Pilot.of(twisted.problem))
        quietly(lambda guided=guided: guided.sample(2))  # the prior's end, which is read once
        counts.append(
            [
                reads(lambda times=times: sp.solve(sp.ReverseSDE(SDE, prior), x, times, noise=sp.Noise(1))),
                reads(lambda guided=guided: guided.sample(8, seed=1)),
                reads(lambda twisted=twisted: twisted.sample(8, seed=1)),
            ]
        )
    assert np.abs(np.subtract(*counts)).max() <= 3, counts
    assert max(counts[0]) < 20


def test_the_count_finds_a_read_in_each_step(simulated):
    """A denoiser that asks the host in every step is caught."""
    prior, _ = problem(simulated)
    asking = sp.CallableDenoiser(
        SDE,
        lambda x, t: prior.mean(x, t) * (1.0 if float(x[0, 0]) < 1e9 else 0.0),
        lambda x, t: prior(x, t).covariance,
        3,
        simulated,
    )
    x = array(np.zeros((4, 3)), simulated)
    few, many = (
        reads(lambda n=n: sp.solve(sp.ReverseSDE(SDE, asking), x, sp.log_snr_grid(SDE, n), noise=sp.Noise(1)))
        for n in (40, 400)
    )
    assert many - few >= 360


def test_libraries_do_not_mix(simulated):
    """As on a GPU: NumPy's arrays are refused, and both are named."""
    prior, seen = problem(simulated)
    numpy = sp.resolve("numpy")
    with pytest.raises(sp.BackendMismatch, match=r"y is of numpy on cpu, expected cupy on"):
        sp.Posterior(prior, problem(numpy)[1])
    with pytest.raises(sp.BackendMismatch, match="y is of numpy on cpu, expected cupy on"):
        sp.LinearGaussian(array(H, simulated), array(Y, numpy), array(R, simulated))
    with pytest.raises(TypeError, match="Unsupported type"):
        array(Y, simulated) + Y
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
        np.asarray(array(Y, simulated))
    assert seen.count == 2
