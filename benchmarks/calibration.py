"""Calibration of guides on 1,000 data sets each: how long it takes, and what it says of right and wrong ones.

    python benchmarks/calibration.py [--sets 1000] [--draws 99] [--backend numpy] [MODEL ...]

For each model: SBC of the guide, TARP and coverage on the same draws, and SBC where the posterior takes the
noise for half as large (its variance; of counts, their exposure), which must be rejected.
"""

import argparse
import time
import warnings

import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp

D = torch.float64
X = torch.linspace(-1.0, 1.0, 8, dtype=D)
LINE = torch.stack([torch.ones(8, dtype=D), X], dim=1)


def coefficients(sd=1.0):
    return pyro.sample("x", dist.Normal(torch.tensor([0.5, 1.0], dtype=D), sd).to_event(1))


def line(y=None, factor=1.0):
    """Linear regression: a closed form."""
    pyro.sample("y", dist.Normal(LINE @ coefficients(), 0.7 * factor**0.5).to_event(1), obs=y)


def decay(y=None, factor=1.0):
    """Exponential decay seen with noise: nonlinear, Gaussian."""
    x = coefficients(0.5)
    mean = (x[0]).exp() * (-x[1].exp() * (X + 1)).exp()
    pyro.sample("y", dist.Normal(mean, 0.2 * factor**0.5).to_event(1), obs=y)


def counts(y=None, factor=1.0):
    """Poisson regression; the wrong posterior takes the exposure for half as large."""
    rate = 2.0 * factor * (LINE @ coefficients(0.7)).exp()
    pyro.sample("y", dist.Poisson(rate).to_event(1), obs=y)


MODELS = {"line": line, "decay": decay, "counts": counts}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--sets", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=99)
    parser.add_argument("--backend", default="numpy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        model = MODELS[name]
        guide = sp.ScoreGuide(model, net=None).fit_gaussian(progress=False)
        settings = {"backend": options.backend, "progress": False}
        for what, wrong in (("right", {}), ("halved", {"kwargs": {"factor": 0.5}})):
            start, wall = time.process_time(), time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = sp.simulate_posteriors(guide, options.sets, options.draws, **settings, **wrong)
            took, waited = time.process_time() - start, time.perf_counter() - wall
            p = ", ".join(
                f"{test.kind} p = {test.p:.2g} (deviation {test.deviation:.3f})"
                for test in (sp.sbc(found), sp.tarp(found), sp.coverage(found))
            )
            print(
                f"{name:<7} {what:<7} {took:6.1f} s of the processor, {waited:.0f} in all: {p}",
                f"({found.how}; {found.untrusted} untrusted)",
                flush=True,
            )


if __name__ == "__main__":
    main()
