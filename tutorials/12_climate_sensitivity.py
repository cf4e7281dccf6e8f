# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How much does the Earth warm? A stochastic energy balance
#
# The simplest climate model is an SDE (Hasselmann 1976). The surface, with heat capacity C, is forced by
# F(t), radiates λ T away, and is pushed about by weather:
#
# $$ C\, dT = (F(t) - \lambda T)\, dt + \sigma\, dW . $$
#
# The question that matters is S = F₂ₓ/λ, the warming that a doubling of CO₂ leads to in the end. Forty
# years of temperatures hardly settle it: slow oceans (a large C) look like a low sensitivity, and weather
# hides both. Here the forcing is real (CO₂ at Mauna Loa, from statsmodels); the temperatures are
# simulated, so that the truth is known and the answer can be checked.
#
# The path T is Gaussian given S and C, and is integrated out exactly; the two parameters are the latents.
# Mean *and* covariance of the data depend on them, which makes the posterior anything but Gaussian.

# %%
import math
import os
import sys
from pathlib import Path

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import statsmodels.api as sm
import torch

import sdeppl as sp
from sdeppl.plots import Band

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests

try:
    backend = sp.resolve()
except (ValueError, sp.BackendUnavailable) as error:
    sys.exit(f"sdeppl: {error}")
print(f"backend: {backend}")

# %% [markdown]
# ## The forcing, and a truth to find again
# F = 5.35 ln(CO₂/278 ppm) in W/m² (Myhre et al. 1998), year by year; doubling CO₂ gives 3.7 W/m². The truth
# is simulated by Euler–Maruyama in 50 steps a year from the SDE as it stands, not from the formulas that the
# model below uses.

# %%
weekly = sm.datasets.co2.load_pandas().data["co2"].interpolate()
yearly = weekly.resample("YS").mean().loc["1959":"2000"]
years, forcing = yearly.index.year.to_numpy(), 5.35 * np.log(yearly.to_numpy() / 278.0)
DOUBLING, WEATHER, ERROR = 5.35 * math.log(2.0), 0.5, 0.05  # W/m², W yr^½/m², K
START_MEAN, START_SD = 0.3, 0.1  # K above the pre-industrial mean, in the first year
TRUE_SENSITIVITY, TRUE_CAPACITY = 2.6, 7.0  # K, W yr/m²/K


def drift(T, t):
    """dT/dt without weather; t in years since the first."""
    year = min(int(t), len(forcing) - 1)
    return (forcing[year] - DOUBLING / TRUE_SENSITIVITY * T) / TRUE_CAPACITY


truth_sde = sp.ItoSDE(drift, lambda T, t: 0 * T + WEATHER / TRUE_CAPACITY, noise="diagonal")
times = sp.uniform_grid(0.0, len(years) - 1.0, 50 * (len(years) - 1))
path = sp.solve(truth_sde, np.array([[START_MEAN]]), times, noise=sp.Noise(seed=4))
truth = path.states[::50, 0, 0]
seen = np.arange(0, len(years), 2)  # measured every second year
measured = torch.as_tensor(truth[seen] + ERROR * np.random.default_rng(5).standard_normal(len(seen)))
print(f"{len(seen)} of {len(years)} years; forcing {forcing[0]:.2f} to {forcing[-1]:.2f} W/m²")

# %% [markdown]
# ## The model
# With F constant within a year the SDE is solved exactly: T relaxes to F/λ at the rate a = λ/C. `moments`
# writes mean and covariance of the measured years, given S and C.

# %%
elapsed, when = torch.arange(len(years), dtype=torch.float64), torch.as_tensor(seen)
F = torch.as_tensor(forcing)


def response(sensitivity, capacity):
    """Mean temperature (..., years), and the rate a (..., 1) at which it forgets."""
    feedback = DOUBLING / sensitivity
    rate = (feedback / capacity)[..., None]
    lags = (elapsed[:, None] - elapsed - 1.0).clamp(min=0.0)
    pull = torch.exp(-rate[..., None] * lags) * (1 - torch.exp(-rate[..., None]))
    earlier = (elapsed[:, None] > elapsed).to(pull.dtype)  # years that have had their effect
    forced = (pull * earlier) @ (F / feedback[..., None])[..., None]
    return START_MEAN * torch.exp(-rate * elapsed) + forced[..., 0], rate


def moments(sensitivity, capacity):
    """Mean (..., seen) and covariance (..., seen, seen) of what is measured."""
    mean, rate = response(sensitivity, capacity)
    t = elapsed[when]
    decay = torch.exp(-2 * rate * t)
    variance = START_SD**2 * decay + (WEATHER / capacity[..., None]) ** 2 * (1 - decay) / (2 * rate)
    apart = torch.exp(-rate[..., None] * (t[:, None] - t).abs())  # times the variance of the earlier year
    earlier = torch.arange(len(t))
    covariance = apart * variance[..., torch.minimum(earlier[:, None], earlier)]
    return mean[..., when], covariance + ERROR**2 * torch.eye(len(t))


def climate(y=None):
    sensitivity = pyro.sample("sensitivity", dist.LogNormal(math.log(3.0), 0.5))
    capacity = pyro.sample("capacity", dist.LogNormal(math.log(8.0), 0.4))
    mean, covariance = moments(sensitivity, capacity)
    pyro.sample("y", dist.MultivariateNormal(mean, covariance), obs=y)


