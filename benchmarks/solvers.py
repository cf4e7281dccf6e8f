"""Euler–Maruyama's speed and memory: sdeppl, other libraries, loops by hand, the bare generators.

    python benchmarks/solvers.py            # about ten minutes
    python benchmarks/solvers.py --short    # a check that it runs; its figures mean little
    python benchmarks/solvers.py --only sdeppl hand torch   # the methods whose name has one of these words

Ornstein-Uhlenbeck, 1e5 paths × 1,000 steps, and Lorenz-63, 1e4 × 1,000; float32, final states only.
Each method has a process of its own with one thread. The processes take turns, so that a change in
the machine's load meets all of them. Time is the processor's, of all threads of the process. Every
method's answer is checked.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import loops
import numpy as np
import peers

GENERATORS = {
    "torch normal_": loops.torch_normal,
    "NumPy SFC64": loops.numpy_normal("SFC64"),
    "NumPy PCG64": loops.numpy_normal("PCG64"),
    "NumPy Philox": loops.numpy_normal("Philox"),
}
# What the ratios are to: a method's name ↦ its bare generator; torch's where none is named here.
OF_NUMPY = ("sdeppl, NumPy, native", "sdeppl, NumPy, host", "hand-fused NumPy")
METHODS: dict[str, Callable[[loops.Problem], Callable[[], Any]]] = {
    **GENERATORS,
    "sdeppl, torch, native": loops.sdeppl("torch", "native"),
    "sdeppl, NumPy, native": loops.sdeppl("numpy", "native"),
    "sdeppl, NumPy, torch's noise": loops.sdeppl("numpy", "torch"),
    "sdeppl, torch, host": loops.sdeppl("torch", "host"),
    "sdeppl, NumPy, host": loops.sdeppl("numpy", "host"),
    "sdeppl, torch, BrownianPath": loops.sdeppl("torch", "path"),
    "sdeppl, NumPy, BrownianPath": loops.sdeppl("numpy", "path"),
    "hand-fused torch": loops.hand_torch,
    "hand-fused NumPy": loops.hand_numpy(filled_by_torch=False),
    "NumPy loop, torch's noise": loops.hand_numpy(filled_by_torch=True),
    "jax scan": peers.jax_scan,
    "NumPyro": peers.numpyro,
    "diffrax, unsafe path": peers.diffrax(refinable=False),
    "diffrax, refinable path": peers.diffrax(refinable=True),
    "torchsde": peers.torchsde,
}
OPTIONAL = ("jax scan", "NumPyro", "diffrax, unsafe path", "diffrax, refinable path", "torchsde")
FEWER = {"diffrax, refinable path": 5_000}  # paths at most: it would take minutes for all
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def resident(peak: bool) -> float:
    """Megabytes of this process in memory, now or at most since `forget_peak`; nan where unknown."""
    name = "VmHWM:" if peak else "VmRSS:"
    try:
        with open("/proc/self/status") as status:
            return next(float(line.split()[1]) / 1024 for line in status if line.startswith(name))
    except (OSError, StopIteration):
        return math.nan


def forget_peak() -> None:
    """Start the peak of this process anew, where the system can."""
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        return


def work(name: str, problem: loops.Problem) -> None:
    """A method's process: one run for each line that comes in, one line of JSON back."""
    problem = replace(problem, paths=min(problem.paths, FEWER.get(name, problem.paths)))
    try:
        METHODS[name](replace(problem, paths=8, steps=4))()  # loads what it needs
        run = METHODS[name](problem)
    except ImportError as error:
        if name not in OPTIONAL:
            raise
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    before = resident(peak=False)
    run()  # compiles
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        forget_peak()
        start = time.process_time()
        states = run()
        seconds = time.process_time() - start
        found: dict[str, Any] = {
            "seconds": seconds,
            "taken": problem.paths,
            "megabytes": resident(peak=True) - before,
        }
        if states is not None:
            x = np.asarray(states, dtype=float)
            found |= {"mean": x.mean(0).tolist(), "variance": x.var(0).tolist(), "paths": len(x)}
        print(json.dumps(found), flush=True)


