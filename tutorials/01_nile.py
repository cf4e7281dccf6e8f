# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The level of the Nile, with forty years missing
#
# The yearly flow of the Nile at Aswan, 1871 to 1970, in 10⁸ m³. Durbin and Koopman (*Time Series
# Analysis by State Space Methods*, chapter 2) take it as a level that wanders like Brownian motion,
# observed with noise, and remove the observations 21–40 and 61–80 to show what a smoother does with
# gaps. Here the whole trajectory of the level, 100 numbers, is one latent of a Pyro model:
#
# 1. the guide learns the *prior* of trajectories from draws, once, with no data;
# 2. `guide.condition(y=...)` compiles p(level | y) to a reverse SDE, for any data, gaps and noise;
# 3. the answer is compared with the exact one: the model is linear and Gaussian, so a Kalman smoother has it.
#
# `SDEPPL_BACKEND=numpy`, `torch`, `torch:cuda` or `cupy` chooses where the reverse SDE is solved.
# `python tutorials/01_nile.py --nuts` samples the same model with Pyro's NUTS too, which takes a minute more.

# %%
import math
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
import statsmodels.api as sm
import torch

import sdeppl as sp
from sdeppl.plots import Band, plot_paths

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
with_nuts = "--nuts" in sys.argv

try:
    backend = sp.resolve()
except (ValueError, sp.BackendUnavailable) as error:
    sys.exit(f"sdeppl: {error}")
print(f"backend: {backend}")

# %% [markdown]
# ## The model
# The level follows dx = s dW with s² = 1469.1 per year from a wide Gaussian start. `SDEPath` is the
# distribution of its values in the hundred years; its transitions are exact.

# %%
flow = sm.datasets.nile.load_pandas().data["volume"].to_numpy(dtype=float)
years = np.arange(1871, 1971)
elapsed = [float(k) for k in range(100)]
LEVEL_VARIANCE, NOISE_VARIANCE = 1469.1, 15099.0
START_MEAN, START_SD = 1000.0, 500.0


def nile(y=None, noise_variance=NOISE_VARIANCE):
    start = dist.Normal(START_MEAN, START_SD)
    brownian = sp.LinearSDE(a=0.0, b=math.sqrt(LEVEL_VARIANCE))
    level = pyro.sample("level", sp.SDEPath(brownian, start, elapsed))
    pyro.sample("y", dist.Normal(level, math.sqrt(noise_variance)).to_event(1), obs=y)


# %% [markdown]
# ## Training, on draws from the prior alone
# The Gaussian part of the guide is the prior's mean and covariance, estimated from draws; with it the
# answer is already exact for a Gaussian prior such as this one. The network learns what is left. Here
# nothing is left, and `fit` finds that out: it compares both on fresh draws, and keeps the network
# only where it helps.

# %%
clock = time.perf_counter()
guide = sp.ScoreGuide(nile)
training = sp.ScoreMatching(guide, draws=100_000 if quick else 200_000)
training.fit(steps=20 if quick else 300)
gain = training.gain
print(
    f"trained in {time.perf_counter() - clock:.1f} s; the network takes off {gain.mean:.1e} ± "
    f"{gain.standard_error:.1e} of the loss: {'kept' if gain.useful else 'not needed, left out'}"
)

# %% [markdown]
# ## Three questions to one guide
# NaN means not observed. The second and third pattern need no training: only the data, or the
# observation noise, are others.

# %%
with_gaps = flow.copy()
with_gaps[20:40] = np.nan
with_gaps[60:80] = np.nan
every_tenth = np.where(np.arange(100) % 10 == 0, flow, np.nan)
queries = {
    "two gaps of 20 years": (with_gaps, NOISE_VARIANCE),
    "every tenth year only": (every_tenth, NOISE_VARIANCE),
    "two gaps, a quarter of the noise": (with_gaps, NOISE_VARIANCE / 4),
}


def kalman_smoother(y, noise_variance):
    """The exact posterior of the level: mean and standard deviation in each year."""
    smoother = sm.tsa.UnobservedComponents(y, "local level")
    smoother.ssm.initialize_known(np.array([START_MEAN]), np.array([[START_SD**2]]))
    result = smoother.smooth([noise_variance, LEVEL_VARIANCE])
    return sp.reference.Exact(result.smoothed_state[0], np.sqrt(result.smoothed_state_cov[0, 0]))


