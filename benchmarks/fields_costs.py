"""Seconds of a training step and of a guided step, evaluations and memory from 16² to 256², ours and azula's.

    PYTHONPATH=DIR python benchmarks/fields_costs.py --sides 16 32 64 128 256    # DIR: where azula is

The same U-Net for both (`sp.UNet()`, by size), weights at random; a Matérn field on the torus of which 5% was
seen with noise .1. Guided steps: DPS, and MMPS with one iteration, both azula's own settings; a draw takes as
many steps as one likes, so that a step is what is compared. Each side in a process of its own, one thread;
seconds are processor time.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyro
import pyro.distributions as dist
import torch
from fields_problems import matern_spectrum, torus

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.denoisers import OnGrid
from sdeppl.likelihood import LinearGaussian
from sdeppl.linalg import Selection, Stationary

STEPS, DRAWS = 4, {16: 16, 32: 16, 64: 8, 128: 4, 256: 2}
SEEN, NOISE = 0.05, 0.1
TIMES = [0.9, 0.7, 0.5, 0.3, 0.1]  # of a VP-SDE: 4 guided steps


class Counted(torch.nn.Module):
    """A network that counts rows evaluated, and rows of products with its slope."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.rows, self.products = inner, 0, 0

    def forward(self, x: torch.Tensor, level: Any) -> Any:
        self.rows += len(x)
        return self.inner(x, level)


class CountedFunction(TorchFunction):
    """The same of ours, whose products go by its pullback."""

    def with_pullback(self, x: Any, *numbers: float) -> Any:
        value, pull = super().with_pullback(x, *numbers)

        def pullback(v: Any) -> Any:
            self.module.products += v.shape[0] * (v.shape[1] if v.ndim == 3 else 1)
            return pull(v)

        return value, pullback


def network(side: int) -> sp.FieldNetwork:
    """With weights that are not zero."""
    torch.manual_seed(0)
    net = sp.FieldNetwork([torus((side, side))])
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return net


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """The median after a first time."""
    run()
    found = []
    for _ in range(times):
        begin = time.process_time()
        run()
        found.append(time.process_time() - begin)
    return statistics.median(found)


def training_step(side: int) -> tuple[float, int]:
    """Seconds of a step of `ScoreMatching`, draws of the model and noising included, and its rows."""
    half = torch.tensor(matern_spectrum((side, side))).sqrt()[:, : side // 2 + 1]

    def simulate(n: int, generator: torch.Generator) -> torch.Tensor:
        white = torch.randn((n, side, side), generator=generator)
        return torch.fft.irfft2(half.float() * torch.fft.rfft2(white), s=(side, side))

    def model() -> None:
        x = pyro.sample("field", sp.Simulated(simulate, shape=(side, side)))
        pyro.sample("y", dist.Normal(x.sum(), 1.0))

    guide = sp.ScoreGuide(model, layout={"field": sp.Grid(periodic=True)})
    training = sp.ScoreMatching(guide, draws=64 if side > 64 else 1_000)
    return seconds(training.step), training.batch


def ours(side: int, places: torch.Tensor, y: torch.Tensor, dtype: str) -> dict[str, tuple[float, int, int]]:
    """Of each method seconds, evaluations and products of a guided step of a draw."""
    backend, draws = sp.resolve("torch", dtype), DRAWS[side]
    like = torch.zeros(1, dtype=backend.dtype)
    spectrum = torch.tensor(matern_spectrum((side, side)), dtype=backend.dtype).flatten()
    covariance = Stationary(torus((side, side)), spectrum)
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), torch.zeros(side**2, dtype=backend.dtype), covariance)
    counted = Counted(network(side))
    prior = sp.NetworkDenoiser(gaussian, CountedFunction(counted), OnGrid)
    noise = torch.full_like(y, NOISE**2).to(backend.dtype)
    seen = LinearGaussian(Selection(places, side**2, like), y.to(backend.dtype), noise)
    found = {}
    for name, guided in (
        ("dps", sp.DPSDenoiser(prior, seen, zeta=1.0, step=0.1)),
        ("mmps", sp.TweedieDenoiser(prior, seen, method="matrix-free", iterations=1)),
    ):
        reverse, x = sp.ReverseSDE(sp.VPSDE(), guided), torch.randn(draws, side**2, dtype=backend.dtype)
        found[name] = per_step(lambda r=reverse, x=x: sp.solve(r, x, TIMES, keep="last"), counted, draws)
    return found


