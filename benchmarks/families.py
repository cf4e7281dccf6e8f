"""Every distribution of Pyro as data and as a prior: how it is read, and posterior means beside quadrature.

    PYTHONPATH=src:tests python benchmarks/families.py data|priors [names]

prints the rows of docs/families.md: errors of the posterior mean in posterior standard deviations, of
`guide.condition(...).run(300)` after a fit of moments alone, and of `reference.hmc` (64 chains of 20 draws).
The truth is quadrature over the latent (data) or 20,000 weighted draws of the prior (priors).
"""

import signal
import sys
import time
import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro_families import LIKELIHOODS, PRIORS, SAMPLELESS, D, s

import sdeppl as sp
from sdeppl.tracing import SlowDrawsWarning, find_sites, read_sites

LONGEST = 120  # seconds for one answer


def data_rows():
    """One row for each distribution of the data."""
    for name, (fn, y) in sorted(LIKELIHOODS.items()):
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue

        def model(fn=fn, name=name, y=y):
            z = pyro.sample("z", dist.Normal(s(0.2), s(0.8)))
            pyro.sample("y", fn(z), obs=y if name in SAMPLELESS else None)

        data = {} if name in SAMPLELESS else {"y": y}
        try:
            grid = torch.linspace(-5, 5, 401, dtype=D)
            log_p = torch.stack([fn(z).log_prob(y).sum() for z in grid]).to(D)
            weights = torch.softmax(log_p - (grid - 0.2) ** 2 / (2 * 0.64), 0)
            mean = weights @ grid
            sd = (weights @ (grid - mean) ** 2).sqrt()
        except Exception:  # of a distribution without a density, which the columns say
            mean = sd = s(float("nan"))
        print(
            "|",
            " | ".join([name, how(model, name, y), *answers(model, data, "z", mean, sd)]),
            "|",
            flush=True,
        )


def how(model, name, y):
    """The kind of site that it is read as."""
    try:
        space = find_sites(model, latents=["z"]).space
        draws = torch.linspace(-1, 1, 60, dtype=D)[:, None].roll(7, 0)
        (site,) = read_sites(model, space, {"y": y.to(D)}, draws)
    except sp.ModelError as error:
        return "refused: " + str(error).partition(": ")[2].split(";")[0].split(" (")[0]
    kind = type(site).__name__.removesuffix("Site").lower()
    return kind if site.vectorised else kind + ", row by row"


def prior_rows():
    """One row for each prior."""
    for name, prior in sorted(PRIORS.items()):
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        count = 2_000 if name in ("SineBivariateVonMises", "TruncatedPolyaGamma") else 20_000
        try:
            x = prior().expand([count]).sample()
        except NotImplementedError:
            x = torch.stack([prior().sample() for _ in range(count)])
        centre = x[:200].median(dim=0).values + 0.3

        def model(prior=prior, centre=centre):
            value = pyro.sample("x", prior())
            pyro.sample("y", dist.Normal(value, 0.5).to_event(value.dim()))

        flat, y = x.reshape(count, -1), centre.reshape(-1)
        weights = torch.softmax(-((flat - y) ** 2).sum(-1) / (2 * 0.25), 0)
        mean = weights @ flat
        sd = (weights @ (flat - mean) ** 2).sqrt()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            sp.tracing.prior_draws(model, ["x"], 50, (0,))
        slow = any(one.category is SlowDrawsWarning for one in said)
        drawn = "one by one" if slow else "all at once"
        print("|", " | ".join([name, drawn, *answers(model, {"y": centre}, "x", mean, sd)]), "|", flush=True)


def answers(model, data, site, mean, sd):
    """Errors of the guide and of HMC in sd, the largest of the numbers, with seconds of processor time."""

    def guided():
        guide = sp.ScoreGuide(model, net=None, latents=[site])
        sp.ScoreMatching(guide, draws=10_000).fit(steps=0, progress=False)
        run = guide.condition(data).run(300, progress=False)
        return run.draws[site], "" if run.diagnosis.trusted else ", do not trust"

    def hmc():
        found = sp.reference.hmc(
            model, data, latents=[site], draws=20, warmup=60, chains=64, max_steps=20, progress=False
        )
        return found.draws[site], ""

    return [_answer(ask, mean, sd) for ask in (guided, hmc)]


def _answer(ask, mean, sd):
    began = time.process_time()
    signal.alarm(LONGEST)
    try:
        draws, note = ask()
    except TimeoutError:
        return f"none in {LONGEST} s"
    except sp.ModelError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}"
    finally:
        signal.alarm(0)
    draws = torch.as_tensor(draws).to(D).reshape(len(draws), -1)
    kept = (sd > 1e-6).reshape(-1)
    error = ((draws.mean(0) - mean).abs() / sd).reshape(-1)[kept].max()
    return f"{float(error):.2f} ({time.process_time() - began:.1f} s{note})"


def _late(*_):
    raise TimeoutError


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    {"data": data_rows, "priors": prior_rows}[sys.argv[1]]()
