"""Forward SDEs as plain dictionaries and back."""

import json

import numpy as np
import pytest

import sdeppl as sp
from sdeppl.sde import from_dict, to_dict


@pytest.mark.parametrize(
    "sde",
    [
        sp.LinearSDE(a=0.1, b=1 / 3, T=7.5),
        sp.VPSDE(),
        sp.VPSDE(sp.ConstantSchedule(2.5), T=2.0),
        sp.VPSDE(sp.LinearSchedule(0.3, 9.0, T=0.5), T=0.5),
        sp.VESDE(0.1, 7.0, T=3.0),
        sp.VPSDE(sp.CosineSchedule(0.01, 500.0, T=2.0), T=2.0),
        sp.SubVPSDE(sp.LinearSchedule(0.3, 9.0), T=1.5),
        sp.EDMSDE(60.0),
        sp.ShiftedVPSDE(-1.25, sp.ConstantSchedule(4.0), T=3.0),
        sp.DataAnchoredSDE(sp.ConstantSchedule(4.0), T=3.0),
    ],
)
def test_an_sde_survives_json(sde):
    assert from_dict(json.loads(json.dumps(to_dict(sde)))) == sde


def test_an_unknown_type_is_refused():
    class Mine(sp.LinearSDE):
        pass

    with pytest.raises(TypeError, match=r"cannot save Mine; only \['ConstantSchedule'"):
        to_dict(Mine(1.0, 1.0))
    with pytest.raises(ValueError, match=r"unknown SDE or schedule 'Path'; known are \['ConstantSchedule'"):
        from_dict({"type": "Path"})
    with pytest.raises(ValueError, match="unknown SDE or schedule None"):
        from_dict({})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (sp.CallableVESDE(abs), r"cannot save CallableVESDE: it holds a function; only \['ConstantSchedule'"),
        (sp.VPSDE(sp.CallableSchedule(abs)), "cannot save CallableSchedule: it holds a function"),
        (sp.ShiftedVPSDE(abs), "cannot save ShiftedVPSDE: its mu is a function; only numbers"),
        (sp.ShiftedVPSDE(np.ones(2)), "cannot save ShiftedVPSDE: its mu is a ndarray; only numbers"),
    ],
)
def test_functions_and_arrays_cannot_be_saved(value, message):
    with pytest.raises(TypeError, match=message):
        to_dict(value)
