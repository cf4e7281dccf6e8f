"""Random models: right, refused by name, or not trusted; never wrong and trusted.

A right answer is called wrong where P(x < quantile) is five standard errors and .04 off in a run of 4,800
draws that follows one of 600 four standard errors off: once in 10⁷ by chance. `make fuzz` tries thousands.
"""

from random import Random

import pytest
from judge import judge
from random_models import random_spec

MODELS = [number for number in range(19) if number != 6]  # which is right, and takes minutes


@pytest.mark.slow
@pytest.mark.parametrize("number", MODELS)
def test_random_models_are_right_or_say_that_they_are_not(number):
    outcome = judge(random_spec(Random(number)), seconds=300.0)
    assert outcome.kind in ("right", "refused", "distrusted", "unknown"), outcome
