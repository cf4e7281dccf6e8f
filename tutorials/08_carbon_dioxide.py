# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Carbon dioxide over Mauna Loa, with the weeks that are missing
#
# Keeling's weekly record of CO₂ on Mauna Loa, in ppm, as it comes with statsmodels. From July 1962 to
# December 1965 it has 180 weeks, and 28 of them are missing: early in 1964 the measurements stopped for
# four months, right before the yearly maximum. What was the concentration then, and how sure can we be?
#
# 1. A Pyro model says what we know of such a series: a trend, a season, and weather.
# 2. One guide answers several questions: the real gaps, and other weeks that we hide from it to see
#    whether its intervals are right.
# 3. Everything here is linear and Gaussian, so the exact answer is known, and compared with.

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
from sdeppl.plots import COLOURS, Band, plot_paths

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

record = sm.datasets.co2.load_pandas().data["co2"].iloc[225:405]
co2 = record.to_numpy(dtype=float)  # NaN where nothing was measured
years = np.arange(len(co2)) * 7 / 365.25  # since the first week
missing = np.isnan(co2)
print(f"{len(co2)} weeks from {record.index[0]:%B %Y} to {record.index[-1]:%B %Y}, {missing.sum()} missing")

# %% [markdown]
# ## The model
# The concentration is the sum of
#
# - a *trend*, a straight line over these three years: ℓ + s (t - t̄);
# - a *season*, three harmonics of the year: Σ_k a_k cos 2πkt + b_k sin 2πkt;
# - *weather*: air from elsewhere passes over the mountain, and is gone after two weeks. An
#   Ornstein–Uhlenbeck process says that: dx = -a x dt + b dW with a = 25 per year, and b such that it
#   stays at 0.4 ppm.
#
# The instrument adds 0.15 ppm. `SDEPath` is the distribution of an SDE's values at given times, and one
# more Pyro site beside the others.

# %%
WEATHER_RATE, WEATHER_SD, INSTRUMENT_SD = 25.0, 0.4, 0.15
weather_sde = sp.LinearSDE(a=WEATHER_RATE, b=WEATHER_SD * math.sqrt(2 * WEATHER_RATE))
phases = 2 * math.pi * np.outer([1, 2, 3], years)
harmonics = torch.as_tensor(np.concatenate([np.cos(phases), np.sin(phases)]))  # (6, weeks)
from_middle = torch.as_tensor(years - years.mean())
season_sd = torch.tensor([3.0, 1.0, 0.5, 3.0, 1.0, 0.5])


def smooth_part(draws):
    """Trend and season, (..., weeks)."""
    level, slope, season = (draws[name] for name in ("level", "slope", "season"))
    return level[..., None] + slope[..., None] * from_middle + season @ harmonics


def concentration(y=None):
    draws = {
        "level": pyro.sample("level", dist.Normal(318.0, 5.0)),
        "slope": pyro.sample("slope", dist.Normal(1.0, 1.0)),
        "season": pyro.sample("season", dist.Normal(torch.zeros(6), season_sd).to_event(1)),
    }
    start = dist.Normal(0.0, WEATHER_SD)
    weather = pyro.sample("weather", sp.SDEPath(weather_sde, start, years.tolist()))
    pyro.sample("y", dist.Normal(smooth_part(draws) + weather, INSTRUMENT_SD).to_event(1), obs=y)


def total(draws):
    """The concentration itself, without the instrument's error, (draws, weeks), as a NumPy array."""
    on_host = {name: torch.as_tensor(np.asarray(sp.to_host(value))) for name, value in draws.items()}
    return (smooth_part(on_host) + on_host["weather"]).numpy()


# %% [markdown]
# ## One guide
# It learns from draws of the model, without data. All four sites are normal, so `net=None`: the
# covariance of their 188 numbers is all there is to learn.

# %%
guide = sp.ScoreGuide(concentration, net=None)
sp.ScoreMatching(guide, draws=100_000 if quick else 200_000).fit(steps=0)

# %% [markdown]
# ## The real gaps, and the exact answer
# NaN means not observed, so the record goes in as it is. `sp.reference.exact` conditions the joint Gaussian
# of a linear Gaussian model; it refuses any other.

