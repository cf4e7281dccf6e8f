"""SBC of guides where there is no closed form: a nonlinear mean and counts, by twisted SMC, with benchmarks/
calibration.py's models. Accepted as they are; rejected where the posterior halves the noise, or the exposure.

Seed 0. A right posterior fails with p < .001 in a thousandth of fresh seeds at most.
"""

import importlib
from pathlib import Path

import pytest

import sdeppl as sp

SETTINGS = {"backend": "numpy", "progress": False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
@pytest.mark.parametrize(("name", "sets"), [("decay", 100), ("counts", 50)])
def test_a_guide_without_a_closed_form_is_calibrated_and_half_the_noise_is_not(name, sets, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    model = importlib.import_module("calibration").MODELS[name]
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(progress=False)
    right = sp.simulate_posteriors(guide, sets, 19, **SETTINGS)
    assert "twisted SMC" in right.how
    found = sp.sbc(right)
    assert found.p > 1e-3, str(found)
    assert sp.tarp(right).p > 1e-3 and sp.coverage(right).p > 1e-3
    wrong = sp.sbc(guide, sets, 19, kwargs={"factor": 0.5}, **SETTINGS)
    assert wrong.p < 1e-4 and wrong.verdict.startswith("do not trust the posterior"), str(wrong)
