"""Time grids: uniform in time, uniform in ln(α/σ)."""

import itertools
import math

import numpy as np
import pytest

import sdeppl as sp
from sdeppl.sde.grids import time_of_half_log_snr

SDES = [sp.VPSDE(), sp.VPSDE(sp.ConstantSchedule(9.0)), sp.VESDE(), sp.LinearSDE(1.0, 1.4, T=3.0)]


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


def test_grids_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
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
