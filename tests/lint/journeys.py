"""How many files of the package a call goes through, and how often control passes from one to another.

    python tests/lint/journeys.py             # the three journeys
    python tests/lint/journeys.py --files     # and the files of each, with the functions entered

A file counts once one of its functions is called; a passage is a pair of files, the one a call comes from and
the one that it enters, and passages in all count each call. Each journey is made once before, so that what is
imported only when it is first used does not count; objects are made anew for the count.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp

PACKAGE = Path(sp.__file__).resolve().parent
WHOLE_FILE = "<module>"


@dataclass
class Journey:
    """passages: (from, to) ↦ calls; functions: file ↦ names entered."""

    passages: Counter[tuple[str, str]] = field(default_factory=Counter)
    functions: dict[str, Counter[str]] = field(default_factory=dict)

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """Of sys.setprofile."""
        if event != "call" or (here := _file(frame)) is None or frame.f_code.co_name == WHOLE_FILE:
            return
        self.functions.setdefault(here, Counter())[frame.f_code.co_name] += 1
        before: FrameType | None = frame.f_back
        while before is not None and _file(before) is None:
            before = before.f_back
        came_from = "outside" if before is None else _file(before)
        if came_from is not None and came_from != here:
            self.passages[came_from, here] += 1

    def __str__(self) -> str:
        total = sum(self.passages.values())
        return f"{len(self.functions)} files, {len(self.passages)} passages between two ({total:,} in all)"


_KNOWN: dict[str, str | None] = {}


def _file(frame: FrameType) -> str | None:
    """Below the package's folder; None for a frame of something else."""
    name = frame.f_code.co_filename
    if name not in _KNOWN:
        path = Path(name)
        inside = path.is_absolute() and path.is_relative_to(PACKAGE)
        _KNOWN[name] = path.relative_to(PACKAGE).as_posix() if inside else None
    return _KNOWN[name]


def travelled(prepare: Callable[[], Callable[[], Any]]) -> Journey:
    """prepare makes the objects, anew each time, and returns the call that counts."""
    prepare()()
    call, journey = prepare(), Journey()
    sys.setprofile(journey.note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return journey


def _mixture() -> tuple[Any, Any]:
    """A Gaussian mixture of two components in the plane, and a linear observation of it."""
    means = np.array([[1.0, 2.0], [-2.0, 0.5]])
    covariances = np.array([[[1.5, 0.4], [0.4, 0.7]], [[0.6, -0.2], [-0.2, 0.9]]])
    prior = sp.GaussianMixtureDenoiser(sp.VPSDE(), np.array([0.3, 0.7]), means, covariances)
    return prior, sp.LinearGaussian(np.array([[1.0, -0.5]]), np.array([0.8]), 0.3)


def closed_form() -> Callable[[], Any]:
    """`Posterior.sample` of a Gaussian mixture seen through a linear observation."""
    posterior = sp.Posterior(*_mixture())
    return lambda: posterior.sample(32)


def twisted() -> Callable[[], Any]:
    """`Posterior.sample` of the same prior as a black box, by twisted SMC."""
    known, seen = _mixture()
    prior = sp.CallableDenoiser(
        known.sde, known.mean, lambda x, t: known(x, t).covariance, known.dim, known.backend
    )
    posterior = sp.Posterior(prior, seen, steps=40, correction=sp.TwistedSMC())
    return lambda: posterior.sample(32)


def condition() -> Callable[[], Any]:
    """`guide.condition` on data that are a nonlinear function of a normal latent, with known noise."""

    def model(y: torch.Tensor | None = None) -> None:
        x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -1.0]), 2.0).to_event(1))
        pyro.sample("y", dist.Normal(torch.exp(0.3 * x), 0.5).to_event(1), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=2_000).fit(0, progress=False)
    return lambda: guide.condition(y=torch.tensor([1.5, 0.4]))


JOURNEYS = {
    "Posterior.sample, closed form": closed_form,
    "Posterior.sample, twisted": twisted,
    "guide.condition": condition,
}


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", action="store_true", help="the files of each, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, prepare in JOURNEYS.items():
        journey = travelled(prepare)
        print(f"{name}: {journey}")
        for file in sorted(journey.functions) if options.files else ():
            print(f"    {file}: {', '.join(sorted(journey.functions[file]))}")


if __name__ == "__main__":
    main()
