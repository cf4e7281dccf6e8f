"""Twelve textbook models: seconds to 1,000 trusted draws by the guide, reference.hmc and Pyro's NUTS.

    python benchmarks/easy.py                        # about half an hour on two cores
    python benchmarks/easy.py --short                # without errors, and what they are measured against
    python benchmarks/easy.py --only regression      # models with this in their names

Data are made up here, seeds stated. By the guide is `ScoreGuide(model)`, `fit_gaussian(20_000)`, `condition`
and `run(1_000)`; whether they are trusted is its own verdict. NUTS has one chain, compiled by jit, 300
iterations of warm-up, and as many draws as come to 1,000 effective ones (bulk, of the number that mixes
worst), within a limit of time: where that ends first, the time is scaled up from the effective draws it had
and marked by ~. reference.hmc has its defaults. Seconds are processor seconds, one thread, float64, in one
run, since the machine may be shared; what is imported late is imported before. The ratio is NUTS's over the
guide's.

'mean' and 'sd' are the largest errors of a mean, in posterior standard deviations, and of a standard
deviation, as a share of it, in 10,000 other draws of the guide's posterior, for which 1,000 would be too few:
of 10,000 independent ones the worst of sixty numbers errs by about .025 and .018 itself, of three by .015 and
.01. Up to 12 numbers they are compared with importance sampling of 200,000 points by Pyro's own density,
whose standard error is said where it is above .01; beyond, for a funnel, and for counts of kinds, with
a reference.hmc run of 256 chains and 1,000 draws in the parametrisation that suits it.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

import sdeppl as sp

D = torch.float64
DRAWS = 1_000
MORE = 10_000  # by which errors are measured
POINTS, AT_ONCE, FREEDOM = 200_000, 4_096, 5.0  # of importance sampling by Student's t
FEW = 12  # numbers up to which it is made
PIECE = 500  # draws of NUTS between looks at its effective size


def t(value: Any) -> torch.Tensor:
    """In float64."""
    return torch.as_tensor(value, dtype=D)


@dataclass(frozen=True)
class Problem:
    """A model and what is observed; reparam: for the long run, where it mixes badly as it stands; vmap:
    whether Pyro's own density can be had at many points at once."""

    name: str
    model: Callable[..., Any]
    y: torch.Tensor
    reparam: dict[str, Any] = field(default_factory=dict)
    vmap: bool = True