class Worker:
    """One method's process, seen from outside."""

    def __init__(self, name: str, problem: loops.Problem, short: bool) -> None:
        self.name, self.problem = name, problem
        self.runs: list[dict[str, Any]] = []
        command = [sys.executable, __file__, "--work", name, problem.name, *(["--short"] if short else [])]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **ONE_THREAD}
        )
        self.missing = self._answer().get("missing")

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            sys.exit(f"{self.name} on {self.problem.name} failed; see its message above")
        return json.loads(line)

    def run(self) -> None:
        """Once, if its library is installed."""
        if self.missing is None and self.process.stdin is not None:
            print(file=self.process.stdin, flush=True)
            self.runs.append(self._answer())

    def end(self) -> None:
        self.process.communicate()

    @property
    def seconds(self) -> list[float]:
        """A run, as if for all paths."""
        return [run["seconds"] * self.problem.paths / run["taken"] for run in self.runs]


def check(worker: Worker, others: list[Worker]) -> str:
    """The largest error of a mean or variance in standard errors. Raises: AssertionError above 5."""
    run = worker.runs[-1]
    mean, variance, n = np.array(run["mean"]), np.array(run["variance"]), run["paths"]
    if worker.problem.name == "ou":
        exact = loops.B**2 / (2 * loops.A) * -math.expm1(-2 * loops.A)
        z = [(mean - worker.problem.start[0] * math.exp(-loops.A)) / math.sqrt(exact / n)]
        z.append((variance - exact) / (exact * math.sqrt(2 / (n - 1))))
    else:
        centre = np.median([w.runs[-1]["mean"] for w in others], axis=0)
        z = [(mean - centre) / np.sqrt(variance / n)]
    worst = float(np.max(np.abs(z)))
    assert worst < 5, f"{worker.name} on {worker.problem.name} is wrong by {worst:.1f} standard errors"
    return f"{worst:.1f} se"


def table(workers: list[Worker]) -> None:
    """Medians over the rounds; ratios are medians of the rounds' ratios."""
    found = {w.name: w for w in workers if w.runs}
    solved = [w for w in found.values() if "mean" in w.runs[-1]]
    problem = workers[0].problem
    print(
        f"\n{problem.name}: {problem.paths:,} paths × {problem.steps:,} steps, dimension {problem.shape[1]}"
    )
    print(f"{'method':30}{'Mpath-steps/s':>14}{'/ bare':>8}{'/ hand':>8}{'memory':>10}{'error':>9}")
    for w in workers:
        if w.missing is not None:
            print(f"{w.name:30} not installed ({w.missing})")
            continue
        speed = problem.paths * problem.steps / np.median(w.seconds) / 1e6
        bare = w.name if w.name in GENERATORS else "NumPy SFC64" if w.name in OF_NUMPY else "torch normal_"
        hand = "hand-fused NumPy" if w.name in OF_NUMPY else "hand-fused torch"
        ratios = [
            f"{np.median(np.divide(found[to].seconds, w.seconds)):8.2f}" if to in found else f"{'-':>8}"
            for to in (bare, hand)
        ]
        memory = max(run["megabytes"] for run in w.runs)
        error = check(w, solved) if w in solved else "-"
        print(f"{w.name:30}{speed:14.2f}{''.join(ratios)}{memory:7.1f} MB{error:>9}", flush=True)


def main() -> None:
    """Both problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="methods with one of these")
    parser.add_argument("--problems", nargs="+", choices=loops.PROBLEMS, default=list(loops.PROBLEMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    problems = loops.PROBLEMS
    if options.short:
        problems = {name: replace(p, paths=p.paths // 50, steps=50) for name, p in problems.items()}
    if options.work:
        return work(options.work[0], problems[options.work[1]])
    print("Processor time of one thread, float32. bare: time of the bare generator of the same library")
    print("over the method's; hand: the hand-fused loop's. memory: peak above what is loaded. error: of")
    print("the mean (OU: and variance) at the end, in standard errors.")
    for name in options.problems:
        chosen = [m for m in METHODS if any(word in m for word in options.only)]
        workers = [Worker(method, problems[name], options.short) for method in chosen]
        for _ in range(options.rounds):
            for worker in workers:
                worker.run()
        for worker in workers:
            worker.end()
        table(workers)


if __name__ == "__main__":
    main()
