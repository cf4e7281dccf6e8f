# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Handwritten digits: what is missing, and how unsure to be
#
# Half of an image is covered; or only a coarse image is left of a fine one. Many images could be behind
# it. A diffusion model of the data set is the prior, the observation is the likelihood, and draws from the
# posterior show all that is possible. The data are scikit-learn's digits, 8 × 8 pixels each.
#
# 1. A prior that is nothing but data: `dist.Empirical` over images.
# 2. One guide, two questions: filling in (`condition`), and super-resolution (`condition(model=...)`).
# 3. Digits that the guide has not seen say whether it is right: how far off is the mean, and are 90% of
#    the pixels in their 90% interval?

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
from sklearn.datasets import load_digits

import sdeppl as sp
from sdeppl.plots import plot_fields

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

images = torch.as_tensor(load_digits().data) / 16  # (1797, 64), from 0 (paper) to 1 (ink)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
training_images, held_out = images[order[:1600]], images[order[1600:]]

# %% [markdown]
# ## An image in 16 numbers
# Pixels at the edge are nearly always empty, and neighbours are alike: 64 numbers are more than an image
# has. So the latent is z, its first 16 principal components, and an image is m + z V + a remainder, which
# counts as independent noise with the size that it has in the training images. A diffusion in such a
# reduced space is what *latent diffusion* means (Rombach et al. 2022).

# %%
COMPONENTS, SENSOR_SD = 16, 0.05
m = training_images.mean(dim=0)
V = torch.linalg.svd(training_images - m, full_matrices=False)[2][:COMPONENTS]
scores = (training_images - m) @ V.T  # (1600, 16): the data set that the prior is made of
remainder = training_images - m - scores @ V
remainder_sd = remainder.square().mean(dim=0).sqrt()


def coarse_of(fine):
    """Means of 2 × 2 pixels: (..., 64) to (..., 16)."""
    return fine.reshape(*fine.shape[:-1], 4, 2, 4, 2).mean(dim=(-3, -1)).flatten(-2)


# %% [markdown]
# ## Two models with the same latent
# The prior of z is the data set itself. It has draws and no useful density, and draws are all that the
# guide asks for.


# %%
def latent():
    return pyro.sample("z", dist.Empirical(scores, torch.zeros(len(scores))))


def pixels(y=None):
    sd = (remainder_sd**2 + SENSOR_SD**2).sqrt()
    pyro.sample("y", dist.Normal(m + latent() @ V, sd).to_event(1), obs=y)


coarse_sd = (coarse_of(remainder).square().mean(dim=0) + SENSOR_SD**2).sqrt()


def coarse(y=None):
    pyro.sample("y", dist.Normal(coarse_of(m + latent() @ V), coarse_sd).to_event(1), obs=y)


# %% [markdown]
# ## Training
# The Gaussian part knows which pixels go together. The network learns the rest: that there are ten
# digits, and not one cloud. `gain` says how much of the loss it took off; it is kept where that is
# significant. For comparison there is a guide without a network.

# %%
guide = sp.ScoreGuide(pixels)
training = sp.ScoreMatching(guide, lr=3e-3 if quick else 1e-3, draws=8_192 if quick else 50_000)
training.fit(steps=600 if quick else 1_000)
print(f"the network takes off {training.gain.mean:.2%} of the loss: {training.gain}")
gaussian_guide = sp.ScoreGuide(pixels, net=None)
sp.ScoreMatching(gaussian_guide, draws=8_192 if quick else 50_000).fit(steps=0)

# %% [markdown]
# ## Two questions, on digits that were held out
# The lower half is covered (NaN), or 4 × 4 means are left. Draws of z become draws of images, remainder
# included. A learned prior has no closed form, so `condition` corrects the draws by weights.