def houses(J: int = 55, N: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Group of each row, its floor, the groups' soil and y; seed 1."""
    rng = np.random.default_rng(1)
    group = np.concatenate([np.arange(J), rng.integers(0, J, N - J)])
    x, u = rng.integers(0, 2, N).astype(float), rng.normal(size=J)
    y = (1.3 + 0.7 * u + 0.35 * rng.normal(size=J))[group] - 0.6 * x + 0.75 * rng.normal(size=N)
    return torch.tensor(group), t(x), t(u), t(y)


def hierarchical(centred: bool) -> Problem:
    """55 counties, 200 houses, 60 latents."""
    group, x, u, data = houses()

    def model(y: Any = None) -> None:
        mu = pyro.sample("mu", dist.Normal(t(0.0), 2.0))
        gamma = pyro.sample("gamma", dist.Normal(t(0.0), 1.0))
        beta = pyro.sample("beta", dist.Normal(t(0.0), 1.0))
        between = pyro.sample("between", dist.HalfNormal(t(1.0)))
        within = pyro.sample("within", dist.HalfNormal(t(1.0)))
        with pyro.plate("groups", len(u)):
            if centred:
                a = pyro.sample("a", dist.Normal(mu + gamma * u, between))
            else:
                a = mu + gamma * u + between * pyro.sample("e", dist.Normal(t(0.0), 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(a[group] + beta * x, within), obs=y)

    return Problem(f"hierarchical regression, {'' if centred else 'non-'}centred", model, data)


def regression() -> Problem:
    """Unknown noise; seed 0."""
    rng = np.random.default_rng(0)
    X = np.c_[np.ones(100), rng.uniform(0, 5, 100)]
    design, data = t(X), t(X @ [1.0, 0.8] + rng.normal(0, 0.7, 100))

    def model(y: Any = None) -> None:
        b = pyro.sample("b", dist.Normal(torch.zeros(2, dtype=D), 10.0).to_event(1))
        s = pyro.sample("s", dist.HalfCauchy(t(5.0)))
        with pyro.plate("n", 100):
            pyro.sample("y", dist.Normal(design @ b, s), obs=y)

    return Problem("regression, unknown noise", model, data)


def robust() -> Problem:
    """Student t errors of unknown degrees; seed 2."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=80)
    design, data = t(x), t(0.5 - 1.2 * x + 0.4 * rng.standard_t(3, 80))

    def model(y: Any = None) -> None:
        a = pyro.sample("a", dist.Normal(t(0.0), 5.0))
        b = pyro.sample("b", dist.Normal(t(0.0), 5.0))
        s = pyro.sample("s", dist.HalfNormal(t(1.0)))
        df = pyro.sample("df", dist.Gamma(t(2.0), 0.1))
        with pyro.plate("n", 80):
            pyro.sample("y", dist.StudentT(df, a + b * design, s), obs=y)

    return Problem("robust regression", model, data)


def logistic() -> Problem:
    """10 features, 200 rows; seed 3."""
    rng = np.random.default_rng(3)
    X, w = rng.normal(size=(200, 10)), rng.normal(size=10)
    design, data = t(X), t(rng.random(200) < 1 / (1 + np.exp(-(X @ w + 0.3))))

    def model(y: Any = None) -> None:
        b0 = pyro.sample("b0", dist.Normal(t(0.0), 2.0))
        w = pyro.sample("w", dist.Normal(torch.zeros(10, dtype=D), 1.0).to_event(1))
        with pyro.plate("n", 200):
            pyro.sample("y", dist.Bernoulli(logits=b0 + design @ w), obs=y)

    return Problem("logistic, 10 features", model, data)


def schools() -> Problem:
    """Eight schools as Rubin had them, centred."""
    data, sd = t([28.0, 8, -3, 7, -1, 1, 18, 12]), t([15.0, 10, 16, 11, 9, 11, 10, 18])

    def model(y: Any = None) -> None:
        mu = pyro.sample("mu", dist.Normal(t(0.0), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(t(5.0)))
        with pyro.plate("J", 8):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sd), obs=y)

    return Problem("eight schools", model, data, {"theta": LocScaleReparam(0.0)})


def poisson() -> Problem:
    """Counts with an exposure; seed 4."""
    rng = np.random.default_rng(4)
    x, exposure = rng.normal(size=60), rng.uniform(1, 20, 60)
    design, offset = t(x), t(np.log(exposure))
    data = t(rng.poisson(exposure * np.exp(-0.5 + 0.4 * x)))

    def model(y: Any = None) -> None:
        a = pyro.sample("a", dist.Normal(t(0.0), 2.0))
        b = pyro.sample("b", dist.Normal(t(0.0), 1.0))
        with pyro.plate("n", 60):
            pyro.sample("y", dist.Poisson(torch.exp(offset + a + b * design)), obs=y)

    return Problem("Poisson with offset", model, data)


def mixture() -> Problem:
    """Two normals whose weights, means (in order) and width are unknown; seed 5."""
    rng = np.random.default_rng(5)
    data = t(np.where(rng.random(120) < 0.3, rng.normal(-1.5, 0.6, 120), rng.normal(1.0, 0.6, 120)))

    def model(y: Any = None) -> None:
        p = pyro.sample("p", dist.Beta(t(2.0), 2.0))
        low = pyro.sample("low", dist.Normal(t(0.0), 2.0))
        gap = pyro.sample("gap", dist.HalfNormal(t(3.0)))
        s = pyro.sample("s", dist.HalfNormal(t(1.0)))
        parts = dist.Categorical(torch.stack([p, 1 - p]))
        normals = dist.Normal(torch.stack([low, low + gap]), s)
        with pyro.plate("n", 120):
            pyro.sample("y", dist.MixtureSameFamily(parts, normals), obs=y)

    return Problem("mixture likelihood", model, data)


def autoregression(T: int = 30) -> Problem:
    """A latent AR(1) in a loop of sites, unknown coefficient and scales, observed with noise; seed 6."""
    rng = np.random.default_rng(6)
    x = np.zeros(T)
    for k in range(1, T):
        x[k] = 0.8 * x[k - 1] + 0.5 * rng.normal()
    data = t(x + 0.3 * rng.normal(size=T))

    def model(y: Any = None) -> None:
        phi = pyro.sample("phi", dist.Uniform(t(-1.0), 1.0))
        s = pyro.sample("s", dist.HalfNormal(t(1.0)))
        x, path = t(0.0), []
        for k in range(T):
            x = pyro.sample(f"x{k}", dist.Normal(phi * x, s))
            path.append(x)
        pyro.sample("y", dist.Normal(torch.stack(path), 0.3).to_event(1), obs=y)

    return Problem("AR(1) in a loop", model, data)


def ordinal() -> Problem:
    """Four ordered answers, unknown cutpoints; seed 7."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=150)
    latent = 1.1 * x + rng.logistic(size=150)
    design, data = t(x), torch.as_tensor(np.digitize(latent, [-1.0, 0.5, 2.0]))

    def model(y: Any = None) -> None:
        b = pyro.sample("b", dist.Normal(t(0.0), 2.0))
        first = pyro.sample("first", dist.Normal(t(0.0), 2.0))
        gaps = pyro.sample("gaps", dist.LogNormal(torch.zeros(2, dtype=D), 1.0).to_event(1))
        cuts = torch.cat([first[None], first + torch.cumsum(gaps, 0)])
        with pyro.plate("n", 150):
            pyro.sample("y", dist.OrderedLogistic(b * design, cuts), obs=y)

    return Problem("ordinal", model, data, vmap=False)  # which OrderedLogistic does not take


def multinomial() -> Problem:
    """Counts of three kinds in 20 places by a softmax of one feature; seed 8."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=20)
    logits = np.c_[np.zeros(20), 0.5 + 0.8 * x, -0.3 - 0.5 * x]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    design, data = t(x), t(np.array([rng.multinomial(30, p) for p in shares]))

    def model(y: Any = None) -> None:
        a = pyro.sample("a", dist.Normal(torch.zeros(2, dtype=D), 2.0).to_event(1))
        b = pyro.sample("b", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
        logits = torch.cat([torch.zeros(20, 1, dtype=D), a + design[:, None] * b], dim=1)
        with pyro.plate("n", 20):
            pyro.sample("y", dist.Multinomial(30, logits=logits), obs=y)

    return Problem("multinomial", model, data, vmap=False)  # nor does Multinomial


def scales() -> Problem:
    """A slope per million of dollars, in dollars: latents of sizes 1e-6 and 1e6; seed 9."""
    rng = np.random.default_rng(9)
    x = rng.uniform(1e6, 9e6, 50)
    design, data = t(x), t(2e6 + 0.3 * x + rng.normal(0, 4e5, 50))

    def model(y: Any = None) -> None:
        a = pyro.sample("a", dist.Normal(t(0.0), 5e6))
        b = pyro.sample("b", dist.Normal(t(0.0), 1.0))
        s = pyro.sample("s", dist.HalfNormal(t(1e6)))
        with pyro.plate("n", 50):
            pyro.sample("y", dist.Normal(a + b * design, s), obs=y)

    return Problem("change of scale 1e6", model, data)


def problems() -> list[Problem]:
    """All twelve, and the first in its other parametrisation."""
    return [
        hierarchical(True), hierarchical(False), regression(), logistic(), schools(), poisson(), mixture(),
        autoregression(), ordinal(), multinomial(), robust(), scales(),
    ]  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """seconds to DRAWS trusted or effective ones; sure: whether that was reached; draws by site."""

    seconds: float
    sure: bool
    draws: dict[str, torch.Tensor]
    text: str = ""


def by_guide(problem: Problem, more: bool) -> Timed:
    """From the model on; draws: others of the same posterior, if more."""
    start = time.process_time()
    posterior = sp.ScoreGuide(problem.model).fit_gaussian(20_000, progress=False).condition(y=problem.y)
    run = posterior.run(DRAWS, progress=False)
    seconds = time.process_time() - start
    draws = posterior.run(MORE, seed=1, progress=False).draws if more else run.draws
    draws = {name: torch.as_tensor(np.asarray(value)) for name, value in draws.items()}
    return Timed(seconds, run.diagnosis.trusted, draws, run.diagnosis.text)


def by_hmc(problem: Problem) -> Timed:
    """reference.hmc with its defaults."""
    start = time.process_time()
    found = sp.reference.hmc(problem.model, {"y": problem.y}, progress=False)
    return Timed(time.process_time() - start, found.trusted, found.draws, found.verdict)


def by_nuts(problem: Problem, limit: float) -> Timed:
    """One chain; longer where it has not enough, and `limit` allows."""
    draws = PIECE
    while True:
        start = time.process_time()
        found = sp.reference.nuts(
            problem.model, {"y": problem.y}, draws=draws, warmup=300, chains=1, jit_compile=True,
            progress=False,
        )  # fmt: skip
        seconds, ess = time.process_time() - start, max(found.worst_ess, 1.0)
        warm = seconds * found.warmup_seconds / found.seconds
        needed = warm + (seconds - warm) * DRAWS / ess  # draws cost alike
        if ess >= DRAWS or draws > PIECE or needed > limit:
            return Timed(needed, ess >= DRAWS / 2, found.draws, f"{ess:.0f} effective of {draws}")
        draws = int(1.2 * draws * DRAWS / ess)


Moments = dict[str, tuple[torch.Tensor, torch.Tensor]]


def moments(draws: dict[str, torch.Tensor]) -> Moments:
    """Means and standard deviations."""
    return {name: (value.to(D).mean(0), value.to(D).std(0)) for name, value in draws.items()}


def truth(problem: Problem, draws: dict[str, torch.Tensor]) -> Moments:
    """What means and deviations are compared with; draws: a first guess."""
    dim = sum(value[0].numel() for value in draws.values())
    if dim <= FEW and problem.vmap and not problem.reparam:
        return weighted(problem, draws)
    found = sp.reference.hmc(
        problem.model, {"y": problem.y}, draws=1_000, warmup=400, seed=11, target=0.9,
        reparam=problem.reparam or None, progress=False,
    )  # fmt: skip
    if not found.trusted:
        print(f"  the long run: {found.verdict}")
    return moments(found.draws)


@torch.no_grad()
def weighted(problem: Problem, draws: dict[str, torch.Tensor]) -> Moments:
    """By importance sampling around the draws, of the density as Pyro has it."""
    nodes = poutine.trace(problem.model).get_trace(problem.y).nodes
    maps = {name: torch.distributions.biject_to(nodes[name]["fn"].support) for name in draws}
    free = {name: maps[name].inv(value.to(D)) for name, value in draws.items()}
    ends = np.cumsum([value[0].numel() for value in free.values()])[:-1].tolist()
    flat = torch.cat([value.reshape(len(value), -1) for value in free.values()], dim=1)
    torch.manual_seed(12)
    root = torch.linalg.cholesky(torch.cov(flat.T))
    proposal = dist.MultivariateStudentT(torch.full((), FREEDOM, dtype=D), flat.mean(0), root)
    z = proposal.sample((POINTS,))

    def sites(row: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = zip(free.items(), torch.tensor_split(row, ends), strict=True)
        return {name: part.reshape(value.shape[1:]) for (name, value), part in parts}

    def log_density(row: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        u = sites(row)
        x = {name: maps[name](value) for name, value in u.items()}
        trace = poutine.trace(poutine.condition(problem.model, x)).get_trace(problem.y)
        jacobians = [maps[name].log_abs_det_jacobian(u[name], x[name]).sum() for name in u]
        return trace.log_prob_sum() + sum(jacobians), x

    with pyro.validation_enabled(False):
        log_p, x = torch.func.vmap(log_density, chunk_size=AT_ONCE)(z)
    weights = torch.softmax(log_p - proposal.log_prob(z), 0)
    found, worst = {}, 0.0
    for name, value in x.items():
        mean = torch.tensordot(weights, value, 1)
        square = (value - mean) ** 2
        sd = torch.tensordot(weights, square, 1).sqrt()
        worst = max(worst, float((torch.tensordot(weights**2, square, 1).sqrt() / sd).max()))
        found[name] = (mean, sd)
    if worst > 0.01:
        print(f"  importance sampling errs by {worst:.3f} sd")
    return found


def errors(found: Moments, true: Moments) -> tuple[float, float]:
    """The largest of a mean, in standard deviations, and of a standard deviation, as a share of it."""
    pairs = [(*found[name], *true[name]) for name in true]
    return (
        max(float(((mean - m) / s).abs().max()) for mean, _, m, s in pairs),
        max(float((sd / s - 1).abs().max()) for _, sd, _, s in pairs),
    )


def import_all() -> None:
    """What is imported at the first run of each."""

    def model(y: Any = None) -> None:
        pyro.sample("y", dist.Normal(pyro.sample("x", dist.Gumbel(t(0.0), 1.0)), 1.0), obs=y)

    problem = Problem("", model, t(0.5))
    by_guide(problem, False), by_hmc(problem), by_nuts(problem, 1.0)


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="no long runs, NUTS for a minute at most")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of the models to run")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds of NUTS for a model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    limit = 60.0 if arguments.short else arguments.limit
    warnings.simplefilter("ignore")
    import_all()
    print(f"{'':34}{'guide':>10}{'reference.hmc':>15}{'NUTS, jit':>12}{'ratio':>8}{'mean':>7}{'sd':>7}")
    for problem in problems():
        if not any(part in problem.name for part in arguments.only):
            continue
        pyro.clear_param_store()
        ours, hmc = by_guide(problem, not arguments.short), by_hmc(problem)
        nuts = by_nuts(problem, limit)
        off = () if arguments.short else errors(moments(ours.draws), truth(problem, hmc.draws))
        cells = [
            f"{one.seconds:.1f} s{mark if not one.sure else ' '}"
            for one, mark in ((ours, "!"), (hmc, "!"), (nuts, "~"))
        ]
        ratio = f"{nuts.seconds / ours.seconds:.1f}"
        print(f"{problem.name:34}{cells[0]:>10}{cells[1]:>15}{cells[2]:>12}{ratio:>8}", end="")
        print(*(f"{one:7.3f}" for one in off), sep="", flush=True)
        for one, who in ((ours, "the guide"), (hmc, "reference.hmc")):
            if not one.sure:
                print(f"  ! {who}: {one.text}", flush=True)
    print("!: not trusted by its own verdict; ~: scaled up from fewer effective draws")


if __name__ == "__main__":
    main()
