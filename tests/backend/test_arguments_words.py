"""Numbers that differ are printed as two, and what holds many as a few words."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import sdeppl as sp
from sdeppl.backend.arguments import sites_in_words, told_apart
from sdeppl.reference.result import summary


def test_as_few_digits_as_tell_numbers_apart():
    assert told_apart(1.0, 2.5) == ["1", "2.5"]
    assert told_apart(99.7, 100.0) == ["99.7", "100"]
    assert told_apart(1.0, 1.0000001, digits=6) == ["1", "1.0000001"]
    assert told_apart(0.1 + 0.2, 0.3) == ["0.30000000000000004", "0.3"]
    assert told_apart(2.0, 2.0) == ["2", "2"]
    assert told_apart(math.pi, 3.14159, 3.1416) == ["3.141593", "3.14159", "3.1416"]


def test_names_and_shapes():
    assert sites_in_words({"x": np.zeros((5, 3)), "tau": torch.zeros(5)}, 1) == "x (3,), tau ()"
    assert sites_in_words({"x": (3,), "tau": ()}) == "x (3,), tau ()"


REFUSED = {
    "grid": (
        lambda: sp.edm_grid(sp.VPSDE(), 9, sigma_max=LAST * (1 + 1e-9)),
        "sigma_max = (.*) is more .*, (.*)",
    ),
    "level": (lambda: sp.log_snr_grid(sp.VPSDE(), 9, LAST * (1 + 1e-9)), "signal = (.*) is more .*, (.*)"),
    "path": (
        lambda: sp.BrownianPath(0, stop=1.0).stream(sp.resolve("numpy")).increment(0.0, 1.0 + 1e-6, (2,)),
        "from 0 to (.*); got (.*); say",
    ),
    "direction": (
        lambda: sp.solve(sp.VPSDE(), np.ones((2, 2)), [0.5000000001, 0.5]),
        "got times from (.*) down to (.*); reverse",
    ),
}
LAST = math.exp(-sp.VPSDE().half_log_snr(1.0))


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_shows_two_numbers(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    one, other = re.search(words, str(caught.value)).groups()
    assert one != other


def test_a_reference_just_below_its_bounds():
    """R-hat of 1.0504, and 99.6 draws that count, are not '1.05, above 1.05' and '100, below 100'."""
    found = summary({"x": torch.randn(4, 100, dtype=torch.float64)}, 0, 0.0, 0.0)
    worse = replace(found, r_hat={"x": torch.tensor(1.0503)}, ess={"x": torch.tensor(99.6)})
    assert worse.reasons[0] == "split R-hat up to 1.0503, above 1.05"
    assert worse.reasons[1] == "an effective sample size of 99.6, below 100"
