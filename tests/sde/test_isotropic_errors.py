"""What the isotropic SDEs refuse, each with its own message."""

import math

import pytest

import sdeppl as sp

FALLING = sp.CallableVESDE(lambda t: 2.0 - t)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sp.SubVPSDE(3.0), ValueError, "SubVPSDE: schedule must be a Schedule, as LinearSchedule is"),
        (lambda: sp.SubVPSDE(T=-1.0), ValueError, "SubVPSDE: T must be positive and finite; got -1.0"),
        (lambda: sp.EDMSDE(0.0), ValueError, "EDMSDE: T must be positive and finite; got 0.0"),
        (lambda: sp.DataAnchoredSDE(T=0), ValueError, "DataAnchoredSDE: T must be positive and finite"),
        (lambda: sp.DataAnchoredSDE(2.0), ValueError, "DataAnchoredSDE: schedule must be a Schedule"),
        (lambda: sp.DataAnchoredSDE().given(abs), TypeError, "x_0 must be a number or an array; got builtin"),
        (lambda: sp.DataAnchoredSDE().given([1.0]), TypeError, "x_0 must be a number or an array; got list"),
        (lambda: sp.ShiftedVPSDE(1.0, 2.0), ValueError, "ShiftedVPSDE: schedule must be a Schedule"),
        (lambda: sp.ShiftedVPSDE(1.0, T=math.nan), ValueError, "ShiftedVPSDE: T must be positive and finite"),
        (lambda: sp.ShiftedVPSDE(math.nan), ValueError, "ShiftedVPSDE: μ must be finite; got nan"),
        (
            lambda: sp.ShiftedVPSDE([1.0]),
            TypeError,
            "ShiftedVPSDE: μ must be a number, an array (dim,) or a function of time; got list",
        ),
        (lambda: sp.CallableVESDE(2.0), TypeError, "CallableVESDE: σ must be a function of t; got 2.0"),
        (
            lambda: sp.CallableVESDE(abs, 1.0),
            TypeError,
            "CallableVESDE: dσ²/dt must be a function of t; got 1",
        ),
        (lambda: sp.CallableVESDE(abs, T=0.0), ValueError, "CallableVESDE: T must be positive and finite"),
        (
            lambda: FALLING.transition(0.2, 0.5),
            ValueError,
            "σ must rise with t; got σ(0.2) = 1.8, σ(0.5) = 1.5",
        ),
        (
            lambda: FALLING.amplitude(0.5),
            ValueError,
            "dσ²/dt must be at least 0 and finite; got -3 at t = 0.5",
        ),
        (
            lambda: sp.CallableVESDE(lambda t: t - 1.0).sigma(0.5),
            ValueError,
            "σ must be at least 0 and finite; got σ(0) = -1.0",
        ),
        (
            lambda: sp.CallableVESDE(abs, lambda t: -2.0).amplitude(0.5),
            ValueError,
            "dσ²/dt must be at least 0 and finite; got -2 at t = 0.5",
        ),
    ],
)
def test_bad_parameters_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
