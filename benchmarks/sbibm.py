"""C2ST of posterior draws against sbibm's reference posteriors: ½ is perfect.

    python benchmarks/sbibm.py --wheel WHEEL     # with the exact prior score; without --wheel pip fetches it
    python benchmarks/sbibm.py --net             # also with a trained eps-net, through a Pyro model
    python benchmarks/sbibm.py --check           # instead: each task's own density against the references
    python benchmarks/sbibm.py --short           # a check that it runs; its figures mean little

Six tasks × observations 1 to 5. C2ST as the package sbibm 1.1.0 defines it, with as many reference
draws as draws. In ten dimensions its networks take minutes for 10,000 draws: `--jobs` spreads the folds over
processes, `--draws 1000` is noisier (a standard deviation of about .011) and quicker. Float64, one thread;
seconds are the processor's, of making the posterior and its draws, C2ST not counted.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sbibm_exact import importance_draws
from sbibm_files import Case, find_wheel, read_case, read_design_matrix
from sbibm_models import data, pyro_model
from sbibm_tasks import TASKS, Task, design_matrix

import sdeppl as sp
from sdeppl.backend import to_host
from sdeppl.diagnostics.two_samples import c2st, null_band
from sdeppl.posterior import TwistedSMC


@dataclass(frozen=True)
class Found:
    """One posterior: its C2ST, the seconds its draws took, and what the diagnosis says of them."""

    c2st: float
    seconds: float
    ess: float
    trusted: bool
    text: str


def judge(run: Callable[[], Any], case: Case, options: argparse.Namespace) -> Found:
    """Time `run`, which returns a `PosteriorRun`, and hold its draws against the reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in the diagnosis, which is printed
        start = time.process_time()
        found = run()
        seconds = time.process_time() - start
    draws = found.draws["theta"] if isinstance(found.draws, dict) else found.draws
    score = c2st(case.reference[: options.draws], to_host(draws), jobs=options.jobs)
    return Found(score, seconds, found.diagnosis.ess, found.diagnosis.trusted, str(found.diagnosis))


def correction(options: argparse.Namespace) -> Any:
    """The default one, or one with `--particles` a run."""
    return "auto" if options.particles is None else TwistedSMC(options.particles)


def with_exact_score(task: Task, case: Case, options: argparse.Namespace) -> Found:
    """The prior's exact denoiser and the exact p(y | θ)."""
    backend = sp.resolve(options.backend)

    def run() -> Any:
        prior = task.denoiser(sp.VPSDE(), backend)
        observation = task.observation(case.y, backend)
        posterior = sp.Posterior(
            prior,
            observation,
            likelihood=options.likelihood,
            steps=options.steps,
            correction=correction(options),
        )
        return posterior.run(options.draws, seed=options.seed)

    return judge(run, case, options)


def with_net(guide: sp.ScoreGuide, task: Task, case: Case, options: argparse.Namespace) -> Found:
    """A guide that was trained once for the task, conditioned on this observation."""

    def run() -> Any:
        posterior = guide.condition(
            y=data(task, case.y),
            likelihood=options.likelihood,
            steps=options.steps,
            backend=options.backend,
            correction=correction(options),
        )
        return posterior.run(options.draws, seed=options.seed)

    return judge(run, case, options)


def trained(task: Task, options: argparse.Namespace) -> sp.ScoreGuide:
    """A guide for the task's model; prints what its training took."""
    guide = sp.ScoreGuide(pyro_model(task), seed=options.seed)
    start = time.process_time()
    training = sp.ScoreMatching(guide, seed=options.seed)
    training.fit(steps=options.training, progress=False)
    kept = "kept" if guide.use_net else "left out, as no better than the Gaussian part"
    print(f"{task.name}: {options.training} steps in {time.process_time() - start:.0f} s; the net is {kept}")
    return guide


