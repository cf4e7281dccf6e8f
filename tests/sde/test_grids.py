"""Time grids: uniform in t, in √t, in ln(α/σ), and in a power of σ/α."""

import itertools
import math

import numpy as np
import pytest

import sdeppl as sp
from sdeppl.sde.grids import time_of_half_log_snr

SDES = [sp.VPSDE(), sp.VPSDE(sp.ConstantSchedule(9.0)), sp.VESDE(), sp.LinearSDE(1.0, 1.4, T=3.0)]
SDES += [sp.SubVPSDE(), sp.EDMSDE(), sp.VPSDE(sp.CosineSchedule()), sp.ShiftedVPSDE(1.5)]
SDES += [
    sp.DataAnchoredSDE(),
    sp.CallableVESDE(lambda t: 0.1 + 3 * t * t, lambda t: 12 * t * (0.1 + 3 * t * t)),
]


def test_a_uniform_grid_ends_where_it_is_told():
    assert sp.uniform_grid(0.2, 1.1, 3) == pytest.approx([0.2, 0.5, 0.8, 1.1])
    assert sp.uniform_grid(1.0, 0.1, 7)[-1] == 0.1


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("level", [1e-2, 1e-3, 1e-9])
def test_the_log_snr_grid_is_uniform_in_log_snr(sde, level):
    """All steps but the last have the same change of ln(α/σ), and the last starts at σ/α = level."""
    times = sp.log_snr_grid(sde, 12, level)
    assert len(times) == 13 and times[0] == sde.T and times[-1] == 0.0
    assert all(t < s for s, t in itertools.pairwise(times))
    levels = [sde.half_log_snr(t) for t in times[:-1]]
    np.testing.assert_allclose(levels, np.linspace(sde.half_log_snr(sde.T), -math.log(level), 12), atol=1e-8)


@pytest.mark.parametrize("sde", SDES)
def test_the_time_of_a_log_snr_is_its_inverse(sde):
    for t in (sde.T, 0.7 * sde.T, 0.01, 1e-12, 1e-100):
        assert time_of_half_log_snr(sde, sde.half_log_snr(t)) == pytest.approx(t, rel=1e-9)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_the_edm_grid_is_that_of_the_paper(sde, rho):
    """Eq. 5 of Karras et al. in σ/α, from T, and 0 at the end."""
    times, N, low = sp.edm_grid(sde, 9, rho, sigma_min=0.01), 9, 0.01
    high = sde.sigma(sde.T) / sde.alpha(sde.T)
    assert len(times) == 10 and times[0] == sde.T and times[-1] == 0.0
    for i, t in enumerate(times[:-1]):
        expected = (high ** (1 / rho) + i / (N - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        assert sde.sigma(t) / sde.alpha(t) == pytest.approx(expected, rel=1e-8)


def test_the_edm_grid_of_edm_has_its_levels_as_times():
    times = sp.edm_grid(sp.EDMSDE(), 18)
    assert (times[0], times[-1]) == (80.0, 0.0)
    assert times[-2] == pytest.approx(0.002, rel=1e-9)
    expected = (80 ** (1 / 7) + 4 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert times[4] == pytest.approx(expected, rel=1e-9)
    later = sp.edm_grid(sp.EDMSDE(), 18, sigma_max=20.0)
    assert later[0] == pytest.approx(20.0, rel=1e-9)


@pytest.mark.parametrize(("start", "stop"), [(1.0, 0.0), (4.0, 0.25), (0.01, 1.0)])
def test_the_quadratic_grid_is_uniform_in_the_root_of_t(start, stop):
    times = sp.quadratic_grid(start, stop, 10)
    assert (times[0], times[-1]) == (start, stop)
    np.testing.assert_allclose(np.sqrt(times), np.linspace(math.sqrt(start), math.sqrt(stop), 11), atol=1e-15)


def test_the_quadratic_grid_of_ddim():
    """τ_i = c i²."""
    assert sp.quadratic_grid(1.0, 0.0, 10)[::-1] == pytest.approx([0.01 * i * i for i in range(11)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.edm_grid(sp.VPSDE(), 1), "steps must be a whole number, at least 2; got 1"),
        (lambda: sp.edm_grid(sp.VPSDE(), 9, rho=0.0), "rho must be positive and finite; got 0.0"),
        (
            lambda: sp.edm_grid(sp.VPSDE(), 9, sigma_min=0.0),
            "needs 0 < sigma_min < sigma_max; got 0.0 and 152",
        ),
        (
            lambda: sp.edm_grid(sp.VPSDE(), 9, sigma_max=1e-3),
            "needs 0 < sigma_min < sigma_max; got 0.002 and",
        ),
        (
            lambda: sp.edm_grid(sp.EDMSDE(), 9, sigma_max=90.0),
            "sigma_max = 90 is more than σ/α at T = 80.0, 80",
        ),
        (lambda: sp.quadratic_grid(1.0, -0.1, 9), "a quadratic grid needs times from 0 on; got 1.0 to -0.1"),
        (lambda: sp.quadratic_grid(1.0, 0.0, 0), "steps must be a whole number, at least 1; got 0"),
    ],
)
def test_edm_and_quadratic_grids_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


def test_grids_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="steps must be a whole number, at least 1; got 0"):
        sp.uniform_grid(0.0, 1.0, 0)
    with pytest.raises(ValueError, match="steps must be a whole number, at least 2; got 1"):
        sp.log_snr_grid(sp.VPSDE(), 1)
    with pytest.raises(ValueError, match=r"noise_to_signal = 1000\.0 is more than σ/α at T, 152"):
        sp.log_snr_grid(sp.VPSDE(), 10, 1e3)
    for level in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="noise_to_signal must be positive; got"):
            sp.log_snr_grid(sp.VPSDE(), 10, level)
    with pytest.raises(ValueError, match=r"lies beyond T = 1.0, where it is -5"):
        time_of_half_log_snr(sp.VPSDE(), -6.0)
