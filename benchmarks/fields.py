"""Posteriors of Gaussian fields against exact ones: errors, ln p(y), seconds and memory.

    python benchmarks/fields.py exact --sides 64 128 256          # a guide fitted from draws of the model
    python benchmarks/fields.py exact --sides 1024 --true         # the true spectrum, and no fit
    python benchmarks/fields.py exact --sides 64 --reverse        # the reverse SDE besides

A Matérn field on the torus (ν = 1, range .06 of the side, unit variance), 5% of its pixels observed with
noise .1. Each side runs in a process of its own, on one thread; seconds are processor time.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from fields_answers import FACTORED, PIXELS, Errors, Field
from fields_problems import torus

import sdeppl as sp
from sdeppl.likelihood import LinearGaussian
from sdeppl.linalg import Diagonal, Selection, Stationary
from sdeppl.posterior import Posterior

HAND = {64: 20, 128: 5, 256: 3}  # draws by hand that are timed
DRAWS = {64: 4_000, 128: 4_000, 256: 4_000, 512: 100}
REVERSE = 4
BATCH = 64


def guide_of(field: Field, seed: int = 0) -> sp.ScoreGuide:
    """A guide, with the field's layout, for a model that has it as a simulator."""
    rows, columns = field.shape
    half = torch.tensor(np.sqrt(field.half))
    places = torch.tensor(field.places)

    def simulate(shape: tuple[int, ...] = ()) -> torch.Tensor:
        white = torch.randn((*shape, rows, columns), dtype=torch.float64)
        found: torch.Tensor = torch.fft.irfft2(half * torch.fft.rfft2(white), s=(rows, columns))
        return found

    def model(y: torch.Tensor | None = None) -> None:
        x = pyro.sample("field", sp.Simulated(simulate, shape=(rows, columns)))
        pyro.sample("y", dist.Normal(x.flatten(-2)[..., places], field.sd).to_event(1), obs=y)

    return sp.ScoreGuide(model, layout={"field": sp.Grid(periodic=True)}, net=None, seed=seed)


def fitted(field: Field, results: dict[str, Any]) -> Any:
    """The posterior of a guide that was fitted from draws of the model."""
    guide = guide_of(field)
    begin = time.process_time()
    guide.fit_gaussian()
    results |= {
        "fit": time.process_time() - begin,
        "fitted": repr(guide),
        "check": str(guide.fit_check.state),
    }
    begin = time.process_time()
    posterior = guide.condition(y=torch.tensor(field.y))
    results["condition"] = time.process_time() - begin
    return posterior


def known(field: Field, results: dict[str, Any]) -> Any:
    """The posterior of the true spectrum."""
    spectrum, y = torch.tensor(field.spectrum.reshape(-1)), torch.tensor(field.y)
    covariance = Stationary(torus(field.shape), spectrum)
    prior = sp.GaussianDenoiser(sp.VPSDE(), torch.zeros_like(spectrum), covariance)
    H, R = Selection(torch.tensor(field.places), field.dim, spectrum), Diagonal(0 * y + field.sd**2)
    begin = time.process_time()
    posterior = Posterior(prior, LinearGaussian(H, y, R))
    results["condition"] = time.process_time() - begin
    return posterior


def refitted(field: Field, fits: int) -> dict[str, float]:
    """How much ln p(y) differs from fit to fit, as a standard deviation over more of them."""
    found = []
    for seed in range(1, fits + 1):
        guide = guide_of(field, seed).fit_gaussian()
        found.append(guide.condition(y=torch.tensor(field.y)).run(1).diagnosis.log_evidence)
    return {"ln p of a fit": statistics.stdev(found), "fits": fits}