def check(task: Task, case: Case, options: argparse.Namespace) -> None:
    """Draws by the task's density alone against the reference, and the reference against itself."""
    size = options.draws // 2
    proposals = 20 * options.draws if options.short else 1_000_000 if task.dim == 10 else 200_000
    exact = importance_draws(task, case.y, case.reference, size, proposals)
    found = c2st(case.reference[:size], exact.draws, jobs=options.jobs)
    null, spread = null_band(case.reference, size // 4, 4)
    print(
        f"{task.name:24} {found:.3f}, {size} draws of {exact.ess:.0f} effective; reference against itself, "
        f"{size // 4} draws: {null:.3f} ± {spread:.3f}; ln p(y) = {exact.log_evidence:.3f} "
        f"± {exact.log_evidence_error:.3f}",
        flush=True,
    )


def row(name: str, observation: Any, found: list[Found], note: str = "") -> None:
    """One line of the table; `!` where the diagnosis says not to trust the draws."""
    cells = "".join(f"{f.c2st:9.3f}{'' if f.trusted else '!':1}{f.seconds:8.1f} s{f.ess:7.2f}" for f in found)
    print(f"{name:24}{observation!s:>5}{cells}{note}", flush=True)


def mean_of(found: list[Found]) -> Found:
    """Means over observations or tasks."""
    columns = [(f.c2st, f.seconds, f.ess) for f in found]
    return Found(*np.mean(columns, axis=0).tolist(), all(f.trusted for f in found), "")


def table(tasks: list[Task], wheel: Path, options: argparse.Namespace) -> None:
    """A row for each observation, each task's mean, and the mean over tasks."""
    kinds = ["exact score", "eps-net"][: 1 + options.net]
    means: dict[str, list[Found]] = {}
    print(f"{'task':24}{'obs':>5}" + "".join(f"{kind + ': C2ST':>20}{'ESS':>7}" for kind in kinds))
    for task in tasks:
        guide = trained(task, options) if options.net else None
        rows = []
        for observation in options.observations:
            case = read_case(wheel, task.name, observation)
            found = [with_exact_score(task, case, options)]
            if guide is not None:
                found.append(with_net(guide, task, case, options))
            row(task.name, observation, found)
            if options.verbose:
                print("\n".join(f"    {kind}: {f.text}" for kind, f in zip(kinds, found, strict=True)))
            rows.append(found)
        means[task.name] = [mean_of(list(column)) for column in zip(*rows, strict=True)]
        published = f"   published: {task.published:.3f}" if task.published is not None else ""
        row(task.name, "mean", means[task.name], published)
    known = [task for task in tasks if task.published is not None]
    for label, chosen in (("all", tasks), ("all that are published", known)):
        if chosen:
            columns = zip(*(means[task.name] for task in chosen), strict=True)
            published = np.mean([task.published for task in chosen]) if chosen is known else None
            note = f"   published: {published:.3f}" if published is not None else ""
            row(label, "mean", [mean_of(list(column)) for column in columns], note)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", help="sbibm's wheel, 1.1.0; by default pip fetches it into a cache folder")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--observations", nargs="+", type=int, choices=range(1, 11), default=[1, 2, 3, 4, 5])
    parser.add_argument("--net", action="store_true", help="also with a trained eps-net, by a Pyro model")
    parser.add_argument("--check", action="store_true", help="the densities against the references instead")
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    parser.add_argument("--verbose", action="store_true", help="print each diagnosis in words")
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100, help="of the reverse SDE")
    parser.add_argument("--training", type=int, default=5_000, help="steps of score matching")
    parser.add_argument("--likelihood", default="auto")
    parser.add_argument("--particles", type=int, default=None, help="of each twisted run; by default 64")
    parser.add_argument("--backend", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=None, help="processes for the folds of C2ST")
    options = parser.parse_args()
    if options.short:
        options.draws, options.training, options.observations = 200, 50, options.observations[:1]
    return options


def main() -> None:
    """The table, or the check."""
    options = arguments()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    wheel = find_wheel(options.wheel)
    if not np.array_equal(read_design_matrix(wheel), design_matrix()):
        raise SystemExit("the wheel's design matrix of bernoulli_glm is not the one that the task has here")
    tasks = [TASKS[name] for name in options.tasks]
    if not options.check:
        return table(tasks, wheel, options)
    for task in tasks:
        for observation in options.observations:
            check(task, read_case(wheel, task.name, observation), options)


if __name__ == "__main__":
    main()
