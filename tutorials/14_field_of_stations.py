# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A field from a few stations
#
# Something varies over a map, as temperature does: smooth over some distance, with no place special. We can
# simulate such fields, and cannot write their density down. A few stations measure it. What is it elsewhere,
# and how sure can we be?
#
# 1. The prior is a *simulator*: a NumPy function that draws fields. A guide learns from its draws.
# 2. `layout=` says that the numbers stand on a grid, so that nothing of size numbers × numbers is ever made:
#    64 × 64 numbers here take seconds, 256 × 256 a minute.
# 3. One guide answers for any stations, for missing ones, and for an instrument that sees averages.
# 4. The simulator's law is known to us (though not to the guide), so the exact answer stands beside each.

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
import torch

import sdeppl as sp
from sdeppl.plots import plot_coverage_map, plot_fields

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

# %% [markdown]
# ## The simulator
# White noise, filtered: each wavenumber k gets the standard deviation of a Matérn field of ν = 1, whose
# spectrum is (8ν/ℓ² + |k|²)^-(ν+1), in the plane. The ends of the map meet, as on a torus.

# %%
SIDE = 32 if quick else 64
RANGE, MEAN, SD, NOISE = 0.12, 12.0, 3.0, 0.3  # of the side; degrees
frequency = 2 * math.pi * np.fft.fftfreq(SIDE, 1 / SIDE)
square = frequency[:, None] ** 2 + frequency[None, :] ** 2
spectrum = (8 / RANGE**2 + square) ** -2.0
spectrum *= SD**2 / spectrum.mean()


def simulate(n, rng):
    """n fields, (n, SIDE, SIDE)."""
    white = np.fft.fft2(rng.standard_normal((n, SIDE, SIDE)))
    return MEAN + np.fft.ifft2(np.sqrt(spectrum) * white).real


# %% [markdown]
# ## The model and its guide
# A station is a row and a column. `Simulated` takes the sampler as it is: it asks for `n` and `rng`, and gets
# them. `Grid(periodic=True)` says what is next to what, and that the ends meet.

# %%
rng = np.random.default_rng(1)
count = 60 if quick else 200
stations = torch.as_tensor(rng.choice(SIDE * SIDE, count, replace=False))


def temperature(y=None, where=stations):
    field = pyro.sample("field", sp.Simulated(simulate, shape=(SIDE, SIDE)))
    seen = field.reshape(*field.shape[:-2], -1)[..., where]
    pyro.sample("y", dist.Normal(seen, NOISE).to_event(1), obs=y)


guide = sp.ScoreGuide(temperature, net=None, layout={"field": sp.Grid(periodic=True)})
clock = time.perf_counter()
guide.fit_gaussian(500 if quick else 2_000)
print(f"learned in {time.perf_counter() - clock:.1f} s")
print(guide)
print(guide.fit_check.verdict)

# %% [markdown]
# `net=None` learns mean and covariance alone, from which a Gaussian prior is known; `fit_check` has compared
# them with draws that the fit has not seen. Where it says 'do not trust', the field is not Gaussian (try
# `np.exp` of it): leave `net` out, and `ScoreMatching` trains a U-Net for what is left.
#
# ## A day on the map
# One more draw plays the truth. The posterior of so many numbers is drawn directly, in the time of one solve,
# because prior and observation are Gaussian: the diagnosis says so.

# %%
truth = simulate(1, np.random.default_rng(7))[0]
measured = truth.reshape(-1)[stations.numpy()] + NOISE * rng.standard_normal(count)
draws = 400 if quick else 1_000
run = guide.condition(y=measured, backend=backend).run(draws, seed=1)
fields = np.asarray(sp.to_host(run.draws["field"]))
print(run.diagnosis)

# %% [markdown]
# ## The exact answer
# Of the true spectrum: the covariance of two points depends on the step between them alone, so the matrix of
# the stations is looked up, and solved.

# %%
covariance = np.fft.ifft2(spectrum).real  # of a point with that at (0, 0)
rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)


def between(one, other):
    """Covariances of points of two lists, (one, other)."""
    return covariance[
        (rows[one][:, None] - rows[other]) % SIDE, (columns[one][:, None] - columns[other]) % SIDE
    ]


def exact(where, y):
    """Mean and standard deviation of every point given stations, and ln p(y)."""
    S = between(where, where) + NOISE**2 * np.eye(len(where))
    cross = between(np.arange(SIDE * SIDE), where)
    weights = np.linalg.solve(S, np.column_stack([y - MEAN, cross.T]))
    variance = covariance[0, 0] - np.einsum("ij,ji->i", cross, weights[:, 1:])
    log_p = -0.5 * ((y - MEAN) @ weights[:, 0] + np.linalg.slogdet(S)[1] + len(y) * math.log(2 * math.pi))
    return (MEAN + cross @ weights[:, 0]).reshape(SIDE, SIDE), np.sqrt(variance).reshape(SIDE, SIDE), log_p


def compared(fields, mean, sd):
    """Errors of the posterior's mean, in its standard deviations, and of these; rms over the map."""
    off = math.sqrt(np.mean(((fields.mean(axis=0) - mean) / sd) ** 2))
    return off, math.sqrt(np.mean((fields.std(axis=0) / sd - 1) ** 2))


