"""Posteriors of Pyro models by the guide, NUTS and HMC, against the exact answer by quadrature.

    python benchmarks/references.py                 # eight schools twice, Poisson counts, a decay
    python benchmarks/references.py --methods hmc   # by reference.hmc: three minutes; nuts: half an hour
    python benchmarks/references.py --methods guide nuts --draws 16000    # and one against the other

Eight schools (Rubin 1981) centred and non-centred, Poisson counts with a log-linear rate, and an exponential
decay seen with noise. Errors are in posterior standard deviations, worst over the latents; the exact
moments come from a grid over the two numbers that all else is Gaussian or known given. NUTS and HMC get lost
in the centred funnel, and say so, so they sample that model through `reparam=`. One thread, float64.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam import LocScaleReparam
from scipy import stats

import sdeppl as sp

D = torch.float64
EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
TIMES = np.linspace(0, 1, 12)
COUNTS = np.array([2.0, 1, 3, 0, 4, 6, 5, 9, 8, 12, 15, 22])
DECAY = 2.5 * np.exp(-3.9 * TIMES) + 0.3 * np.random.default_rng(0).standard_normal(12)
Columns = dict[str, np.ndarray]
REPARAM = {"eight schools, centred": {"theta": LocScaleReparam(0.0)}}  # of the references alone


def tensor(values: Any) -> torch.Tensor:
    """float64."""
    return torch.as_tensor(values, dtype=D)


def centred(y: torch.Tensor | None = None) -> None:
    """Eight schools, the effects themselves as latents: a funnel in (theta, tau)."""
    mu = pyro.sample("mu", dist.Normal(tensor(0.0), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(tensor(5.0)))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, tensor(ERRORS)), obs=y)


def non_centred(y: torch.Tensor | None = None) -> None:
    """Eight schools, standardised effects as latents: the mean is a product of latents."""
    mu = pyro.sample("mu", dist.Normal(tensor(0.0), 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(tensor(5.0)))
    with pyro.plate("schools", 8):
        eta = pyro.sample("eta", dist.Normal(tensor(0.0), 1.0))
        pyro.sample("y", dist.Normal(mu + tau * eta, tensor(ERRORS)), obs=y)


def poisson(y: torch.Tensor | None = None) -> None:
    """Counts whose logarithm of the rate is a line."""
    a = pyro.sample("a", dist.Normal(tensor(0.5), 1.0))
    b = pyro.sample("b", dist.Normal(tensor(1.0), 2.0))
    with pyro.plate("times", 12):
        pyro.sample("y", dist.Poisson((a + b * tensor(TIMES)).exp()), obs=y)


def decay(y: torch.Tensor | None = None) -> None:
    """A exp(-3 k t), a mean that is not linear in (A, k)."""
    k = pyro.sample("k", dist.LogNormal(tensor(0.0), 0.5))
    A = pyro.sample("A", dist.Normal(tensor(2.0), 1.0))
    with pyro.plate("times", 12):
        pyro.sample("y", dist.Normal(A * torch.exp(-3 * k * tensor(TIMES)), 0.3), obs=y)


def schools_columns(draws: Columns) -> Columns:
    """mu, ln tau and the eight effects, of either form."""
    mu, tau = draws["mu"], draws["tau"]
    theta = draws.get("theta")
    if theta is None:
        theta = mu[:, None] + tau[:, None] * draws["eta"]
    return {"mu": mu, "ln tau": np.log(tau), **{f"theta[{j}]": theta[:, j] for j in range(8)}}


def moments(weights: np.ndarray, mean: Any, variance: Any = 0.0) -> tuple[float, float]:
    """Mean and standard deviation of what has these given a point of the grid."""
    first = float((weights * mean).sum())
    second = float((weights * (mean**2 + variance)).sum())
    return first, float(np.sqrt(second - first**2))


def exact_schools() -> dict[str, tuple[float, float]]:
    """On a grid of (mu, ln tau); given both the effects are Gaussian."""
    mu, log_tau = np.linspace(-25, 30, 1101)[:, None], np.linspace(-9, 6, 3001)[None, :]
    tau = np.exp(log_tau)
    log_p = -0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + log_tau
    for y, s in zip(EFFECTS, ERRORS, strict=True):
        log_p = log_p - 0.5 * np.log(s**2 + tau**2) - 0.5 * (y - mu) ** 2 / (s**2 + tau**2)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    found = {"mu": moments(p, mu + 0 * log_tau), "ln tau": moments(p, log_tau + 0 * mu)}
    for j, (y, s) in enumerate(zip(EFFECTS, ERRORS, strict=True)):
        shrink = tau**2 / (tau**2 + s**2)
        found[f"theta[{j}]"] = moments(p, mu + shrink * (y - mu), shrink * s**2)
    return found


def on_grid(names: tuple[str, str], log_p: Callable[..., Any], *axes: np.ndarray) -> dict[str, Any]:
    """Moments of two numbers with an unnormalised log-density."""
    first, second = np.meshgrid(*axes, indexing="ij")
    values = log_p(first, second)
    p = np.exp(values - values.max())
    p /= p.sum()
    return {names[0]: moments(p, first), names[1]: moments(p, second)}


def poisson_log_p(a: np.ndarray, b: np.ndarray) -> Any:
    """ln p(a, b, counts) but for a constant."""
    terms = [stats.poisson(np.exp(a + b * t)).logpmf(c) for t, c in zip(TIMES, COUNTS, strict=True)]
    return stats.norm(0.5, 1).logpdf(a) + stats.norm(1, 2).logpdf(b) + sum(terms)


def decay_log_p(log_k: np.ndarray, A: np.ndarray) -> Any:
    """ln p(ln k, A, y) but for a constant."""
    terms = [
        stats.norm(A * np.exp(-3 * np.exp(log_k) * t), 0.3).logpdf(v)
        for t, v in zip(TIMES, DECAY, strict=True)
    ]
    return stats.norm(0, 0.5).logpdf(log_k) + stats.norm(2, 1).logpdf(A) + sum(terms)


def cases() -> dict[str, tuple[Any, Any, Callable[[Columns], Columns], dict[str, Any], int]]:
    """Model, data, columns of its draws, exact moments, and training steps (0: the Gaussian part alone)."""
    schools = exact_schools()
    counts = on_grid(("a", "b"), poisson_log_p, np.linspace(-3, 3, 801), np.linspace(-2, 6, 801))
    decays = on_grid(("ln k", "A"), decay_log_p, np.linspace(-2, 2, 801), np.linspace(-1, 5, 801))
    return {
        "eight schools, centred": (centred, EFFECTS, schools_columns, schools, 40_000),
        "eight schools, non-centred": (non_centred, EFFECTS, schools_columns, schools, 10_000),
        "Poisson counts": (poisson, COUNTS, lambda d: d, counts, 0),
        "exponential decay": (decay, DECAY, lambda d: {"ln k": np.log(d["k"]), "A": d["A"]}, decays, 0),
    }


def report(name: str, columns: Columns, exact: dict[str, Any], seconds: float, remark: str) -> None:
    """Worst errors over the latents, and which."""
    off = {k: abs(columns[k].mean() - m) / s for k, (m, s) in exact.items()}
    wide = {k: columns[k].std() / s - 1 for k, (m, s) in exact.items()}
    worst, widest = max(off, key=off.__getitem__), max(wide, key=lambda k: abs(wide[k]))
    print(
        f"{name:38} mean {off[worst]:.3f} sd ({worst}), sd {wide[widest]:+.1%} ({widest}), "
        f"{seconds:6.1f} s  {remark}",
        flush=True,
    )


def by_guide(model: Any, data: Any, steps: int, options: argparse.Namespace) -> tuple[Columns, float, str]:
    """Draws of a trained guide, seconds of the draws, and a remark."""
    start = time.perf_counter()
    guide = sp.ScoreGuide(model) if steps else sp.ScoreGuide(model, net=None)
    matching = sp.ScoreMatching(guide, draws=20_000 if options.short else 400_000, batch=options.batch)
    matching.fit(steps, progress=False)
    trained = time.perf_counter() - start
    start = time.perf_counter()
    run = guide.condition(y=data).run(200 if options.short else options.draws)
    seconds = time.perf_counter() - start
    draws = {name: np.asarray(value, dtype=float) for name, value in run.draws.items()}
    return draws, seconds, f"ess {run.diagnosis.ess:.2f}, trained in {trained:.0f} s"


def by_reference(method: str, model: Any, data: Any, reparam: Any, short: bool) -> tuple[Columns, float, str]:
    """The same of `reference.nuts` or `reference.hmc`."""
    settings: dict[str, Any] = {"draws": 200, "chains": 256}
    if method == "nuts":
        settings = {"draws": 100 if short else 10_000, "warmup": 100 if short else 1_000, "chains": 2}
        settings |= {"target_accept_prob": 0.9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = getattr(sp.reference, method)(
            model, {"y": tensor(data)}, reparam=reparam, progress=False, **settings
        )
    remark = f"worst ess {found.worst_ess:.0f}, divergences {found.divergences}"
    return {name: value.numpy() for name, value in found.draws.items()}, found.seconds, remark


def main() -> None:
    """Print a line for each model and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["guide"], choices=["guide", "nuts", "hmc"])
    parser.add_argument("--short", action="store_true", help="small settings, to see that it runs")
    parser.add_argument("--only", help="a part of the names of the cases to run")
    parser.add_argument("--training", type=int, help="steps of score matching, where there is any")
    parser.add_argument("--batch", type=int, default=1_024, help="of a training step")
    parser.add_argument("--draws", type=int, default=4_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (model, data, columns, exact, steps) in cases().items():
        if options.only and options.only not in name:
            continue
        found: dict[str, Columns] = {}
        steps = options.training or steps if steps else 0
        steps = min(steps, 50) if options.short else steps
        for method in options.methods:
            if method == "guide":
                draws, seconds, remark = by_guide(model, data, steps, options)
            else:
                draws, seconds, remark = by_reference(method, model, data, REPARAM.get(name), options.short)
            found[method] = columns(draws)
            report(f"{name}, {method}", found[method], exact, seconds, remark)
        for method in found.keys() - {"guide"} if "guide" in found else ():
            sampled = {key: (value.mean(), value.std()) for key, value in found[method].items()}
            report(f"{name}, guide against {method}", found["guide"], sampled, 0.0, "")


if __name__ == "__main__":
    main()
