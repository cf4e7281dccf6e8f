"""Small settings for the code of the documentation: it must run, with few steps and few draws."""

import inspect

import pytest

import sdeppl as sp


def at_most(function, **limits):
    """The same function with some of its whole-number arguments cut."""
    signature = inspect.signature(function)

    def cut(*arguments, **keywords):
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        for name, limit in limits.items():
            given = bound.arguments[name]  # None: as many as the library thinks right
            bound.arguments[name] = limit if given is None else min(given, limit)
        return function(*bound.args, **bound.kwargs)

    return cut


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SDEPPL_BACKEND", raising=False)
    monkeypatch.setattr(sp.ScoreMatching, "fit", at_most(sp.ScoreMatching.fit, steps=30))
    monkeypatch.setattr(sp.ScoreGuide, "fit_gaussian", at_most(sp.ScoreGuide.fit_gaussian, draws=20_000))
    monkeypatch.setattr(sp.ScoreGuide, "condition", at_most(sp.ScoreGuide.condition, steps=20))
    monkeypatch.setattr(sp.reference, "nuts", at_most(sp.reference.nuts, draws=4, warmup=4, chains=1))
