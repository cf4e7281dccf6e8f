"""How far each mean likelihood's guidance is from the exact one, pointwise, on the mixture problem.

Guidance is E[x_0 given x_t, y] - E[x_0 given x_t] = σ²/α ∂ ln l(y given x_t)/∂x_t. Printed for each rung and
level σ/α: |error|/|exact|, both root mean squares over draws of x_t given y; median over the problems.
"""

import argparse
import warnings

import mixture_ours as ours
import mixture_problems as problems
import numpy as np
import torch

import sdeppl as sp
from sdeppl.backend import place, to_host
from sdeppl.sde.grids import time_of_half_log_snr

LEVELS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)


def errors(problem: problems.Problem, rungs: tuple[str, ...], backend: sp.Backend, n: int) -> np.ndarray:
    """(rungs, levels)."""
    prior, seen = ours.known(problem, backend), ours.observation(problem, backend)
    posteriors = [
        sp.Posterior(prior, seen, likelihood=rung, correction=None).denoiser for rung in ("exact", *rungs)
    ]
    rng, found = np.random.default_rng([problem.seed, 4]), []
    for level in LEVELS:
        t = time_of_half_log_snr(ours.OURS, -np.log(level))
        x0 = problem.exact_draws(n, rng)
        x = ours.OURS.alpha(t) * x0 + ours.OURS.sigma(t) * rng.standard_normal(x0.shape)
        at = place(x, backend)
        plain = to_host(prior.mean(at, t))
        exact, *others = (to_host(posterior.mean(at, t)) - plain for posterior in posteriors)
        found.append([np.sqrt(np.mean((other - exact) ** 2) / np.mean(exact**2)) for other in others])
    return np.array(found).T


def main() -> None:
    """A table for each cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["8,1", "8,2", "8,4", "80,1", "80,4"], metavar="D,D")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--backend", default="torch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    backend = sp.resolve(options.backend)
    for text in options.cells:
        dim, count = (int(part) for part in text.split(","))
        made = [problems.make((dim, count), seed) for seed in range(options.problems)]
        table = np.median([errors(p, ours.RUNGS, backend, options.draws) for p in made], axis=0)
        print(f"\nd_x = {dim}, d_y = {count}; σ/α:" + "".join(f"{level:9g}" for level in LEVELS))
        for rung, row in zip(ours.RUNGS, table, strict=True):
            print(f"{rung:23}" + "".join(f"{value:9.2g}" for value in row), flush=True)


if __name__ == "__main__":
    main()
