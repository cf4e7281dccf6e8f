# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lorenz 63: assimilating observations into a chaotic trajectory
#
# Lorenz's system is the smallest model of convection, and the toy of weather forecasting: nearby states
# separate, so a forecast is only as good as what is known of now. Here it is driven by noise,
#
#     dx = (σ (x₂ - x₁), x₁ (ρ - x₃) - x₂, x₁ x₂ - β x₃) dt + s dW,
#
# we have a guess of the first state (the *background*) and a few noisy values of x₁, and ask for the whole
# trajectory, x₂ and x₃ included. Forecasters call that data assimilation: weak-constraint 4D-Var gives its
# mode, a particle filter its distribution.
#
# 1. The trajectory as a Pyro model.
# 2. One guide, two questions: x₁ is observed, or x₃ instead.
# 3. Both against a particle filter of 200,000 particles, and a forecast.

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
import torch

import sdeppl as sp
from sdeppl.plots import COLOURS, Band, plot_paths

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

# %% [markdown]
# ## The truth, and what is seen of it
# `solve` makes the true trajectory, on a fine grid. The window is 0.8 long; a turn around one of the two
# wings takes about 0.7. Every 0.2 an instrument reports with an error of 1.

# %%
AMPLITUDE, GAP, STEPS, EVERY, SENSOR_SD = 2.0, 0.1, 8, 2, 1.0
sde = sp.Lorenz63(amplitude=AMPLITUDE)
like = {"dtype": backend.dtype, "device": backend.device}
origin = backend.xp.asarray([[-1.5, -3.0, 18.0]], **like)
fine = sp.uniform_grid(0.0, 1.2, 1200)
true_path = sp.solve(sde, origin, fine, solver=sp.EulerMaruyama(), noise=sp.Noise(seed=5))
truth = torch.as_tensor(np.asarray(sp.to_host(true_path.states[::100, 0, :])))  # every 0.1: (13, 3)
times = GAP * np.arange(STEPS + 1)
seen = list(range(EVERY, STEPS + 1, EVERY))  # which of the times are observed

generator = torch.Generator().manual_seed(2)
reports = truth[seen] + SENSOR_SD * torch.randn((len(seen), 3), generator=generator)
BACKGROUND_SD = 2.0
background = truth[0] + BACKGROUND_SD * torch.randn(3, generator=generator)

# %% [markdown]
# ## The model
# `sp.SDEPath` is for SDEs whose transitions are known in closed form, and those of this one are not. So we
# write the trajectory as what makes it: the first state, and the noise of each step. Over 0.1 the drift is
# followed by two steps of Runge and Kutta, and then the noise s √0.1 ξ enters (splitting; weak order 1).
# The latents are 27 standard normals, and the trajectory is a function of them.


# %%
def follow(x):
    """The noiseless system, from x (..., 3) over one step of 0.1, by two Runge–Kutta steps."""
    h = GAP / 2
    for _ in range(2):
        k1 = sde.drift(x, 0.0)
        k2 = sde.drift(x + h / 2 * k1, 0.0)
        k3 = sde.drift(x + h / 2 * k2, 0.0)
        k4 = sde.drift(x + h * k3, 0.0)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def trajectory(start, noise):
    """(..., 9, 3) of start (..., 3) and noise (..., 8, 3), both standard normal."""
    x = [background + BACKGROUND_SD * start]
    for k in range(STEPS):
        x.append(follow(x[-1]) + AMPLITUDE * math.sqrt(GAP) * noise[..., k, :])
    return torch.stack(x, dim=-2)


def lorenz(y=None, component=0):
    start = pyro.sample("start", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.Normal(torch.zeros(STEPS, 3), 1.0).to_event(2))
    predicted = trajectory(start, noise)[..., seen, component]
    pyro.sample("y", dist.Normal(predicted, SENSOR_SD).to_event(1), obs=y)


# %% [markdown]
# ## One guide, two instruments
# The prior of the latents is standard normal, so `net=None` and nothing needs to be trained. All the
# difficulty is in the observation: x₁ at four times is a nonlinear function of 27 numbers. The mean
# likelihood takes it as linear across p(x₀ given x_t), and weights correct for that. The effective share
# says how much they had to.

