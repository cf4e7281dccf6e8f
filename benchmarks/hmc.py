"""Effective samples per second of reference.hmc, Pyro's NUTS and NumPyro's, in one run.

    python benchmarks/hmc.py                             # about an hour on two cores
    python benchmarks/hmc.py --short                     # few draws of NUTS; its figures are rough
    python benchmarks/hmc.py --rivals NumPyro --rounds 5

Eight schools non-centred (references.py), a 2-d Gaussian with correlation .9, the Nile's level of 100
years with two gaps (nile.py), and inference-gym's Brownian bridge of 30 steps with known and unknown
scales (hmc_models.py). Effective samples are of the bulk, of the number that mixes worst, by `bulk_ess`
for all; seconds are of the whole run, warm-up and compilation included, then of the draws alone, compiled.
Rounds alternate between the samplers, each with another seed; medians over them, of the ratios too, since
the machine is not always as fast. One thread (XLA takes two where it likes), float64. The figure before
'sd' is the worst error of a mean, in posterior standard deviations, against the exact answer, or
inference-gym's by Stan.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hmc_models import numpyro_models, problems
from pyro.infer.autoguide.initialization import init_to_uniform

import sdeppl as sp
from sdeppl.mcmc import bulk_ess

Run = Callable[
    [int], tuple[dict[str, Any], float, float, float]
]  # seed ↦ draws, worst ess, seconds, of warm-up


OURS = "sdeppl, 256 chains"


def error_of(found: dict[str, Any], exact: dict[str, tuple[Any, Any]]) -> float:
    """Worst error of a mean, in standard deviations."""
    return max(float(np.max(np.abs(np.asarray(found[k]).mean(0) - m) / s)) for k, (m, s) in exact.items())


def ours(model: Any, y: Any) -> Run:
    """256 chains, with the defaults."""

    def run(seed: int) -> tuple[dict[str, Any], float, float, float]:
        found = sp.reference.hmc(model, {"y": y}, seed=seed, progress=False)
        return found.draws, found.worst_ess, found.seconds, found.warmup_seconds

    return run


def pyros(model: Any, y: Any, jit: bool, draws: int, warmup: int) -> Run:
    """One chain, from Pyro's own start: a draw of the half-Cauchy prior can be where no chain moves."""
    options = {"chains": 1, "draws": draws, "warmup": warmup, "progress": False}

    def run(seed: int) -> tuple[dict[str, Any], float, float, float]:
        found = sp.reference.nuts(
            model, {"y": y}, seed=seed, jit_compile=jit, init_strategy=init_to_uniform(), **options
        )
        return found.draws, found.worst_ess, found.seconds, found.warmup_seconds

    return run


def numpyros(model: Any, draws: int, warmup: int, chains: int = 1) -> Run:
    """Chains in one batch, by MCMC.run, which compiles; the draws alone are timed compiled."""

    def run(seed: int) -> tuple[dict[str, Any], float, float, float]:
        import jax
        from numpyro.infer import MCMC, NUTS

        options = {"num_chains": chains, "chain_method": "vectorized", "progress_bar": False}
        mcmc = MCMC(NUTS(model), num_warmup=warmup, num_samples=draws, **options)
        start = time.perf_counter()
        mcmc.run(jax.random.PRNGKey(seed))
        found = {name: np.array(value) for name, value in mcmc.get_samples(group_by_chain=True).items()}
        seconds = time.perf_counter() - start
        warm = seconds - compiled_seconds(mcmc.sampler, mcmc.last_state, draws)
        ess = min(float(bulk_ess(torch.from_numpy(v)).min()) for v in found.values())
        return {k: v.reshape(-1, *v.shape[2:]) for k, v in found.items()}, ess, seconds, warm

    return run


def compiled_seconds(kernel: Any, state: Any, draws: int) -> float:
    """Of as many iterations of a NumPyro kernel in one compiled loop."""
    import jax

    @jax.jit
    def loop(state: Any) -> Any:
        return jax.lax.fori_loop(0, draws, lambda _, inner: kernel.sample(inner, (), {}), state)

    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        state = jax.block_until_ready(loop(state))
    return time.perf_counter() - start


@dataclass(frozen=True)
class Measured:
    """Of one run: effective samples per second of all of it and of the draws alone, how many, their error."""

    whole: float
    alone: float
    ess: float
    error: float


def measure(run: Run, seed: int, columns: Any, exact: dict[str, Any]) -> Measured:
    """One run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws, ess, seconds, warm = run(seed)
    error = error_of(columns({k: np.asarray(v) for k, v in draws.items()}), exact)
    return Measured(ess / seconds, ess / (seconds - warm), ess, error)


def show(label: str, ours: list[Measured], theirs: list[Measured]) -> None:
    """A line of medians."""

    def median(values: Any) -> float:
        return float(np.median(list(values)))

    line = (
        f"  {label:28} {median(m.whole for m in theirs):10.1f} per s, {median(m.alone for m in theirs):9.1f} "
        f"without warm-up; {median(m.ess for m in theirs):8.0f} effective, "
        f"mean {median(m.error for m in theirs):.3f} sd"
    )
    if theirs is not ours:
        pairs = list(zip(ours, theirs, strict=True))
        line += f"; sdeppl gives {median(a.whole / b.whole for a, b in pairs):.1f} times as many, "
        line += f"{median(a.alone / b.alone for a, b in pairs):.2f} without warm-up"
    print(line, flush=True)


def main() -> None:
    """Print a table for each problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="one seed, few draws of NUTS")
    parser.add_argument("--rounds", type=int, default=3, help="seeds")
    parser.add_argument("--rivals", default="", help="how the names of the others to run begin")
    parser.add_argument("--only", default="", help="a part of the names of the problems to run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds, draws, warmup = (1, 400, 300) if arguments.short else (arguments.rounds, 1_000, 500)
    others = numpyro_models()
    if not others:
        print("NumPyro is not installed, so it is left out: pip install numpyro jax")
    for name, problem in problems().items():
        if arguments.only not in name:
            continue
        print(name, flush=True)
        model, y = problem.model, problem.y
        runs = {OURS: ours(model, y)}
        if others:
            runs["NumPyro's NUTS"] = numpyros(others[name], 1_000, 500)
            for chains in (64, 256):
                runs[f"NumPyro's NUTS, {chains} chains"] = numpyros(others[name], 100, 200, chains)
        runs["Pyro's NUTS, jit"] = pyros(model, y, True, draws, warmup)
        runs["Pyro's NUTS, no jit"] = pyros(model, y, False, draws, warmup)
        kept = (OURS, arguments.rivals)
        runs = {label: run for label, run in runs.items() if label.startswith(kept)}
        found: dict[str, list[Measured]] = {label: [] for label in runs}
        for seed in range(rounds):
            for label, run in runs.items():
                found[label].append(measure(run, seed, problem.columns, problem.exact))
        for label, values in found.items():
            show(label, found[OURS], values)


if __name__ == "__main__":
    main()
