"""What torch.compile makes of a step: a network's own, guided by 'dps', and by Tweedie's covariance.

    python benchmarks/compiled.py    # two to four minutes, most of them the compiler's; needs a C++ compiler

The network and the query of backends.py: 24 numbers, 8 seen, 256 rows, float64, one thread. Ratios are
medians of steps that take turns. s and t are constants of the compiled step, as where a step is compiled once
for each interval of a grid that is used again and again.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

import sdeppl as sp
from backends import SDE, Query, medians
from sdeppl.backend import place


def step_of(query: Query, likelihood: str | None) -> Callable[[Any, Any], Any]:
    """(x, z) ↦ the state after an exponential Euler step from t = .5 to .48."""
    prior = query.prior("torch", "module")
    seen = sp.LinearGaussian(place(query.H, prior.backend), place(query.y, prior.backend), 0.1)
    rung: Any = likelihood
    if likelihood == "tweedie":
        rung = sp.TweedieDenoiser(prior, seen, "matrix-free", 1e-6, gradient="mean")
    guided = prior if rung is None else sp.Posterior(prior, seen, rung, correction=None).denoiser
    reverse, solver = sp.ReverseSDE(SDE, guided, 1.0), sp.ExponentialEuler()
    return lambda x, z: solver.step(reverse, x, 0.5, 0.48, z, None)[0]


def line(name: str, step: Callable[[Any, Any], Any], x: Any, z: Any, repeats: int) -> str:
    """Compile, compare, time."""
    torch.compiler.reset()
    start = time.perf_counter()
    compiled = torch.compile(step, fullgraph=True)
    torch.testing.assert_close(compiled(x, z), step(x, z), rtol=1e-9, atol=1e-9)
    seconds = time.perf_counter() - start
    found = medians({"eager": lambda: step(x, z), "compiled": lambda: compiled(x, z)}, repeats)
    return (
        f"{name:10} eager/compiled = {found['eager'] / found['compiled']:.2f}, "
        f"{1e3 * found['eager']:.1f} ms a step; compiled in {seconds:.0f} s"
    )


def main() -> None:
    """A line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    query = Query(dim=24, draws=options.rows, steps=50)
    torch.manual_seed(1)
    x, z = (torch.randn(options.rows, query.dim, dtype=torch.float64) for _ in range(2))
    for likelihood in (None, "dps", "tweedie"):
        print(line(likelihood or "unguided", step_of(query, likelihood), x, z, options.repeats), flush=True)


if __name__ == "__main__":
    main()
