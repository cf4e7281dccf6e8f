"""A small share of `wrong_arguments.py`, of a fixed seed; `make fuzz` runs the whole."""

import wrong_arguments


def test_wrong_arguments_are_refused_by_name():
    counts, bad = wrong_arguments.run(400, seed=2)
    assert not bad
    assert counts["refused"] > 300