# %%
digits = 2 if quick else 6
number = 24 if quick else 100
generator = torch.Generator().manual_seed(1)
truth = held_out[:digits]
noise = SENSOR_SD * torch.randn(truth.shape, generator=generator)
covered = (truth + noise).clone()
covered[:, 32:] = torch.nan
seen_coarse = coarse_of(truth) + SENSOR_SD * torch.randn((digits, 16), generator=generator)
questions = {"lower half covered": (pixels, covered), "2 × 2 means": (coarse, seen_coarse)}


def draws_of_images(guide, model, y, seed):
    """(number, 64) draws from the posterior of one image."""
    posterior = guide.condition(y=y, model=model, backend=backend, steps=20 if quick else 50)
    z = np.asarray(sp.to_host(posterior.sample(number, seed=seed)["z"]))
    extra = np.random.default_rng(seed).standard_normal((number, 64)) * remainder_sd.numpy()
    return m.numpy() + z @ V.numpy() + extra


def judge(draws, which):
    """Root mean square error of the mean, of the mean image, and the share in 90% intervals."""
    target = truth.numpy()[:, which]
    low, high = np.quantile(draws[..., which], (0.05, 0.95), axis=1)
    rmse = np.sqrt(np.mean((draws[..., which].mean(axis=1) - target) ** 2))
    blind = np.sqrt(np.mean((m.numpy()[which] - target) ** 2))  # what knowing nothing is off
    return rmse, blind, np.mean((low <= target) & (target <= high))


answers, rmse, blind, coverage = {}, {}, {}, {}
for question, (model, data) in questions.items():
    which = np.arange(64) >= 32 if model is pixels else np.ones(64, dtype=bool)
    for name, used in (("network", guide), ("Gaussian", gaussian_guide)):
        draws = np.stack([draws_of_images(used, model, y, seed) for seed, y in enumerate(data)])
        rmse[question, name], blind[question], coverage[question, name] = judge(draws, which)
        answers[question, name] = draws
        print(
            f"{question:20} {name:9} error {rmse[question, name]:.3f} (of the mean image: "
            f"{blind[question]:.3f}), pixels in their 90% interval {coverage[question, name]:.1%}"
        )

# %% [markdown]
# ## The picture
# Mean and standard deviation, and two draws. Where the covered half can be only one thing, the draws
# agree; where the upper half fits several digits, the draws are several digits, and the mean is a blur
# that is none of them: why one wants draws, and not only a mean.

# %%
shown = min(digits, 6)
figure = plt.figure(figsize=(3.4 + 1.6 * shown, 7.5), layout="constrained")
for part, (question, (_, data)) in zip(figure.subfigures(1, 2), questions.items(), strict=True):
    draws = answers[question, "network"][:shown]
    side = int(data.shape[1] ** 0.5)
    rows = {
        "observed": data[:shown].reshape(-1, side, side),
        "mean": draws.mean(axis=1).reshape(-1, 8, 8),
        "sd": draws.std(axis=1).reshape(-1, 8, 8),
        "draw": draws[:, 0].reshape(-1, 8, 8),
        "another": draws[:, 1].reshape(-1, 8, 8),
        "truth": truth[:shown].reshape(-1, 8, 8),
    }
    plot_fields(part, rows, spreads=["sd"], limits=(0.0, 1.0))
    part.suptitle(question)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "07_digits.png", dpi=110)
print(f"figure: {os.path.relpath(output / '07_digits.png')}")

# %%
if quick:  # two digits and 24 draws are few; the fine image is known best
    limits, interval = {"lower half covered": 0.98, "2 × 2 means": 0.72}, (0.7, 0.99)
else:
    limits, interval = {"lower half covered": 0.85, "2 × 2 means": 0.7}, (0.85, 0.95)
for question in questions:
    assert rmse[question, "network"] < limits[question] * blind[question], (question, rmse, blind)
    assert interval[0] < coverage[question, "network"] < interval[1], (question, coverage)
    better = rmse[question, "network"] / rmse[question, "Gaussian"]
    assert better < (1.0 if quick else 0.95), (question, rmse)
