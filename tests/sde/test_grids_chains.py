"""DDPM's and NCSN's chains as time grids: at these times the exact transition is the chain's step."""

import itertools
import math

import numpy as np
import pytest
from checks import array, covariance_matrix, propagate

import sdeppl as sp

BETAS = np.linspace(1e-4, 0.02, 1000)  # of Ho et al. 2020
# the chain of DDPM ends a little beyond T = 1 of the SDE that is its limit
VPS = {
    "linear": sp.VPSDE(T=1.01),
    "constant": sp.VPSDE(sp.ConstantSchedule(12.0)),
    "cosine": sp.VPSDE(sp.CosineSchedule()),
    "callable": sp.VPSDE(
        sp.CallableSchedule(lambda t: 0.1 + 30.0 * t * t, lambda t: 0.1 * t + 10 * t**3), T=1.2
    ),
}


@pytest.mark.parametrize("sde", VPS.values(), ids=VPS)
def test_the_transition_of_a_ddpm_grid_is_its_step(sde):
    times = sp.ddpm_grid(sde, BETAS)
    assert len(times) == 1001 and times[-1] == 0.0 and times[0] <= sde.T
    assert all(t < s for s, t in itertools.pairwise(times))
    product = np.cumprod(1 - BETAS)
    np.testing.assert_allclose([sde.alpha(t) ** 2 for t in times[-2::-1]], product, rtol=1e-12)
    for i in (0, 1, 17, 500, 999):
        phi, _, q = sde.transition(times[1000 - i], times[999 - i])
        assert phi == pytest.approx(math.sqrt(1 - BETAS[i]), rel=1e-12)
        assert q == pytest.approx(BETAS[i], rel=1e-9, abs=0)


def test_the_linear_chain_is_nearly_uniform_in_time():
    """β_i ≈ β(t_i)/1000: the SDE is the limit of the chain."""
    times = sp.ddpm_grid(VPS["linear"], BETAS)[::-1]
    np.testing.assert_allclose(times, np.arange(1001) / 1000, atol=0.005)


