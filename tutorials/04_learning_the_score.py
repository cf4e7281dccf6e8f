# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Learning the score
#
# Reversing time needs the score of the noised prior, which is known for few priors. It can be learned from
# draws of the prior alone: *guess the noise*. This tutorial shows
#
# 1. why a regression of noise on noised draws gives the score, by hand, with least squares;
# 2. what the Gaussian part of a guide knows before any training, and where it is wrong;
# 3. what the network adds, and at which noise levels;
# 4. how to tell whether training was long enough, with `sp.check_score`, when the truth is not known.
#
# The prior is a ring of six oblong clusters, written in Pyro. Its true score is known, for comparison.

# %%
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
from sdeppl.plots import plot_training

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()
xp = backend.xp
print(f"backend: {backend}")


def array(numbers):
    return xp.asarray(np.asarray(numbers), dtype=backend.dtype, device=backend.device)


def host(x):
    return np.asarray(sp.to_host(x))


# %% [markdown]
# ## 1. Guess the noise
# x_t = α x_0 + σ ε. The guess of ε with the smallest mean square error is E[ε given x_t], and that is
# -σ ∂ ln p(x_t): minus σ times the score (Tweedie's formula once more). So *any* method of regression learns
# the score, from pairs (x_t, ε) that cost nothing. This is **denoising score matching**.
#
# Here the prior is a mixture of two Gaussians on a line, the noise level is fixed, and the method is least
# squares on forty bumps: functions that each are large near one point.

# %%
sde = sp.VPSDE()
line = sp.GaussianMixtureDenoiser(sde, array([0.3, 0.7]), array([[-1.5], [1.0]]), array([[[0.06]], [[0.25]]]))
t_middle = 0.1
pairs = 20_000 if quick else 200_000
stream = sp.Noise(seed=1).stream(backend)
x_0 = line.marginals.sample(0.0, pairs, seed=2)
eps = stream.normal(0, (pairs, 1))
x_t = sde.alpha(t_middle) * x_0 + sde.sigma(t_middle) * eps
centres = array(np.linspace(-3.0, 3.0, 40)[None, :])


def bumps(x):
    return xp.exp(-0.5 * ((x - centres) / 0.2) ** 2)


design = bumps(x_t)
ridge = 1e-6 * pairs * xp.eye(40, dtype=backend.dtype, device=backend.device)
weights = xp.linalg.solve(design.T @ design + ridge, design.T @ eps)
guess, best = design @ weights, line.eps(x_t, t_middle)
by_hand = float(xp.sqrt(xp.mean((guess - best) ** 2)))
print(f"\nE|ε - ε̂|² of the regression: {float(xp.mean((eps - guess) ** 2)):.4f}")
print(f"E|ε - ε̂|² of the exact score: {float(xp.mean((eps - best) ** 2)):.4f}: what cannot be guessed")
print(f"rms difference of the two ε̂: {by_hand:.4f}")

# %% [markdown]
# ## 2. A guide before training: the Gaussian part
# In more dimensions the guess is made by a network. It need not learn what is known: the best *linear* guess
# follows from the prior's mean and covariance, at all noise levels at once. `fit(steps=0)` estimates these
# from draws of the model, and that is all. The guide works on latents standardised by them;
# `sp.Posterior(denoiser, None)` draws from what it takes for the prior, with nothing observed.

# %%
CLUSTERS = 6
angle = 2 * np.pi * np.arange(CLUSTERS) / CLUSTERS
WEIGHTS = np.linspace(0.5, 1.5, CLUSTERS) / CLUSTERS
MEANS = np.stack([2 * np.cos(angle), 1 + np.sin(angle)], axis=1)
ROOT = np.array([[0.45, 0.0], [0.12, 0.25]])


def model(y=None):
    clusters = dist.MultivariateNormal(torch.tensor(MEANS), scale_tril=torch.tensor(ROOT))
    x = pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.tensor(WEIGHTS)), clusters))
    pyro.sample("y", dist.Normal(x[..., 0], 0.3), obs=y)


def draws_of(guide, number):
    """Of the prior that the guide has learned, in the model's units."""
    standardised = host(sp.Posterior(guide.denoiser(backend), None).sample(number, seed=3))
    return {"x": host(guide.gaussian.location) + host(guide.gaussian.scale) * standardised}


drawn, tested = (500, 5_000) if quick else (2_000, 20_000)
guide = sp.ScoreGuide(model, sde=sde)
training = sp.ScoreMatching(guide, lr=2e-3, draws=20_000 if quick else 100_000)
training.fit(steps=0, progress=False)
checks = {"Gaussian part": sp.check_score(guide, tested)}
samples = {"Gaussian part": draws_of(guide, drawn)}
denoisers = {"Gaussian part": guide.denoiser(backend)}
print(checks["Gaussian part"])

# %% [markdown]
# The check tests what must hold for the right ε̂ and no other: ε - ε̂ is orthogonal to every function of
# x_t. It needs no knowledge of the true score, only fresh draws of the model. Here lengths and slopes are
# right, since the covariance is, but the *bend* (sine and cosine of x_t) gives a line away that should be a
# curve, by tens of standard errors, at moderate noise. At high noise all priors look Gaussian; at low noise ε
# can hardly be guessed by anyone (the loss is nearly 1). The network is for what lies between.
#
# ## 3. With the network
# `fit` draws a fresh batch from the model for each step: there is no data set, so nothing to overfit. The
# loss is counted so that the Gaussian part alone has 1. At the end `gain` measures on fresh draws what the
# network takes off it, and leaves the network out where that is nothing. `steps` counts in all, so that a
# second `fit` goes on.