def per_step(run: Callable[[], object], counted: Counted, draws: int) -> tuple[float, int, int]:
    """Of a run of `STEPS` steps."""
    took = seconds(run) / (STEPS * draws)
    counted.rows = counted.products = 0
    run()
    return took, round(counted.rows / (STEPS * draws)), round(counted.products / (STEPS * draws))


def azulas(side: int, places: torch.Tensor, y: torch.Tensor) -> dict[str, tuple[float, int, int]]:
    """The same by azula's classes, in float32, its default, with its EDM preconditioning."""
    from azula.denoise import KarrasDenoiser
    from azula.guidance.dps import DPSSampler
    from azula.guidance.mmps import MMPSDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VPSchedule
    from azula.sample import DDPMSampler

    counted, draws = Counted(network(side).modules_of_grids[0]), DRAWS[side]

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = counted

        def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.inner(torch.cat([x, x], dim=1), level)
            if output.requires_grad:
                output.register_hook(self.count)
            return output

        def count(self, slope: torch.Tensor) -> None:
            counted.products += len(slope)

    def observe(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, places]

    prior = KarrasDenoiser(Backbone(), VPSchedule())
    noise = IsotropicCovariance(torch.tensor(NOISE**2))
    options: Any = {"steps": STEPS, "silent": True, "start": 0.9, "stop": 0.1}
    rows = y.float().expand(draws, -1)
    found = {}
    for name, sampler in (
        ("dps", DPSSampler(prior, rows, observe, zeta=1.0, **options)),
        ("mmps", DDPMSampler(MMPSDenoiser(prior, rows, observe, noise), **options)),
    ):
        x = torch.randn(draws, 1, side, side)
        found[name] = per_step(lambda s=sampler, x=x: s(x), counted, draws)
    return found


def one_side(side: int, train: bool) -> None:
    """All figures of a side, on a line each."""
    torch.set_num_threads(1)
    places = torch.randperm(side**2, generator=torch.Generator().manual_seed(0))[: int(SEEN * side**2)]
    y = torch.randn(len(places), generator=torch.Generator().manual_seed(1))
    if train:
        took, rows = training_step(side)
        print(
            f"{side}²: a training step of {rows} rows {took:.3f} s, {1e3 * took / rows:.2f} ms a row",
            flush=True,
        )
    runs = {
        "ours": lambda: ours(side, places, y, "float64"),
        "ours, float32": lambda: ours(side, places, y, "float32"),
    }
    try:
        import azula  # noqa: F401

        runs["azula"] = lambda: azulas(side, places, y)
    except ImportError:
        print("azula is not installed: pip install --no-deps azula einops")
    for words, run in runs.items():
        for name, (took, rows, products) in run().items():
            print(
                f"{side}² {name:4s} {words:13s} {1e3 * took:7.2f} ms a step of a draw, {rows} evaluations, "
                f"{products} products, {1e3 * took / (rows + products):.2f} ms each",
                flush=True,
            )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{side}²: peak memory {memory:.2f} GB", flush=True)


def main() -> None:
    """Each side in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64], choices=sorted(DRAWS))
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--one", action="store_true", help="in this process")
    asked = parser.parse_args()
    if asked.one:
        one_side(asked.sides[0], not asked.no_training)
        return
    for side in asked.sides:
        more = ["--no-training"] if asked.no_training else []
        subprocess.run([sys.executable, __file__, "--one", "--sides", str(side), *more], check=True)


if __name__ == "__main__":
    main()