# %%
guide = sp.ScoreGuide(lorenz, net=None)
sp.ScoreMatching(guide, draws=10_000 if quick else 50_000).fit(steps=0)
number = 200 if quick else 1_000
questions = {"x₁": 0} if quick else {"x₁": 0, "x₃": 2}
runs, paths = {}, {}
for name, component in questions.items():
    posterior = guide.condition(
        y=reports[:, component], kwargs={"component": component}, backend=backend, steps=25 if quick else 50
    )
    runs[name] = posterior.run(number, seed=1)
    latents = (torch.as_tensor(np.asarray(sp.to_host(runs[name].draws[s]))) for s in ("start", "noise"))
    paths[name] = trajectory(*latents)
    print(f"{name} observed: {runs[name].diagnosis}")


# %% [markdown]
# ## A particle filter
# It runs the same model forward from the background, weights the particles with each report, and resamples
# whole trajectories. With this many particles its answer is close to exact, even for the first state, of
# which resampling keeps the fewest different ones. It has to run anew for each question.


# %%
def particle_filter(y, component, particles):
    """Trajectories (particles, 9, 3) from the posterior, and ln p(y)."""
    generator = torch.Generator().manual_seed(3)
    path = (background + BACKGROUND_SD * torch.randn((particles, 3), generator=generator))[:, None, :]
    log_evidence = 0.0
    for k in range(1, STEPS + 1):
        noise = torch.randn((particles, 3), generator=generator)
        x = follow(path[:, -1]) + AMPLITUDE * math.sqrt(GAP) * noise
        path = torch.cat([path, x[:, None]], dim=1)
        if k in seen:
            log_weights = dist.Normal(x[:, component], SENSOR_SD).log_prob(y[seen.index(k)])
            log_evidence += float(log_weights.logsumexp(0)) - math.log(particles)
            chosen = torch.multinomial(log_weights.exp(), particles, replacement=True, generator=generator)
            path = path[chosen]
    return path, log_evidence


filtered, found = {}, {}
for name, component in questions.items():
    particles = 50_000 if quick else 200_000
    filtered[name], log_evidence = particle_filter(reports[:, component], component, particles)
    found[name] = sp.compare({"x": paths[name]}, {"x": filtered[name]})["x"]
    off = runs[name].diagnosis.log_evidence - log_evidence
    print(
        f"{name} observed, against the filter: mean {found[name].mean_error:.3f} sd off, "
        f"sd {found[name].sd_error:.1%}, ln p(y) {off:+.3f}"
    )

# %% [markdown]
# ## A forecast
# The last states of the draws are an ensemble. `solve` takes it on, with noise, for another 0.4.

# %%
ensemble = backend.xp.asarray(sp.to_host(paths["x₁"][:, -1, :]).copy(), **like)
later = sp.uniform_grid(0.8, 1.2, 80)
forecast = sp.solve(sde, ensemble, later, solver=sp.EulerMaruyama(), noise=sp.Noise(seed=6))
forecast = np.asarray(sp.to_host(forecast.states[::5]))  # (17, draws, 3), every 0.025

# %% [markdown]
# ## The picture
# Left, x₁ is observed: x₂ and x₃, which nobody measured, follow from the dynamics. The forecast starts
# where the data end. Right, x₃ is observed instead.

# %%
columns = len(questions)
figure, axes = plt.subplots(
    3, columns, figsize=(6 * columns, 8), sharex=True, squeeze=False, layout="constrained"
)
for column, (name, component) in enumerate(questions.items()):
    for row in range(3):
        panel = axes[row, column]
        observed = np.full(STEPS + 1, np.nan)
        if row == component:
            observed[seen] = reports[:, component]
        ours = paths[name][:, :, row].numpy()
        bands = {
            "sdeppl, mean and 90%": Band.of_draws(ours),
            "particle filter": Band.of_draws(filtered[name][:, :, row].numpy()),
        }
        plot_paths(panel, times, bands, observed, ours[:8])
        true_line = sp.to_host(true_path.states[:, 0, row])
        panel.plot(fine, true_line, color="black", linewidth=1.0, linestyle=":", label="truth")
        if name == "x₁":
            ahead = Band.of_draws(forecast[:, :, row].T)
            panel.fill_between(
                later[::5], ahead.low, ahead.high, color=COLOURS[2], alpha=0.25, label="forecast, 90%"
            )
        panel.set_ylabel(("x₁", "x₂", "x₃")[row])
    axes[0, column].set_title(f"{name} observed every 0.2")
    axes[-1, column].set_xlabel("t")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "09_lorenz_63.png", dpi=110)
print(f"figure: {os.path.relpath(output / '09_lorenz_63.png')}")

# %%
limit = 0.12 if quick else 0.08  # 1,000 draws: 0.03 standard deviations of noise, 200: 0.07
for name in questions:
    assert found[name].mean_error < limit, (name, found[name])
    assert found[name].sd_error < limit, (name, found[name])
