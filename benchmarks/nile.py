"""Seconds per effective draw on the Nile problem: sdeppl and Pyro's NUTS, in one run.

    python benchmarks/nile.py            # about six minutes on two cores
    python benchmarks/nile.py --short    # a check that it runs; its figures mean little

The model is that of tutorials/01_nile.py, with the two gaps. An effective draw counts in the year
that mixes worst. sdeppl's draws are independent, so each counts as one; NUTS's are counted by Pyro's
`effective_sample_size`. One thread, float64. Every sampler is checked against the Kalman smoother.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import statsmodels.api as sm
import torch

import sdeppl as sp

LEVEL_VARIANCE, NOISE_VARIANCE = 1469.1, 15099.0


def nile(y: torch.Tensor | None = None) -> None:
    """Durbin and Koopman's local level model of the Nile, the level as one latent."""
    brownian = sp.LinearSDE(a=0.0, b=math.sqrt(LEVEL_VARIANCE))
    level = pyro.sample("level", sp.SDEPath(brownian, dist.Normal(1000.0, 500.0), range(100)))
    pyro.sample("y", dist.Normal(level, math.sqrt(NOISE_VARIANCE)).to_event(1), obs=y)


def observations() -> np.ndarray:
    """The flow, with observations 21-40 and 61-80 taken out."""
    y = sm.datasets.nile.load_pandas().data["volume"].to_numpy(dtype=float).copy()
    y[20:40] = y[60:80] = np.nan
    return y


def kalman_smoother(y: np.ndarray) -> Any:
    """The exact posterior."""
    smoother = sm.tsa.UnobservedComponents(y, "local level")
    smoother.ssm.initialize_known(np.array([1000.0]), np.array([[500.0**2]]))
    result = smoother.smooth([NOISE_VARIANCE, LEVEL_VARIANCE])
    return sp.reference.Exact(result.smoothed_state[0], np.sqrt(result.smoothed_state_cov[0, 0]))


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `run`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def report(name: str, seconds: float, effective: float, draws: Any, exact: Any) -> float:
    """Print one row; returns seconds per effective draw."""
    found = sp.compare(draws, {"level": exact})["level"]
    each = seconds / effective
    print(
        f"{name:44} {seconds:8.2f} s {effective:8.0f} {1e3 * each:10.3f} ms   "
        f"{found.mean_error:.3f} sd  {found.sd_error:.1%}",
        flush=True,
    )
    return each


def time_sdeppl(y: np.ndarray, exact: Any, short: bool) -> tuple[float, float]:
    """Best seconds per draw over backends and noise modes, and the seconds that training took."""
    number, repeats = (500, 1) if short else (2_000, 5)
    start = time.perf_counter()
    guide = sp.ScoreGuide(nile)
    training = sp.ScoreMatching(guide, draws=20_000 if short else 200_000)
    training.fit(steps=10 if short else 300, progress=False)
    trained = time.perf_counter() - start
    print(f"sdeppl's training (300 steps and 200,000 draws for the moments, once): {trained:.1f} s")
    each = []
    for backend in ("numpy", "torch"):
        for noise in ("host", "native"):
            posterior = guide.condition(y=y, backend=backend)
            seconds = median_seconds(lambda p=posterior, n=noise: p.sample(number, noise=n), repeats)
            draws = posterior.sample(number, noise=noise)
            name = f"sdeppl, 100 steps, {backend}, {noise} noise"
            each.append(report(name, seconds, number, draws, exact))
    included = f"sdeppl, {backend}, {noise} noise, training included"
    report(included, seconds + trained, number, draws, exact)
    return min(each), trained


def time_nuts(y: np.ndarray, exact: Any, short: bool) -> list[float]:
    """Seconds per effective draw of NUTS, warm-up left out, in each parametrisation."""
    cases: dict[str, dict[str, Any]] = {
        "the path itself": {},
        "the path itself, jit": {"jit_compile": True, "ignore_jit_warnings": True},
        "its noise (WienerReparam)": {"reparam": {"level": sp.WienerReparam()}},
    }
    each = []
    for name, options in cases.items():
        short_run = short or "reparam" in options  # ten times slower, and it mixes worse
        draws, warmup = (60, 60) if short else (200, 200) if short_run else (1_000, 500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # short chains of the slow case have not converged
            found = sp.reference.nuts(
                nile, {"y": y}, draws=draws, warmup=warmup, chains=1, progress=False, **options
            )
        label = f"Pyro NUTS, {name}"
        report(f"{label}, {warmup} + {draws}", found.seconds, found.worst_ess, found.draws, exact)
        sampling = found.seconds - found.warmup_seconds
        each.append(report(f"{label}, warm-up left out", sampling, found.worst_ess, found.draws, exact))
    return each


def main() -> None:
    """Run both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    short = parser.parse_args().short
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    y = observations()
    exact = kalman_smoother(y)
    print(f"{'sampler':44} {'time':>10} {'eff. draws':>8} {'each':>11}   error of mean, of sd")
    ours, trained = time_sdeppl(y, exact, short)
    best = min(time_nuts(y, exact, short))
    print(f"\nper effective draw, NUTS (its best case, warm-up left out) / sdeppl: {best / ours:.0f}")
    print(f"sdeppl's training is made up for after {trained / (best - ours):.0f} effective draws")


if __name__ == "__main__":
    main()
