"""Sliced Wasserstein-1 to the exact posterior on the Gaussian-mixture linear inverse problem.

Exact score, one thread, float64. Every method gives the same number of draws of the same problems, one after
the other; seconds are the processor's for one problem, set-up included.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mcgdiff
import mixture_ours as ours
import mixture_problems as problems
import numpy as np
import torch
from mixture_ours import Answer
from mixture_problems import Problem, Ruler

import sdeppl as sp

Method = Callable[[Problem, int, int], Answer]
FLOORS = 10  # sets of exact draws, whose mean distance to the ruler's set is the floor
PEER_STEPS = 100
MORE = 10  # times the particles of the peers that are SMC, to see what accuracy costs them


def peer_settings() -> dict[str, tuple[Any, list[float]]]:
    """Forward SDE and times of the reverse: as published, uniform in t; and ours, uniform in ln(α/σ)."""
    uniform = [1 - k / PEER_STEPS for k in range(PEER_STEPS)] + [0.0]
    return {
        "β to 20": (ours.PUBLISHED, uniform),
        "β to 30": (ours.OURS, sp.log_snr_grid(ours.OURS, PEER_STEPS)),
    }


def peers() -> dict[str, Method]:
    """azula's methods where it is installed, and MCGDiff and DDRM."""
    table: dict[str, Method] = {}
    try:
        import azula_methods
    except ImportError as error:
        print(f"azula is not installed ({error}): pip install --no-deps azula einops")
        azula_methods = None  # type: ignore[assignment]
    for label, (sde, times) in peer_settings().items():
        if azula_methods is not None:
            for name, method in azula_methods.METHODS.items():
                table[f"azula {name}, {label}"] = partial(_azula, azula_methods.Setting, method, sde, times)
        for function in (mcgdiff.mcgdiff, mcgdiff.ddrm):
            name = {"mcgdiff": "MCGDiff", "ddrm": "DDRM"}[function.__name__]
            table[f"{name}, {label}"] = partial(_numpy, function, sde, times)
        for name in (f"azula TDS, {label}", f"MCGDiff, {label}"):
            if name in table:  # both are exact as the number of particles grows
                table[f"{name}, × {MORE}"] = partial(_thinned, table[name])
    return table


def _thinned(method: Method, problem: Problem, n: int, seed: int) -> Answer:
    """n of MORE times as many particles."""
    draws = method(problem, MORE * n, seed).draws
    return Answer(draws[np.random.default_rng([seed, 9]).permutation(len(draws))[:n]])


def _azula(setting: Any, method: Any, sde: Any, times: Any, problem: Problem, n: int, seed: int) -> Answer:
    return Answer(method(setting(problem, sde, times), n, seed))


def _numpy(function: Any, sde: Any, times: Any, problem: Problem, n: int, seed: int) -> Answer:
    return Answer(function(problem, n, seed, sde, times))


def baselines() -> dict[str, Method]:
    """Exact draws, and the prior's."""
    return {
        "floor": lambda problem, n, seed: Answer(problem.exact_draws(n, np.random.default_rng([seed, 2]))),
        "prior": lambda problem, n, seed: Answer(problem.prior_draws(n, np.random.default_rng([seed, 3]))),
    }


def number(value: Any) -> str:
    """Three decimals, or powers of ten, in eight characters."""
    return f"{value:8.3f}" if value < 1e3 else f"{value:8.1g}" if math.isfinite(value) else f"{'inf':>8}"