mean, sd, log_p = exact(stations.numpy(), measured)
mean_error, sd_error = compared(fields, mean, sd)
chance = 1 / math.sqrt(draws)
low, high = np.quantile(fields, [0.05, 0.95], axis=0)
coverage = np.mean((low <= truth) & (truth <= high))
print(
    f"mean {mean_error:.3f} sd off ({chance:.3f} by chance), sd {sd_error:.1%} ({chance / math.sqrt(2):.1%})"
)
print(f"ln p(y): {run.diagnosis.log_evidence:.2f}, exact {log_p:.2f}")
print(f"the truth lies in the 90% interval at {coverage:.1%} of the map")

# %% [markdown]
# ## Stations that fail, and an instrument that sees averages
# NaN means not measured: a third of the stations have failed today, and nothing is trained or compiled anew
# for it. A satellite instead sees means over blocks of 8 × 8 points: another model with the same latent, and
# the same guide. Its operator is the model's own; no matrix is written down.

# %%
failed = measured.copy()
failed[::3] = np.nan
kept = ~np.isnan(failed)
gaps = np.asarray(sp.to_host(guide.condition(y=failed, backend=backend).sample(draws, seed=2)["field"]))
failed_mean, failed_sd, _ = exact(stations.numpy()[kept], failed[kept])
gap_error, _ = compared(gaps, failed_mean, failed_sd)
print(f"with {kept.sum()} stations: mean {gap_error:.3f} sd off")
print(f"standard deviation {failed_sd.mean():.2f} degrees, {sd.mean():.2f} with all")

BLOCK = 8


def satellite(y=None):
    field = pyro.sample("field", sp.Simulated(simulate, shape=(SIDE, SIDE)))
    side = SIDE // BLOCK
    blocks = field.reshape(*field.shape[:-2], side, BLOCK, side, BLOCK).mean(dim=(-3, -1))
    pyro.sample("y", dist.Normal(blocks, 0.1).to_event(2), obs=y)


coarse = truth.reshape(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).mean(axis=(1, 3))
coarse = coarse + 0.1 * np.random.default_rng(3).standard_normal(coarse.shape)
from_space = guide.condition(y=coarse, model=satellite, backend=backend).run(draws, seed=3)
seen_from_space = np.asarray(sp.to_host(from_space.draws["field"]))
error = math.sqrt(np.mean((seen_from_space.mean(axis=0) - truth) ** 2))
claimed = math.sqrt(np.mean(seen_from_space.var(axis=0)))
print(f"from space: {error:.2f} degrees off (rms), {claimed:.2f} claimed; {from_space.diagnosis}")

# %% [markdown]
# ## The pictures
# Draws look like the truth; the mean is smoother, as it must be. Where a station is, little is left to know.

# %%
stations_seen = np.full(SIDE * SIDE, np.nan)
stations_seen[stations.numpy()] = measured
coarse_seen = np.kron(coarse, np.ones((BLOCK, BLOCK)))
figure = plt.figure(figsize=(12, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(5, 1.35))
seen_and_found = {
    "stations": (stations_seen.reshape(SIDE, SIDE), fields),
    "from space": (coarse_seen, seen_from_space),
}
shown = {
    label: np.stack([truth, seen, found.mean(axis=0), found[0], found[1]])
    for label, (seen, found) in seen_and_found.items()
}
axes = plot_fields(left, shown)
for panel, title in zip(axes[0], ["truth", "seen", "mean", "a draw", "another"], strict=True):
    panel.set_title(title)
spreads = {" " * k: found.std(axis=0)[None] for k, (_, found) in enumerate(seen_and_found.values())}
plot_fields(right, spreads, spreads=list(spreads))[0, 0].set_title("standard deviation")
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "14_field_of_stations.png", dpi=120)
print(f"figure: {os.path.relpath(output / '14_field_of_stations.png')}")

# %% [markdown]
# ## Many days: coverage
# One map proves little. Of many, each with its own truth, the 90% intervals should hold 90% of the truths
# at every point of the map: `condition_many` solves them together, `coverage_map` counts, and knows how much
# chance does to a share of so many days.

# %%
days = 40 if quick else 100
truths = simulate(days, np.random.default_rng(11))
data = truths.reshape(days, -1)[:, stations.numpy()]
data = data + NOISE * np.random.default_rng(12).standard_normal(data.shape)
many = guide.condition_many(y=data, backend=backend).run(39, seed=4)
map_of_coverage = sp.coverage_map((truths, np.asarray(sp.to_host(many.draws["field"]))))
print(map_of_coverage)
figure = plt.figure(figsize=(9, 3.4), layout="constrained")
plot_coverage_map(figure, map_of_coverage)
figure.savefig(output / "14_field_of_stations_coverage.png", dpi=110)
print(f"figure: {os.path.relpath(output / '14_field_of_stations_coverage.png')}")

# %%
assert map_of_coverage.trusted and abs(map_of_coverage.mean - map_of_coverage.level) < 0.02, map_of_coverage
assert mean_error < 1.3 * chance + 0.05, mean_error
assert sd_error < 1.3 * chance / math.sqrt(2) + 0.02, sd_error
assert abs(run.diagnosis.log_evidence - log_p) < (4.0 if quick else 1.5), run.diagnosis
assert gap_error < 1.3 * chance + 0.05, gap_error
assert 0.8 < coverage < 0.98, coverage  # of one map, whose points are not independent
assert error < 1.5 * claimed, (error, claimed)
