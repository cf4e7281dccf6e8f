# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own simulator, and your own backend
#
# A prior that can only be *simulated* is enough: no density, no derivative, no torch. Here it is an
# epidemic in a town of 5,000, drawn day by day with NumPy's binomials; what is unknown is the whole curve
# of infected people, and what is known are noisy reports of a few days. NUTS has nothing to hold on to: the
# curve has no density that anyone could write down.
#
# There is a reference all the same. So few reports rule out few curves, so one can draw very many and weight
# each by its likelihood (importance sampling). With every further report that becomes exponentially worse;
# the guide does not.
#
# The second half runs one query on every array library that is here, and shows what a new one needs.

# %%
import importlib.util
import os
import sys
import time
from pathlib import Path

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp
from sdeppl.plots import Band, plot_paths

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests

try:
    backend = sp.resolve()
except (ValueError, sp.BackendUnavailable) as error:
    sys.exit(f"sdeppl: {error}")
print(f"backend: {backend}")

# %% [markdown]
# ## The simulator
# Each day every susceptible person is infected with probability 1 - exp(-β I/N), and every infected one
# recovers with probability 1 - exp(-γ). Nobody knows β and γ, so each epidemic has its own. What comes
# back is ln(1 + I), day by day.

# %%
PEOPLE, FIRST, DAYS = 5_000, 50, 20


def epidemics(n, rng):
    """ln(1 + infected), (n, DAYS)."""
    beta = np.exp(np.log(0.6) + 0.25 * rng.standard_normal(n))
    gamma = np.exp(np.log(0.25) + 0.25 * rng.standard_normal(n))
    susceptible, infected = np.full(n, PEOPLE - FIRST), np.full(n, FIRST)
    days = []
    for _ in range(DAYS):
        caught = rng.binomial(susceptible, -np.expm1(-beta * infected / PEOPLE))
        healed = rng.binomial(infected, -np.expm1(-gamma))
        susceptible, infected = susceptible - caught, infected + caught - healed
        days.append(np.log1p(infected))
    return np.stack(days, axis=1)


# %% [markdown]
# ## The model
# Draws are all that is needed: `sp.Simulated` makes a prior of the function, which asks for `n` and `rng` by
# name. The reports are of some days only, and noisy by a fifth; the truth is an epidemic that the guide never
# sees.

# %%
NOISE = 0.2
reported = [3, 8, 11]
truth = epidemics(1, np.random.default_rng(7))[0]
reports = np.full(DAYS, np.nan)  # NaN: not observed
reports[reported] = truth[reported] + NOISE * np.random.default_rng(8).standard_normal(len(reported))


def town(y=None):
    curve = pyro.sample("curve", sp.Simulated(epidemics, shape=DAYS))
    pyro.sample("y", dist.Normal(curve, NOISE).to_event(1), obs=y)


# %%
guide = sp.ScoreGuide(town, sde=sp.VPSDE())
training = sp.ScoreMatching(guide, lr=3e-3 if quick else 1e-3, draws=20_000 if quick else 200_000)
training.fit(steps=600 if quick else 4_000)
print(f"the network takes off {training.gain.mean:.1%} of the loss; kept: {training.gain.useful}")
posterior = guide.condition(y=reports, backend=backend)
run = posterior.run(300 if quick else 2_000, seed=1)
print(run.diagnosis)

# %% [markdown]
# ## The reference: very many fresh epidemics, weighted
# The effective number of draws says how far to trust it.

# %%
fresh = epidemics(100_000 if quick else 500_000, np.random.default_rng(2))
log_weight = -0.5 * (((fresh[:, reported] - reports[reported]) / NOISE) ** 2).sum(1)
weight = np.exp(log_weight - log_weight.max())
weight /= weight.sum()
print(f"importance sampling: {1 / (weight**2).sum():.0f} effective of {len(fresh)} epidemics")
mean = weight @ fresh
sd = np.sqrt(weight @ (fresh - mean) ** 2)
comparison = sp.compare(run.draws, {"curve": sp.reference.Exact(mean, sd)})
print(comparison)

# %% [markdown]
# ## One query, every array library
# The same solver code runs on each: `backend=` of one call, or `SDEPPL_BACKEND` for a whole script. With
# noise made on the host the draws are the same to rounding.
#
# A library of your own takes one adapter of a few dozen lines (its namespace, devices, random numbers, and
# the way to torch and back) and one TOML file that says what is tested; `CONTRIBUTING.md` shows both. One
# such is below: array-api-strict has the functions of the Array API standard and no others, so that what runs
# on it asks for nothing special.

# %%
libraries = ["numpy", "torch"] + (["strict"] if importlib.util.find_spec("array_api_strict") else [])
found = {}
for name in libraries:
    clock = time.perf_counter()
    answer = guide.condition(y=reports, backend=name).sample(100, seed=3)["curve"]
    found[name] = np.asarray(sp.to_host(answer))
    apart = np.abs(found[name] - found["numpy"]).max()
    print(
        f"{name:8} {type(answer).__name__:8} {time.perf_counter() - clock:6.2f} s, from NumPy's {apart:.1e}"
    )

# %% [markdown]
# ## The picture
# All three reports happened to come out low, so the truth runs along the upper edge of the band: of
# the exact one as well, which says that it is the reports and not the method.

# %%
figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
days = np.arange(1, DAYS + 1)
draws = np.asarray(sp.to_host(run.draws["curve"]))
order = np.argsort(fresh, axis=0)
share = np.cumsum(weight[order], axis=0)
edges = [
    np.array([fresh[order[np.searchsorted(share[:, k], p), k], k] for k in range(DAYS)]) for p in (0.05, 0.95)
]
bands = {
    "sdeppl, 90 %": Band.of_draws(draws),
    "importance sampling, 90 %": Band(mean, *edges),
}
plot_paths(axes, days, bands, reports, draws[:12])
axes.plot(days, truth, color="black", linewidth=1.2, linestyle=":", label="truth")
ticks = [20, 100, 500, 2_000]
axes.set_yticks(np.log1p(ticks), [str(tick) for tick in ticks])
axes.set(xlabel="day", ylabel="infected", xlim=(0.5, DAYS + 0.5), xticks=range(2, DAYS + 1, 2))
axes.legend(frameon=False, loc="lower right")
axes.spines[["top", "right"]].set_visible(False)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "13_own_simulator_and_backend.png", dpi=120)
print(f"figure: {os.path.relpath(output / '13_own_simulator_and_backend.png')}")

# %% [markdown]
# The mean curve is 0.024 standard deviations off (rms over the days; the noise of 2,000 draws is 0.022), its
# width 1.1% (noise 1.6%); the small settings of the tests train less, and are allowed more. And the libraries
# agree to rounding.

# %%
limits = (0.25, 0.2) if quick else (0.08, 0.06)
site = comparison["curve"]
assert site.mean_error < limits[0] and site.sd_error < limits[1], comparison
for name, answer in found.items():
    np.testing.assert_allclose(answer, found["numpy"], rtol=0, atol=1e-6, err_msg=name)