# %% [markdown]
# ## One guide, two questions
# The prior is Gaussian in the logarithms, so its score is known without a network: `fit(steps=0)` estimates
# mean and covariance. The same guide then answers for the first twenty years and for all of them. `run` says
# how it got there: the likelihood is not Gaussian in the latents, so it is corrected, and the weights say
# whether that went well.

# %%
guide = sp.ScoreGuide(climate, sde=sp.VPSDE())
sp.ScoreMatching(guide, draws=20_000 if quick else 100_000).fit(steps=0)
first_years = measured.clone()
first_years[10:] = math.nan  # not observed
questions = {"the first 20 years": first_years, f"all {len(years)} years": measured}
number = 200 if quick else 1_000
answers = {}
for name, y in questions.items():
    posterior = guide.condition(y=y, backend=backend, steps=50 if quick else 100)
    run = posterior.run(number, seed=1)
    answers[name] = run
    print(f"{name}: {run.diagnosis}")

# %% [markdown]
# ## The exact posterior, on a grid
# With two unknowns the posterior can be computed by brute force: the model's own density on 160 × 160
# points. Nothing of sdeppl is used here.

# %%
grid = [torch.linspace(math.log(m) - 4 * s, math.log(m) + 4 * s, 160) for m, s in ((3.0, 0.5), (8.0, 0.4))]
log_s, log_c = torch.meshgrid(*grid, indexing="ij")
log_prior = dist.Normal(math.log(3.0), 0.5).log_prob(log_s) + dist.Normal(math.log(8.0), 0.4).log_prob(log_c)


def exact_answer(y):
    """Moments of both parameters, and the density of ln S on the grid."""
    known = ~torch.isnan(y)
    mean, covariance = moments(log_s.exp().flatten(), log_c.exp().flatten())
    given = dist.MultivariateNormal(mean[:, known], covariance[:, known][:, :, known])
    likelihood = given.log_prob(y[known]).reshape(log_s.shape)
    weights = torch.softmax((log_prior + likelihood).flatten(), 0).reshape(log_s.shape)
    found = {}
    for site, value in (("sensitivity", log_s.exp()), ("capacity", log_c.exp())):
        mean = (weights * value).sum()
        found[site] = sp.reference.Exact(mean.numpy(), (weights * (value - mean) ** 2).sum().sqrt().numpy())
    return found, weights.sum(1) / (grid[0][1] - grid[0][0])


comparisons, densities = {}, {}
for name, y in questions.items():
    exact, densities[name] = exact_answer(y)
    comparisons[name] = sp.compare(answers[name].draws, exact)
    S = exact["sensitivity"]
    print(f"\n{name}: sensitivity {float(S.mean):.2f} ± {float(S.sd):.2f} K, the truth is {TRUE_SENSITIVITY}")
    print(comparisons[name])

# %% [markdown]
# ## The picture
# Left: the data, the true temperature, and what the posterior says of the forced response, the warming
# without weather. Right: the sensitivity. Twenty years leave a long tail towards a hot world; twice as
# many, with twice the forcing, cut it off.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
last = f"all {len(years)} years"
sites = {site: torch.as_tensor(np.array(sp.to_host(v))) for site, v in answers[last].draws.items()}
forced, _ = response(sites["sensitivity"], sites["capacity"])
band = Band.of_draws(forced.numpy())
left.fill_between(years, band.low, band.high, color="#0072B2", alpha=0.25, linewidth=0)
left.plot(years, band.mean, color="#0072B2", label="forced response, mean and 90 %")
left.plot(years, truth, color="#D55E00", linestyle="--", linewidth=1.2, label="true temperature")
left.plot(years[seen], measured, "o", color="black", markersize=3, label="measured")
left.set(xlabel="year", ylabel="K above pre-industrial")
left.legend(frameon=False, loc="upper left")
kelvin = np.linspace(0.5, 9.0, 400)
prior = np.exp(-0.5 * (np.log(kelvin / 3.0) / 0.5) ** 2) / (kelvin * 0.5 * math.sqrt(2 * math.pi))
right.plot(kelvin, prior, color="0.6", linestyle=":", label="prior")
for (name, run), colour in zip(answers.items(), ("#009E73", "#0072B2"), strict=True):
    values = np.asarray(sp.to_host(run.draws["sensitivity"]))
    right.hist(values, bins=np.linspace(0.5, 9.0, 60), density=True, color=colour, alpha=0.4, label=name)
    density = np.interp(np.log(kelvin), grid[0].numpy(), densities[name].numpy()) / kelvin
    right.plot(kelvin, density, color=colour, linewidth=1.4)
right.axvline(TRUE_SENSITIVITY, color="#D55E00", linestyle="--", label="truth")
right.set(xlabel="warming by doubled CO₂, K", ylabel="density; lines: exact", xlim=(0.5, 9.0))
right.legend(frameon=False)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "12_climate_sensitivity.png", dpi=120)
print(f"figure: {os.path.relpath(output / '12_climate_sensitivity.png')}")

# %% [markdown]
# Each mean within a tenth of a standard deviation of the exact one, each standard deviation within a tenth:
# three times the noise of a thousand draws (the tests, with small settings, allow three times that).

# %%
limits = (0.3, 0.3) if quick else (0.1, 0.1)
for name, found in comparisons.items():
    for site in found.sites:
        assert site.mean_error < limits[0] and site.sd_error < limits[1], (name, found)