# %%
number = 400 if quick else 2_000
run = guide.condition(y=co2, backend=backend).run(number, seed=1)
print(run.diagnosis)
filled = total(run.draws)
reference = sp.reference.exact(concentration, {"y": co2}, draws=5_000 if quick else 20_000)
exact = total(reference.draws)
against_exact = sp.compare({"co2": filled}, {"co2": exact})["co2"]
surprise = run.diagnosis.log_evidence - reference.log_evidence
print(
    f"against the exact answer: mean {against_exact.mean_error:.3f} sd off, sd {against_exact.sd_error:.1%}"
)
print(f"ln p(y) is {reference.log_evidence:.2f}, the guide has {surprise:+.2f} more")

# %% [markdown]
# ## Are the intervals right? Hide weeks that were measured
# The exact answer is exact *if the model is*. The data themselves can say: we hide a quarter of the
# measured weeks, in blocks of four, fill them in, and compare with what was measured. Four times, until
# each week was hidden once. No training in between.

# %%
folds = 4
block = (np.arange(len(co2)) // 4) % folds
errors, inside = [], []
for fold in range(folds):
    hidden = (block == fold) & ~missing
    posterior = guide.condition(y=np.where(hidden, np.nan, co2), backend=backend)
    draws = total(posterior.sample(number, seed=10 + fold))
    draws += INSTRUMENT_SD * np.random.default_rng(fold).standard_normal(draws.shape)  # as measured
    band = Band.of_draws(draws, level=0.9)
    errors.append((band.mean - co2)[hidden])
    inside.append(((band.low <= co2) & (co2 <= band.high))[hidden])
rmse = np.sqrt(np.mean(np.concatenate(errors) ** 2))
coverage = np.mean(np.concatenate(inside))
line = []  # what joining the neighbours by straight lines gives
for fold in range(folds):
    hidden = (block == fold) & ~missing
    seen = ~hidden & ~missing
    line.append(np.interp(years[hidden], years[seen], co2[seen]) - co2[hidden])
line_rmse = np.sqrt(np.mean(np.concatenate(line) ** 2))
print(f"hidden weeks: {rmse:.2f} ppm off (rms; straight lines: {line_rmse:.2f} ppm)")
print(f"measurements in their 90% interval: {coverage:.1%} of {(~missing).sum()}")

# %% [markdown]
# ## The picture
# Above, the concentration; below, the same without trend and season, where the band can be seen: it is
# as narrow as the instrument allows where there are measurements, and as wide as weather in the gaps.

# %%
figure, axes = plt.subplots(2, 1, figsize=(10, 7), sharex=True, layout="constrained")
calendar = 1962 + 201 / 365.25 + years
edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]])))
week = 7 / 365.25
gaps = [
    (calendar[0] + (left - 0.5) * week, calendar[0] + (right - 0.5) * week)
    for left, right in edges.reshape(-1, 2)
]
without = np.mean(total({**run.draws, "weather": 0.0 * run.draws["weather"]}), axis=0)
for panel, shift in zip(axes, (0.0, without), strict=True):
    bands = {
        "sdeppl": Band.of_draws(filled - shift),
        "exact": Band.of_draws(exact - shift),
    }
    plot_paths(panel, calendar, bands, co2 - shift, filled[:4] - shift, gaps)
axes[0].plot(calendar, without, color=COLOURS[2], linewidth=1.0, linestyle=":", label="trend and season")
axes[0].set(
    ylabel="CO₂, ppm", title="CO₂ on Mauna Loa: posterior mean, 90% band and 4 draws; grey: not measured"
)
axes[0].legend(loc="upper left", ncols=4, fontsize=8)
axes[1].set(xlabel="year", ylabel="less trend and season, ppm")
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "08_carbon_dioxide.png", dpi=120)
print(f"figure: {os.path.relpath(output / '08_carbon_dioxide.png')}")

# %%
limits = (0.15, 0.1) if quick else (0.06, 0.04)
assert against_exact.mean_error < limits[0], against_exact
assert against_exact.sd_error < limits[1], against_exact
assert abs(surprise) < (5.0 if quick else 1.0), surprise
assert rmse < 0.9 * line_rmse, (rmse, line_rmse)
assert 0.85 < coverage < 0.95, coverage  # 152 weeks, not independent: 0.9 give or take 0.03
