"""Forward SDEs as plain dictionaries and back."""

import json

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
