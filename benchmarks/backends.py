"""What the backend layer costs: overhead of a step, a guided query beside azula's, import time, memory.

    python benchmarks/backends.py           # all of it, in one run: a few minutes
    python benchmarks/backends.py --short   # a check that it runs; its figures mean little

One thread. Ratios are medians of runs that take turns, so that a busy machine slows both alike.
"""

import argparse
import functools
import itertools
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is loaded

import numpy as np
import torch

import sdeppl as sp
from sdeppl.backend import TorchFunction, place, to_host

SDE = sp.VPSDE()


def medians(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one that is not counted; they take turns, in a new order each time."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names, order = list(runs), random.Random(0)
    for repeat in range(repeats + 1):
        order.shuffle(names)
        for name in names:
            start = time.process_time()
            runs[name]()
            if repeat:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


# ---- A step -----------------------------------------------------------------------------------------


def by_hand(gaussian: Any, x: Any, times: list[float], normal: Callable[[], Any], one_product: bool) -> Any:
    """The exponential Euler scheme for a Gaussian denoiser as one would write it down, c = 1.

    one_product: with V diag(gain) Vᵀ multiplied out, which the library's denoiser does where it is less work.
    """
    xp, V, eigenvalues, m = gaussian.backend.xp, gaussian.basis, gaussian.eigenvalues, gaussian.location
    for s, t in itertools.pairwise(times):
        alpha, sigma = SDE.alpha(s), SDE.sigma(s)
        gain = alpha * eigenvalues / (alpha * alpha * eigenvalues + sigma**2)
        if one_product:
            mean = m + (x - alpha * m) @ ((V * gain) @ V.T)
        else:
            mean = m + (gain * ((x - alpha * m) @ V)) @ V.T
        alpha_t, sigma_t = SDE.alpha(t), SDE.sigma(t)
        r = alpha * sigma_t / (sigma * alpha_t)
        noise = sigma_t * math.sqrt(1 - r * r)
        x = sigma_t / sigma * r * x + alpha_t * (1 - r * r) * mean + noise * normal()
    assert bool(xp.all(xp.isfinite(x)))
    return x


def overhead(backend_name: str, batch: int, dim: int, steps: int, repeats: int) -> tuple[float, float]:
    """Seconds of `solve` over seconds of the loop by hand, with the library's own generator in both: the loop
    with one product a step, as in the library, and with two."""
    backend = sp.resolve(backend_name)
    rng = np.random.default_rng(0)
    A = rng.standard_normal((dim, 2 * dim))
    gaussian = sp.GaussianDenoiser(SDE, place(rng.standard_normal(dim), backend), place(A @ A.T, backend))
    x, times = place(rng.standard_normal((batch, dim)), backend), sp.log_snr_grid(SDE, steps)[:-1]
    reverse = sp.ReverseSDE(SDE, gaussian)

    def ours() -> Any:
        noise = sp.Noise(0, "native")
        return sp.solve(reverse, x, times, solver=sp.ExponentialEuler(), noise=noise, keep="last")

    def hand(one_product: bool) -> Any:
        stream = sp.Noise(0, "native").stream(backend)
        draw = functools.partial(stream.native, tuple(x.shape), backend.dtype)
        return by_hand(gaussian, x, times, draw, one_product)

    runs: dict[str, Callable[[], Any]] = {"one": lambda: hand(True), "two": lambda: hand(False)}
    found = to_host(ours().states[-1, ...])
    for run in runs.values():
        np.testing.assert_allclose(found, to_host(run()), rtol=1e-9, atol=1e-9)
    seconds = medians({"ours": ours, **runs}, repeats)
    return seconds["ours"] / seconds["one"], seconds["ours"] / seconds["two"]


# ---- A query ----------------------------------------------------------------------------------------


class Query:
    """A network prior in `dim` numbers, a third of them seen; the same torch module for all."""

    def __init__(self, dim: int, draws: int, steps: int) -> None:
        torch.manual_seed(0)
        self.dim, self.draws, self.steps = dim, draws, steps
        self.module = sp.ResidualMLP(dim, width=256).double()
        with torch.no_grad():
            self.module.leave.weight.normal_(0.0, 0.002)  # so that no covariance is negative
        rng = np.random.default_rng(1)
        A = rng.standard_normal((dim, 2 * dim))
        self.covariance = np.corrcoef(A)
        self.H, self.y = np.eye(dim)[::3], rng.standard_normal(len(np.eye(dim)[::3]))

    @functools.cached_property
    def onnx(self) -> sp.OnnxFunction:
        """The module, written to a file and read back."""
        with tempfile.TemporaryDirectory() as folder:
            sp.export_onnx(self.module, f"{folder}/net.onnx")
            return sp.OnnxFunction(f"{folder}/net.onnx")

    def prior(self, backend_name: str, path: str) -> sp.Denoiser:
        """path: 'module' through the bridge, 'arrays', or 'onnx'."""
        backend = sp.resolve(backend_name)
        gaussian = sp.GaussianDenoiser(
            SDE, place(np.zeros(self.dim), backend), place(self.covariance, backend)
        )
        if path == "module":
            return sp.NetworkDenoiser(gaussian, TorchFunction(self.module))
        if path == "onnx":
            return sp.NetworkDenoiser(gaussian, self.onnx)
        weights = {name: place(value, backend) for name, value in self.module.state_dict().items()}
        return sp.NetworkDenoiser(gaussian, sp.ArrayMLP(weights))

    def ours(self, backend_name: str, path: str, likelihood: str) -> Callable[[], Any]:
        """Uncorrected draws, by exponential Euler steps, one evaluation each."""
        prior = self.prior(backend_name, path)
        backend = prior.backend
        seen = sp.LinearGaussian(place(self.H, backend), place(self.y, backend), 0.1)
        rung: Any = likelihood
        if likelihood == "tweedie":
            rung = sp.TweedieDenoiser(prior, seen, "matrix-free", 1e-6, gradient="mean")
        posterior = sp.Posterior(prior, seen, rung, self.steps, correction=None)
        return lambda: posterior.sample(self.draws, solver=sp.ExponentialEuler(), noise="native")

    def azula(self, method: str) -> Callable[[], Any] | None:
        """The same network, steps and method by azula's own classes, or None where it is not installed."""
        try:
            import azula.guidance
            import azula.linalg.covariance
            import azula.sample
            from azula_methods import DTYPE, Levels
        except ImportError:
            return None
        prior, times = self.prior("torch", "module"), sp.log_snr_grid(SDE, self.steps)
        levels, by_index = Levels(SDE, times), times[::-1]

        class Wrapped(azula.denoise.Denoiser):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.schedule = levels

            def forward(self, x: torch.Tensor, t: torch.Tensor, **_: Any) -> Any:
                time_ = by_index[round(float(t) * steps)]
                return azula.denoise.DiracPosterior(prior.mean(x, time_))

        steps, H, y = self.steps, torch.tensor(self.H), torch.tensor(self.y)
        options = {"steps": steps, "silent": True, "dtype": DTYPE}

        def run() -> Any:
            if method == "dps":
                sampler = azula.guidance.DPSSampler(Wrapped(), y, lambda x: x @ H.T, zeta=1.0, **options)
            else:
                noise = azula.linalg.covariance.IsotropicCovariance(0.1)
                guided = azula.guidance.MMPSDenoiser(
                    Wrapped(), y, lambda x: x @ H.T, noise, iterations=len(self.y)
                )
                sampler = azula.sample.DDPMSampler(guided, **options)
            return sampler(sampler.init((self.draws, self.dim), dtype=DTYPE))

        return run


def queries(options: argparse.Namespace) -> None:
    """Both methods on torch beside azula, then NumPy through each way to evaluate the network."""
    query = Query(dim=24, draws=options.draws, steps=options.steps)
    for method in ("dps", "tweedie"):
        runs: dict[str, Callable[[], Any]] = {"sdeppl": query.ours("torch", "module", method)}
        peer = query.azula(method)
        if peer is None:
            print("azula is not installed: pip install --no-deps azula einops")
        else:
            runs["azula"] = peer
        seconds = medians(runs, options.repeats)
        name = {"dps": "DPS", "tweedie": "MMPS, converged"}[method]
        text = ", ".join(f"{label} {value:.2f} s" for label, value in seconds.items())
        ratio = f": azula/sdeppl = {seconds['azula'] / seconds['sdeppl']:.2f}" if "azula" in seconds else ""
        print(f"{name} on torch, {query.draws} draws of {query.dim}, {query.steps} steps: {text}{ratio}")
    paths = {
        f"{backend}, {path}": query.ours(backend, path, "tweedie")
        for backend, path in (
            ("torch", "module"),
            ("numpy", "module"),
            ("numpy", "arrays"),
            ("numpy", "onnx"),
        )
    }
    seconds = medians(paths, options.repeats)
    for label, value in seconds.items():
        print(f"MMPS, {label}: {value:.2f} s, {value / seconds['torch, module']:.2f} of torch's")


# ---- Import and memory ------------------------------------------------------------------------------


def import_seconds(statement: str, repeats: int) -> tuple[float, str]:
    """Median seconds of a statement in a fresh interpreter, and which large libraries it loaded."""
    code = (
        "import sys, time; start = time.perf_counter()\n"
        f"{statement}\n"
        "print(time.perf_counter() - start, *[n for n in ('torch', 'pyro', 'scipy') if n in sys.modules])"
    )
    found = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    return statistics.median(float(f[0]) for f in found), ", ".join(found[0][1:]) or "none of them"


def peak_megabytes(steps: int) -> float:
    """Peak of what a corrected NumPy query of 1,000 draws of 16 numbers allocates."""
    backend = sp.resolve("numpy")
    gaussian = sp.GaussianDenoiser(SDE, np.zeros(16), np.eye(16))
    prior = sp.CallableDenoiser(SDE, gaussian.mean, lambda x, t: gaussian(x, t).covariance, 16, backend)
    seen = sp.LinearGaussian(np.eye(16)[:4], np.ones(4), 0.5)
    posterior = sp.Posterior(prior, seen, "tweedie", steps)
    posterior.sample(16)
    tracemalloc.start()
    posterior.sample(1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    """All figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if options.short:
        options.draws, options.steps, options.repeats = 8, 20, 1
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for backend in ("numpy", "torch"):
        for batch, dim, steps in ((1_000, 8, 400), (100_000, 64, 10)):
            if options.short:
                batch = batch // 100
            repeats = options.repeats * (1 if options.short else 4)  # a few per cent are looked for
            same, naive = (100 * (ratio - 1) for ratio in overhead(backend, batch, dim, steps, repeats))
            loop = f"{same:+.1f}% on a loop by hand, {naive:+.1f}% on one with a matrix product more"
            print(f"a step on {backend}, {batch} x {dim}: {loop}")
    queries(options)
    for statement in (
        "import sdeppl",
        "import sdeppl; sdeppl.VPSDE; sdeppl.Posterior",
        "import sdeppl; sdeppl.load_posterior",
    ):
        seconds, loaded = import_seconds(statement, options.repeats)
        print(f"`{statement}`: {seconds:.3f} s; of torch, pyro and scipy it loads {loaded}")
    counts = (100, 1_000) if options.short else (1_000, 10_000)
    peaks = [peak_megabytes(steps) for steps in counts]
    print(f"peak memory of a query, {counts[0]} and {counts[1]} steps: {peaks[0]:.1f} and {peaks[1]:.1f} MB")


if __name__ == "__main__":
    main()
