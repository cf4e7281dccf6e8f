"""Bars that show by themselves, and the warning of what a run will cost, on a clock that the test sets."""

import warnings

import pytest

from sdeppl.backend import CostWarning, Progress, resources, warn_user


class Clock:
    """Seconds as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(resources, "time", found)
    return found


def run(clock, units, seconds, **settings):
    """The messages of CostWarnings of `units` units of `seconds` each, the first of them `seconds[0]`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Progress(units, settings.pop("progress", False), "work", "step", **settings) as bar:
            for k in range(units):
                clock.now += seconds if not isinstance(seconds, tuple) else seconds[min(k, 1)]
                bar.update()
    assert all(one.category is CostWarning for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("seconds", "shown"), [(0.01, False), (0.2, True)])
def test_a_bar_shows_by_itself_after_five_seconds(clock, capsys, seconds, shown):
    run(clock, 50, seconds, progress=None)
    assert ("work" in capsys.readouterr().err) == shown


@pytest.mark.parametrize("seconds", [0.01, 0.2])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_bar_that_was_asked_for_shows_at_once_and_one_that_was_not_never(clock, capsys, wanted, seconds):
    run(clock, 50, seconds, progress=wanted)
    assert ("work" in capsys.readouterr().err) == wanted


def test_more_than_a_minute_is_said_once_with_the_seconds_and_what_is_cheaper(clock):
    (message,) = run(clock, 100, 2.0, what="100 steps", cheaper="take fewer")
    assert message == "100 steps: this will take about 3 minutes; take fewer"
    (message,) = run(clock, 100, 0.9, what="100 steps", cheaper="take fewer")
    assert message == "100 steps: this will take about 90 seconds; take fewer"


def test_less_than_a_minute_is_not_and_neither_is_a_long_first_step(clock):
    assert not run(clock, 100, 0.59, what="100 steps")
    assert not run(clock, 100, (9.0, 0.4), what="100 steps")  # compiles first: 9 + 99 × .4 s
    assert not run(clock, 100, 9.0)  # of what is not said what it is, nothing is said


def test_what_is_known_beforehand_is_said_before_the_first_step(clock):
    with pytest.warns(CostWarning, match="all of it: this will take about 10 minutes; less"):
        Progress(5, False, "work", what="all of it", cheaper="less", seconds=600.0)


def test_a_warning_points_at_the_line_outside_of_the_package():
    with pytest.warns(CostWarning) as caught:
        warn_user("slow", CostWarning)
    assert caught[0].filename == __file__