# %%
training.fit(steps=100 if quick else 500, progress=False)
checks["short training"] = sp.check_score(guide, tested)
print(f"\nafter {len(training.losses)} steps: {checks['short training'].verdict}")
training.fit(steps=500 if quick else 5_000, progress=not quick)
gain = training.gain
checks["with network"] = sp.check_score(guide, tested)
samples["with network"] = draws_of(guide, drawn)
denoisers["with network"] = guide.denoiser(backend)
verdict = "kept" if gain.useful else "left out"
print(f"after {len(training.losses)} steps: gain {gain.mean:.4f} ± {gain.standard_error:.4f}: {verdict}")
print(checks["with network"])

# %% [markdown]
# Training that was too short is found out; after the long one hardly anything is left to find, and `.good`
# says in one word whether. That the loss hardly moves any more says less: most of it is noise that nobody can
# guess.
#
# ## 4. Against the truth
# The exact score in the guide's units, in which each number has mean 0 and standard deviation 1:

# %%
mean = WEIGHTS @ MEANS
sd = np.sqrt(np.diag(ROOT @ ROOT.T) + WEIGHTS @ (MEANS - mean) ** 2)
covariance = ROOT @ ROOT.T / np.outer(sd, sd)
exact = sp.GaussianMixtureDenoiser(
    sde, array(WEIGHTS), array((MEANS - mean) / sd), array(np.stack([covariance] * CLUSTERS))
)
number = 5_000
clean = exact.marginals.sample(0.0, number, seed=4)
errors = {name: [] for name in denoisers}
levels = []
for k, t in enumerate(sp.log_snr_grid(sde, 20, noise_to_signal=0.03)[:-1]):
    x_t = sde.alpha(t) * clean + sde.sigma(t) * stream.normal(10 + k, (number, 2))
    levels.append(sde.sigma(t) / sde.alpha(t))
    for name, denoiser in denoisers.items():
        off = denoiser.eps(x_t, t) - exact.eps(x_t, t)
        errors[name].append(float(xp.sqrt(xp.mean(off**2))))
for name, row in errors.items():
    print(f"{name:14} rms error of ε̂, largest: {max(row):.3f}, mean over the levels: {np.mean(row):.3f}")

truth = {"x": host(exact.marginals.sample(0.0, drawn, seed=5)) * sd + mean}
distances = {}
for name, found in samples.items():
    comparison = sp.compare(found, truth)
    distances[name] = comparison["x"].distance
    print(f"\n{name}\n{comparison}")
floor = comparison["x"].distance_floor

# %% [markdown]
# ## The picture
# Above: draws of the prior, of the Gaussian part, which has the right mean and covariance and nothing else,
# and with the network. Below: the regression by hand, the training, and the error of ε̂ by noise level.

# %%
figure, ((*clouds,), (curve, losses, error)) = plt.subplots(2, 3, figsize=(12, 7.5), layout="constrained")
pictured = {"the prior": truth} | samples
for axes, (name, found), colour in zip(clouds, pictured.items(), ("0.3", "#D55E00", "#0072B2"), strict=True):
    axes.plot(*host(found["x"]).T, ".", color=colour, markersize=2.5, alpha=0.6)
    axes.set(title=name, xlabel="x₁", xlim=(-5, 5), ylim=(-2, 4))
clouds[0].set_ylabel("x₂")
x = np.linspace(-2.6, 2.6, 300)
curve.plot(
    host(line.marginals.sample(t_middle, 1_500, seed=6))[:, 0],
    np.full(1_500, -2.4),
    "|",
    color="0.6",
    alpha=0.2,
)
curve.plot(
    x, host(line.eps(array(x[:, None]), t_middle))[:, 0], color="black", linewidth=3, alpha=0.3, label="exact"
)
curve.plot(x, host(bumps(array(x[:, None])) @ weights)[:, 0], color="#0072B2", label="least squares")
curve.set(title=f"the noise guessed by hand, t = {t_middle}", xlabel="x_t", ylabel="ε̂")
curve.legend(frameon=False, fontsize="small")
plot_training(losses, training.losses, gain)
losses.set_title("training")
for (name, row), mark, colour in zip(errors.items(), "so", ("#D55E00", "#0072B2"), strict=True):
    error.loglog(levels, row, f"{mark}-", color=colour, markersize=4, label=name)
error.set(title="error of ε̂", xlabel="noise level σ/α", ylabel="rms")
error.legend(frameon=False, fontsize="small")
for axes in (*clouds, curve, error):
    axes.spines[["top", "right"]].set_visible(False)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "04_learning_the_score.png", dpi=120)
print(f"figure: {os.path.relpath(output / '04_learning_the_score.png')}")

# %% [markdown]
# ## What must be true

# %%
assert by_hand < (0.06 if quick else 0.02), by_hand
assert not checks["Gaussian part"].good
assert gain.useful and not checks["short training"].good
improvement = max(errors["Gaussian part"]) / max(errors["with network"])
assert improvement > (1.6 if quick else 6), errors
if not quick:
    assert checks["with network"].p > 1e8 * checks["short training"].p
    assert distances["with network"] < 1.5 * floor < distances["Gaussian part"], (distances, floor)
