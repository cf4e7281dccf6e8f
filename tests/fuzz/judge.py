"""What the library makes of a random model: right, refused, distrusted, wrong, an error, or slow."""

import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from random_models import LEAST_EFFECTIVE, Spec, Truth, truth

import sdeppl as sp

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
SUSPECT, WRONG = (
    4.0,
    5.0,
)  # standard errors of P(x < quantile) that call for a closer look; and that are wrong
ALLOWED = 0.04  # of P(x < quantile), for steps of the solver and a network


class TooSlow(BaseException):
    """The time is over; no Exception, so that nothing takes it for a failed correction."""


@dataclass(frozen=True)
class Outcome:
    """kind: 'right', 'refused', 'distrusted', 'wrong' and trusted, 'error', 'slow', or 'unknown' (no truth);
    what: in words; seconds: of the processor."""

    kind: str
    what: str
    seconds: float


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises TooSlow after so many seconds of processor time."""

    def stop(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(spec: Spec, steps: int = 0, draws: int = 600, seconds: float = 60.0) -> Outcome:
    """The guide's posterior held against importance sampling; a suspect one again with more draws of both."""
    found = truth(spec)
    if found.effective < LEAST_EFFECTIVE:
        found = truth(spec, 2_000_000)
    if found.effective < LEAST_EFFECTIVE / 4:
        return Outcome("unknown", f"{found.effective:.0f} effective draws", 0.0)
    start = time.process_time()
    try:
        with limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind, what = _judged(spec, found, steps, draws)
    except TooSlow:
        kind, what = "slow", f"more than {seconds:.0f} s"
    return Outcome(kind, what, time.process_time() - start)


def _judged(spec: Spec, found: Truth, steps: int, draws: int) -> tuple[str, str]:
    names = [name for name in spec.order if name not in spec.data]
    try:
        guide = sp.ScoreGuide(spec.model, latents=names)
        sp.ScoreMatching(guide, draws=20_000).fit(steps=steps, progress=False)
        posterior = guide.condition(spec.data)
        run = posterior.run(draws)
        size, where = farthest(run.draws, run.diagnosis.ess, found)
        if size > SUSPECT:
            found = truth(spec, 2_000_000, 2)
            run = posterior.run(8 * draws, seed=7)
            size, where = farthest(run.draws, run.diagnosis.ess, found)
    except sp.ModelError as error:
        named = any(name in str(error) for name in [*names, *spec.data])
        return ("refused" if named else "error"), f"ModelError: {error}"
    except Exception as error:
        return "error", f"{type(error).__name__}: {str(error)[:300]}"
    words = f"{where}; {run.diagnosis.text}"
    if not run.diagnosis.trusted:
        return "distrusted", words
    return ("wrong" if size > WRONG else "right"), words


def farthest(draws: Any, ess: float, found: Truth) -> tuple[float, str]:
    """The largest error of P(x < quantile) in standard errors, above what is allowed; and where it is."""
    worst, where = 0.0, "as exact"
    for name, values in draws.items():
        x = torch.as_tensor(values).double().reshape(len(values), -1).numpy()
        share = min(max(ess, 0.1), 1.0) / 2
        for level, row in zip(LEVELS, found.quantiles(name, LEVELS), strict=True):
            below = np.mean(x < row, axis=0)
            variance = level * (1 - level) * (1 / (share * len(x)) + 1 / found.effective)
            size = np.maximum(np.abs(below - level) - ALLOWED, 0.0) / np.sqrt(variance)
            k = int(np.argmax(size))
            if size[k] > worst:
                worst, where = float(size[k]), f"P({name}[{k}] < {row[k]:.4g}) = {below[k]:.3f}, not {level}"
    return worst, where