number = 500 if quick else 2_000
answers, exact = {}, {}
print(
    f"\nagainst the Kalman smoother, rms over 100 years, {number} draws "
    f"(their noise alone: mean {1 / math.sqrt(number):.3f} sd, sd {math.sqrt(0.5 / number):.1%})"
)
print(f"{'observed':34} {'c/b':>4}  {'mean error':>11}  {'sd error':>8}  {'seconds':>7}")
for name, (y, variance) in queries.items():
    posterior = guide.condition(y=y, kwargs={"noise_variance": variance}, backend=backend)
    exact[name] = kalman_smoother(y, variance)
    for c in (0.0, 0.5, 1.0):
        clock = time.perf_counter()
        draws = posterior.sample(number, seed=1, c=c)
        seconds = time.perf_counter() - clock
        found = sp.compare(draws, {"level": exact[name]})["level"]
        print(f"{name:34} {c:4.1f}  {found.mean_error:8.3f} sd  {found.sd_error:8.2%}  {seconds:7.2f}")
        answers[name, c] = draws, found

# %% [markdown]
# ## The same model, sampled by NUTS
# With `--nuts` only, and just long enough for the picture: of its 500 draws of these hundred numbers
# some 70 are effective in the worst year, too few to judge by: the verdict below is the exact answer's alone.
# It mixes better on the path itself, with these data, than on its noise: `benchmarks/nile.py` measures both.

# %%
first = "two gaps of 20 years"
if with_nuts:
    nuts = sp.reference.nuts(
        nile,
        {"y": with_gaps},
        draws=40 if quick else 500,
        warmup=40 if quick else 200,
        chains=1,
        jit_compile=True,
        ignore_jit_warnings=True,
    )
    print(
        f"NUTS: {nuts.seconds:.0f} s, effective draws in the worst year: {nuts.worst_ess:.0f}, "
        f"R-hat up to {nuts.worst_r_hat:.3f}"
    )

# %% [markdown]
# ## The picture

# %%
figure, axes = plt.subplots(3, 1, figsize=(9, 10), sharex=True, sharey=True, layout="constrained")
for panel, (name, (y, _)) in zip(axes, queries.items(), strict=True):
    draws = sp.to_host(answers[name, 1.0][0]["level"])
    bands = {
        "sdeppl": Band.of_draws(draws),
        "exact (Kalman smoother)": Band.of_normal(exact[name].mean, exact[name].sd),
    }
    if with_nuts and name == first:
        bands["NUTS"] = Band.of_draws(sp.to_host(nuts.draws["level"]))
    gaps = [] if name == "every tenth year only" else [(1890.5, 1910.5), (1930.5, 1950.5)]
    plot_paths(panel, years, bands, y, draws[:8], gaps)
    panel.set_title(f"{name}: posterior mean, 90% band and 8 draws", loc="left", fontsize=10)
    panel.set_ylabel("flow, 10⁸ m³ a year")
    panel.legend(loc="upper right", fontsize=8, ncols=4)
axes[-1].set_xlabel("year")
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "01_nile.png", dpi=120)
print(f"figure: {os.path.relpath(output / '01_nile.png')}")

# %% [markdown]
# ## The verdict
# `compare` takes the exact means and standard deviations as it takes another sampler's draws.

# %%
limits = (0.15, 0.08) if quick else (0.05, 0.03)
for (name, c), (_, found) in answers.items():
    assert found.mean_error < limits[0], (name, c, found)
    assert found.sd_error < limits[1], (name, c, found)
draws, found = answers[first, 1.0]
comparison = sp.compare(draws, {"level": exact[first]})
assert comparison.trusted, comparison
print(
    f"\n{first}, against the exact answer: means off by {found.mean_error:.3f} sd (noise alone "
    f"{found.mean_noise:.3f}), standard deviations by {found.sd_error:.1%} ({found.sd_noise:.1%})"
)
print(comparison.verdict)
