"""Random models: right, refused by name, or not trusted; never wrong and trusted.

200 models of a fixed seed. A right answer is called wrong where P(x < quantile) is five standard errors and
.04 off in a run of 4,800 draws that follows one of 600 four standard errors off: once in 10⁷ by chance.
"""

from random import Random

import pytest
import torch
from judge import Outcome, judge
from random_models import random_spec

MODELS, SHARES = 200, 20
FINE = ("right", "refused", "distrusted", "unknown")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_random_models_are_right_or_say_that_they_are_not(share):
    bad: dict[int, Outcome] = {}
    for number in range(share, MODELS, SHARES):
        outcome = judge(random_spec(Random(number)))
        if outcome.kind not in FINE:
            bad[number] = outcome
    assert not bad