def numbers(draws: Any) -> np.ndarray:
    """Draws as (draws, dim)."""
    values = draws["field"] if isinstance(draws, dict) else draws
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def exact(field: Field, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything of one side, as JSON."""
    side, results = field.shape[0], dict[str, Any]()
    posterior = (known if arguments.true else fitted)(field, results)
    begin = time.process_time()
    posterior.sample(1, seed=1)
    results["first draw"] = time.process_time() - begin
    begin = time.process_time()
    posterior.sample(arguments.draws_timed, seed=2)
    results["direct"] = (time.process_time() - begin) / arguments.draws_timed
    results["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = posterior.run(1)
    results |= {
        "text": str(run),
        "ln p": run.diagnosis.log_evidence,
        "ln p error": run.diagnosis.log_evidence_error,
    }
    results["with ln p"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if arguments.reverse:
        begin = time.process_time()
        posterior.sample(REVERSE, seed=3, c=1.0)
        results["reverse"] = time.process_time() - begin
    if arguments.fits:
        results |= refitted(field, arguments.fits)
    if arguments.by_hand:
        results |= by_hand(field, HAND.get(side, 1))
    if len(field.y) <= FACTORED:
        results["exact ln p"] = field.log_evidence
        results |= errors(field, posterior, DRAWS.get(side, 100))
    return results


def by_hand(field: Field, count: int) -> dict[str, Any]:
    """Seconds and iterations of a draw by FFT and conjugate gradients."""
    rng, seconds, iterations = np.random.default_rng(1), [], []
    for _ in range(count):
        begin = time.process_time()
        iterations.append(field.draw(rng)[1])
        seconds.append(time.process_time() - begin)
    return {"by hand": statistics.median(seconds), "iterations": statistics.median(iterations)}


def errors(field: Field, posterior: Any, draws: int) -> dict[str, float]:
    """Of the draws at up to 4,096 pixels, drawn in batches of which these are kept."""
    pixels = np.sort(np.random.default_rng(2).choice(field.dim, min(PIXELS, field.dim), replace=False))
    kept = [numbers(posterior.sample(BATCH, seed=10 + first))[:, pixels] for first in range(0, draws, BATCH)]
    return vars(Errors.of(np.concatenate(kept), field.mean[pixels], field.deviations(pixels)))


def lines(side: int, found: dict[str, Any]) -> str:
    """What is printed of one side."""
    said = [f"{side}²: {found.get('fitted', 'true spectrum')}; {found['text']}"]
    if "mean" in found:
        rest = [
            math.sqrt(max(found[name] ** 2 - found[f"{name}_noise"] ** 2, 0.0)) for name in ("mean", "sd")
        ]
        said += [
            f"mean {found['mean']:.4f} sd off, {found['mean_noise']:.4f} of it by chance: {rest[0]:.4f} left",
            f"sd {found['sd']:.2%} off, {found['sd_noise']:.2%} of it by chance: {rest[1]:.2%} left",
            f"90% intervals hold {found['coverage']:.2%}",
        ]
    off = found["ln p"] - found.get("exact ln p", math.nan)
    said.append(f"ln p(y) {found['ln p']:.3f} ± {found['ln p error']:.3f}, off by {off:.3f}")
    if "fits" in found:
        spread = found["ln p of a fit"]
        said.append(f"{off / spread:.1f} times {spread:.3f}, the deviation among {found['fits']} more fits")
    if "fit" in found:
        said.append(f"fit {found['fit']:.2f} s, which is {found['check']}")
    said.append(f"condition {found['condition']:.2f} s, first draw {found['first draw']:.3f} s")
    said.append(f"a direct draw {found['direct']:.4f} s")
    if "by hand" in found:
        ratio = found["direct"] / found["by hand"], found["first draw"] / found["by hand"]
        said.append(f"by hand {found['by hand']:.3f} s, {found['iterations']:.0f} iterations")
        said.append(f"ratio {ratio[0]:.4f}, of the first draw {ratio[1]:.3f}")
    if "reverse" in found:
        said.append(f"{REVERSE} draws by the reverse SDE {found['reverse']:.1f} s")
    said.append(f"peak memory {found['memory']:.2f} GB, {found['with ln p']:.2f} with ln p(y)")
    return "\n    ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("exact", "one"))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--true", action="store_true", help="the true spectrum in place of a fit")
    parser.add_argument("--reverse", action="store_true", help="the reverse SDE besides")
    parser.add_argument("--no-hand", dest="by_hand", action="store_false", help="without the draw by hand")
    parser.add_argument("--fits", type=int, default=0, help="more fits, for how much ln p(y) differs")
    parser.add_argument("--draws-timed", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "one":
        found = exact(Field.matern(arguments.sides[0], seed=arguments.seed), arguments)
        print(json.dumps(found))
        return
    flags = [name for name in ("--true", "--reverse", "--no-hand") if name in sys.argv]
    for name in ("draws-timed", "seed", "fits"):
        flags += [f"--{name}", str(getattr(arguments, name.replace("-", "_")))]
    for side in arguments.sides:
        command = [sys.executable, str(Path(__file__)), "one", "--sides", str(side), *flags]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(lines(side, json.loads(done.stdout.splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
