"""`Watch`: the first step whose state is not finite, whenever it is asked."""

import math

import pytest
from checks import array

import sdeppl as sp
from sdeppl.solvers.watch import LARGE, Watch

STEPS = 600


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [0, 1, 127, 128, 129, 300, 599])
@pytest.mark.parametrize("every", [7, 128, 600])
def test_the_first_bad_step_is_found(first, every, bad, precise):
    """However many steps lie between two checks, and wherever in between the bad one is."""
    watch = Watch(array([[0.0], [1.0]], precise), [float(k) for k in range(STEPS + 1)])
    good, ill = array([[0.0], [1.0]], precise), array([[0.0], [bad]], precise)
    checks = (k for k in range(STEPS) if (k + 1) % every == 0 or k + 1 == STEPS)
    expected = next(k for k in checks if k >= first)
    for k in range(expected + 1):
        state = ill if k >= first else good
        watch.note(state)
        if k == expected:
            with pytest.raises(sp.NonFiniteState) as caught:
                watch.check(state)
        elif (k + 1) % every == 0:
            watch.check(state)
    assert str(caught.value).startswith(
        f"NaN or infinity at step {first + 1} of {STEPS}, from t={first} to t={first + 1} "
        f"(by step {expected + 1} in 1 of 2 paths)"
    )


def test_many_good_steps_raise_nothing(precise):
    x = array([[0.0], [1.0]], precise)
    watch = Watch(x, [float(k) for k in range(STEPS + 1)])
    for _ in range(STEPS):
        watch.note(x)
    watch.check(x)
    watch.check(x)


def test_a_bad_state_that_the_last_step_drops_is_found(precise):
    """A step to t = 0 may be a function of the denoiser alone, which maps infinity to a number."""
    good, ill = array([[0.0], [1.0]], precise), array([[0.0], [math.inf]], precise)
    watch = Watch(good, [float(k) for k in range(STEPS + 1)])
    for k in range(STEPS):
        watch.note(ill if k == STEPS - 2 else good)
    with pytest.raises(sp.NonFiniteState, match=rf"^NaN, infinity, .* at step {STEPS - 1} of {STEPS}"):
        watch.check(good)


@pytest.mark.parametrize("first", range(6))
def test_the_first_bad_step_of_large_states_is_found(first, precise):
    """Of large states two are held, of others four."""
    rows = [[1.0]] * LARGE
    good, ill = array(rows, precise), array([[math.nan], *rows[1:]], precise)
    watch = Watch(good, [float(k) for k in range(7)])
    for k in range(6):
        watch.note(ill if k >= first else good)
    with pytest.raises(sp.NonFiniteState, match=rf"^NaN or infinity at step {first + 1} of 6, .* in 1 of"):
        watch.check(ill)