class Row:
    """What one method did on the problems of a cell."""

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.seconds: list[float] = []
        self.evidence: list[tuple[float, float]] = []  # error in nats, and in its own standard errors
        self.distrusted = 0
        self.work: list[tuple[float, float]] = []  # evaluations and products a draw
        self.failures: list[str] = []

    def run(self, method: Method, problem: Problem, ruler: Ruler, n: int) -> None:
        start = time.process_time()
        try:
            answer = method(problem, n, problem.seed)
        except (ArithmeticError, RuntimeError) as error:
            self.failures.append(f"{type(error).__name__}: {str(error)[:100]}")
            answer = Answer(np.full((n, problem.dim), math.inf))
        self.seconds.append(time.process_time() - start)
        finite = np.all(np.isfinite(answer.draws))
        self.distances.append(ruler.distance(answer.draws) if finite else math.inf)
        self.distrusted += answer.trusted is False
        self.work += [] if answer.work is None else [answer.work]
        if answer.log_evidence is not None:
            error_in_nats = abs(answer.log_evidence - problem.log_evidence())
            self.evidence.append((error_in_nats, error_in_nats / max(answer.error, 1e-9)))

    def line(self, name: str, floor: float) -> str:
        """Mean ± 1.96 standard errors, median, mean over the floor, seconds, ln p(y), distrusted problems."""
        found, count = np.array(self.distances), len(self.distances)
        spread = 1.96 * np.std(found, ddof=1) / math.sqrt(count) if count > 1 else math.nan
        text = f"{name:38}{number(np.mean(found))} ±{number(spread)}{number(np.median(found))}"
        text += f"{number(np.mean(found) / floor)}{np.mean(self.seconds):9.2f}"
        if self.evidence:
            nats, errors = np.array(self.evidence).T
            worst = f"{np.max(errors):.1f}" if np.max(errors) < 1e3 else "-"
            text += f"{np.sqrt(np.mean(nats**2)):10.3f}{np.max(nats):8.3f}{worst:>8}{self.distrusted:6d}"
        return text


def cell_table(cell: tuple[int, int], count: int, n: int, methods: dict[str, Method]) -> None:
    """All methods on all problems of one cell, taking turns."""
    rows: dict[str, Row] = {name: Row() for name in methods}
    floors = []
    with np.errstate(over="ignore", invalid="ignore"):
        for seed in range(count):
            problem = problems.make(cell, seed)
            ruler = Ruler.of(problem, n)
            rngs = (np.random.default_rng([seed, 2, k]) for k in range(FLOORS))
            floors.append(np.mean([ruler.distance(problem.exact_draws(n, rng)) for rng in rngs]))
            for name, method in methods.items():
                rows[name].run(method, problem, ruler, n)
    floor = float(np.mean(floors))
    print(f"\nd_x = {cell[0]}, d_y = {cell[1]}: {count} problems, {n} draws, floor {floor:.3f}")
    head = f"{'method':38}{'SW':>8}{'':10}{'median':>8}{'/ floor':>8}{'seconds':>9}"
    print(head + f"{'ln p(y)':>10}{'largest':>8}{'z':>8}{'?':>6}")
    for name, row in rows.items():
        print(row.line(name, floor), flush=True)
    for name, row in rows.items():
        if row.work:
            evaluations, products = np.mean(row.work, axis=0)
            print(f"{name}, a draw: {evaluations:.0f} evaluations, {products:.0f} products with the slope")
        if row.failures:
            print(f"{name}: {len(row.failures)} problems failed, the first by {row.failures[0]}")


def main() -> None:
    """All cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="2 problems, 100 draws, to see that it runs")
    parser.add_argument("--cells", nargs="+", default=[f"{x},{y}" for x, y in problems.CELLS], metavar="D,D")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400], help="of sdeppl's methods")
    parser.add_argument("--backend", default="torch", help="of sdeppl's methods")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="methods with one of these")
    parser.add_argument("--slow", action="store_true", help="'monte-carlo', too")
    options = parser.parse_args()
    if options.short:
        options.problems, options.draws, options.steps = 2, 100, [50]
    torch.set_num_threads(1)
    methods = baselines() | ours.methods(tuple(options.steps), options.backend, options.slow) | peers()
    chosen = {name: m for name, m in methods.items() if any(word in name for word in options.only)}
    first = problems.make((8, 1), 1_000)
    for method in chosen.values():
        Row().run(method, first, Ruler.of(first, 20), 20)  # loads what it needs
    print("SW: mean ± 1.96 standard errors over the problems. ln p(y): root mean square error in nats, the")
    print("largest, and (z) the largest in its own standard errors; ?: problems that it distrusts.")
    for text in options.cells:
        dim, count = (int(part) for part in text.split(","))
        cell_table((dim, count), options.problems, options.draws, chosen)


if __name__ == "__main__":
    main()