def test_exponential_steps_on_a_ddpm_grid_are_the_chain(precise):
    """Mean and covariance of x_i = √(1 - β_i) x_{i-1} + √β_i ε, step by step."""
    betas, sde = [0.01, 0.3, 0.05, 0.6], sp.VPSDE()
    times = sp.ddpm_grid(sde, betas)[::-1]
    mean, covariance = np.array([1.0, -2.0, 0.5]), covariance_matrix(3, seed=3)
    found = propagate(sde, sp.ExponentialEuler(), times, mean, covariance, precise)
    for beta in betas:
        mean, covariance = math.sqrt(1 - beta) * mean, (1 - beta) * covariance + beta * np.eye(3)
    np.testing.assert_allclose(found[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found[1], covariance, atol=1e-12)


def test_a_chain_that_ends_where_the_sde_does_starts_at_its_T():
    sde = sp.VPSDE(sp.LinearSchedule(0.2, 9.0), T=1.3)
    betas = [-math.expm1(-sde.schedule.between(1.3 * i / 50, 1.3 * (i + 1) / 50)) for i in range(50)]
    times = sp.ddpm_grid(sde, betas)
    assert times[0] == 1.3
    np.testing.assert_allclose(times, np.linspace(1.3, 0.0, 51), atol=1e-12)


VES = {
    "ve": sp.VESDE(0.01, 50.0, T=2.0),
    "edm": sp.EDMSDE(),
    "callable": sp.CallableVESDE(lambda t: 0.01 + 60 * t**3, T=1.1),
}


@pytest.mark.parametrize("sde", VES.values(), ids=VES)
def test_the_transition_of_an_ncsn_grid_is_its_step(sde):
    sigmas = np.geomspace(0.01, 50.0, 30)
    times = sp.ncsn_grid(sde, sigmas)
    assert times == sp.ncsn_grid(sde, sigmas[::-1])
    assert times[-1] == 0.0 and times[0] <= sde.T
    assert all(t < s for s, t in itertools.pairwise(times))
    rising = times[::-1] if sde.level(0.0) == pytest.approx(0.01) else times[-2::-1]
    assert len(rising) == 30
    for i in range(1, 30):
        phi, _, q = sde.transition(rising[i - 1], rising[i])
        assert phi == 1.0
        assert q == pytest.approx(sigmas[i] ** 2 - sigmas[i - 1] ** 2, rel=1e-10)


def test_the_geometric_chain_is_the_uniform_grid_of_the_ve_sde():
    times = sp.ncsn_grid(VES["ve"], np.geomspace(0.01, 50.0, 11))
    np.testing.assert_allclose(times, np.linspace(2.0, 0.0, 11), atol=1e-14)
    assert times[0] == 2.0


def test_a_chain_above_the_level_of_time_0_goes_on_to_0():
    times = sp.ncsn_grid(sp.EDMSDE(), [1.0, 3.0, 80.0])
    assert times == [80.0, 3.0, 1.0, 0.0]
    times = sp.ncsn_grid(VES["ve"], [0.1, 1.0])
    assert len(times) == 3 and times[-1] == 0.0
    assert VES["ve"].level(times[1]) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: sp.ddpm_grid(sp.EDMSDE(), BETAS),
            TypeError,
            "ddpm_grid needs a VPSDE, of which DDPM is a chain",
        ),
        (lambda: sp.ddpm_grid(sp.VPSDE(), []), ValueError, "betas are empty"),
        (
            lambda: sp.ddpm_grid(sp.VPSDE(), [0.1, 0.0]),
            ValueError,
            "must be between 0 and 1; got betas[1] = 0.0",
        ),
        (
            lambda: sp.ddpm_grid(sp.VPSDE(), [-0.1]),
            ValueError,
            "must be between 0 and 1; got betas[0] = -0.1",
        ),
        (
            lambda: sp.ddpm_grid(sp.VPSDE(), [math.nan]),
            ValueError,
            "must be between 0 and 1; got betas[0] = nan",
        ),
        (
            lambda: sp.ddpm_grid(sp.VPSDE(), BETAS),
            ValueError,
            "the chain ends with α² = 4.036e-05, the SDE with 4.319e-05 at T = 1.0; use a larger T",
        ),
        (lambda: sp.ncsn_grid(sp.VPSDE(), [1.0]), TypeError, "of which NCSN is a chain; got VPSDE"),
        (lambda: sp.ncsn_grid(sp.EDMSDE(), []), ValueError, "sigmas are empty"),
        (
            lambda: sp.ncsn_grid(sp.EDMSDE(), [1.0, 3.0, 2.0]),
            ValueError,
            "must strictly rise or strictly fall",
        ),
        (lambda: sp.ncsn_grid(sp.EDMSDE(), [1.0, 1.0]), ValueError, "must strictly rise or strictly fall"),
        (
            lambda: sp.ncsn_grid(sp.EDMSDE(), [1.0, 81.0]),
            ValueError,
            "levels go from 0 at t = 0 to 80 at T; got sigmas from 1 to 81",
        ),
        (
            lambda: sp.ncsn_grid(VES["ve"], [0.001, 1.0]),
            ValueError,
            "levels go from 0.01 at t = 0 to 50 at T",
        ),
        (lambda: sp.ncsn_grid(sp.EDMSDE(), [math.nan]), ValueError, "got sigmas from nan to nan"),
    ],
)
def test_chains_that_cannot_be_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def test_a_grid_of_arrays_is_taken(backend):
    betas = array([0.1, 0.2], backend)
    assert sp.ddpm_grid(sp.VPSDE(), betas) == pytest.approx(sp.ddpm_grid(sp.VPSDE(), [0.1, 0.2]), rel=1e-6)
