# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Images: filling in and deblurring
#
# A prior that is nothing but images, here patches of two photographs that scikit-learn ships. A guide learns
# it twice: its Gaussian part knows how alike neighbouring pixels are; a U-Net learns what is left, above all
# that there are edges. Then it is asked two questions about patches that it has not seen: what is in a hole,
# and what was there before it was blurred.
#
# 1. `sp.Dataset`: rows of an array are the prior; nothing is copied, and other rows are held out.
# 2. `layout={"image": sp.Grid()}`: the default network on a grid is `sp.UNet`.
# 3. Both questions are one guide's, and neither was known when it was trained.
# 4. Held-out patches say how far off the means are, and whether 90% of the pixels are in their intervals.

# %%
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
from sklearn.datasets import load_sample_images

import sdeppl as sp
from sdeppl.plots import plot_fields

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

# %% [markdown]
# ## The data set
# Brightness from 0 to 1, every other pixel. Patches of the left three quarters of each photograph are for
# learning, of the right quarter for asking.

# %%
SIDE = 16 if quick else 24
photographs = [
    image[::2, ::2] @ np.array([0.299, 0.587, 0.114]) / 255 for image in load_sample_images().images
]


def patches(images, stride):
    """(rows, SIDE, SIDE)."""
    views = [np.lib.stride_tricks.sliding_window_view(one, (SIDE, SIDE)) for one in images]
    return np.concatenate([view[::stride, ::stride].reshape(-1, SIDE, SIDE) for view in views])


cuts = [3 * one.shape[1] // 4 for one in photographs]
learned_from = patches([one[:, :cut] for one, cut in zip(photographs, cuts, strict=True)], 4)
held_out = patches([one[:, cut:] for one, cut in zip(photographs, cuts, strict=True)], SIDE // 2)
print(f"{len(learned_from)} patches to learn from, {len(held_out)} held out")

# %% [markdown]
# ## The model
# A transform may be random, and asks for its generator as a simulator does: a trace of noise hides that
# brightness comes in 256 steps. The observation with a hole is the image with noise where it is seen; NaN is
# not seen.

# %%
GRAIN, NOISE, BLUR = 0.02, 0.05, 1.5


def with_grain(rows, rng):
    return rows + GRAIN * rng.standard_normal(rows.shape)


prior = sp.Dataset(learned_from, with_grain, held_out=held_out, shape=(SIDE, SIDE))


def seen(y=None):
    image = pyro.sample("image", prior)
    pyro.sample("y", dist.Normal(image, NOISE).to_event(2), obs=y)


reach = torch.arange(-4, 5)
kernel = torch.exp(-(reach**2) / (2 * BLUR**2))
mixing = torch.zeros(SIDE, SIDE)  # of each row of pixels with its neighbours, mirrored at the edge
for k in range(SIDE):
    for step, weight in zip(reach.tolist(), kernel / kernel.sum(), strict=True):
        j = k + step
        mixing[k, -1 - j if j < 0 else 2 * SIDE - 1 - j if j >= SIDE else j] += weight


def blurred(y=None):
    image = pyro.sample("image", prior)
    pyro.sample("y", dist.Normal(mixing @ image @ mixing.T, NOISE / 2).to_event(2), obs=y)


# %% [markdown]
# ## Training
# `fit_check` says in nats how far what was learned is off the held-out patches: the Gaussian part by a
# hundred and more, since images are not Gaussian. `gain` is the share of the loss that the network takes off.

# %%
layout = {"image": sp.Grid()}
net = sp.UNet(width=8 if quick else 16, depth=2)
guide = sp.ScoreGuide(seen, layout=layout, net=net)
gaussian = sp.ScoreGuide(seen, layout=layout, net=None)
sp.ScoreMatching(gaussian).fit(steps=0)
print(gaussian.fit_check.verdict)
clock = time.perf_counter()
training = sp.ScoreMatching(guide, lr=2e-3, batch=32 if quick else 64)
training.fit(steps=150 if quick else 1_000)
print(f"the network takes off {training.gain.mean:.1%} of the loss; {time.perf_counter() - clock:.0f} s")
print(guide.fit_check.verdict)

# %% [markdown]
# ## Two questions
# A hole of a third of the side in the middle, and a blur. The Gaussian prior has closed forms for both.
# Draws from the learned one are guided by what the network knows of x_0 at every step; nothing has weighed
# them, for so many numbers keep no even weights, and the diagnosis says so.

# %%
contrast = np.argsort(held_out.std(axis=(1, 2)))  # from empty sky to leaves: of different kinds
places = (np.linspace(0.4, 0.95, 2 if quick else 5) * len(held_out)).astype(int)
truths = held_out[contrast[places]]
rng = np.random.default_rng(1)
hole = np.zeros((SIDE, SIDE), dtype=bool)
hole[SIDE // 3 : 2 * SIDE // 3, SIDE // 3 : 2 * SIDE // 3] = True
through_hole = truths + NOISE * rng.standard_normal(truths.shape)
through_hole[:, hole] = np.nan
M = mixing.numpy()
out_of_focus = M @ truths @ M.T + NOISE / 2 * rng.standard_normal(truths.shape)
questions = {"a hole": (seen, through_hole, hole), "a blur": (blurred, out_of_focus, np.ones_like(hole))}
draws, steps = (12, 15) if quick else (24, 40)


def answered(used, model, data):
    """(images, draws, SIDE, SIDE)."""
    found = [
        used.condition(y=y, model=model, backend=backend, steps=steps).sample(draws, seed=k)["image"]
        for k, y in enumerate(data)
    ]
    return np.stack([np.asarray(sp.to_host(one)) for one in found])


answers, error, coverage = {}, {}, {}
for question, (model, data, where) in questions.items():
    for name, used in (("network", guide), ("Gaussian", gaussian)):
        clock = time.perf_counter()
        found = answers[question, name] = answered(used, model, data)
        off = (found.mean(axis=1) - truths)[:, where]
        low, high = np.quantile(found, (0.05, 0.95), axis=1)
        error[question, name] = np.sqrt(np.mean(off**2))
        coverage[question, name] = np.mean(((low <= truths) & (truths <= high))[:, where])
        print(
            f"{question}, {name:8}: error {error[question, name]:.3f}, pixels in their 90% interval "
            f"{coverage[question, name]:.1%}, {time.perf_counter() - clock:.0f} s"
        )

# %% [markdown]
# ## The pictures
# The Gaussian's draws are of one texture wherever they are, as rough in the sky as on the flower. Those of
# the network are smooth in smooth places and rough where leaves are. In the hole its mean is 5% nearer to the
# truth than the Gaussian's, and 91% of the pixels are in their intervals, for 84%; of the blur, where most
# of what is asked for is seen, both are as far off.

# %%
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure = plt.figure(figsize=(3.0 + 2.2 * len(truths), 7.5), layout="constrained")
for part, (question, (_, data, _)) in zip(figure.subfigures(1, 2), questions.items(), strict=True):
    learned, plain = (answers[question, name] for name in ("network", "Gaussian"))
    rows = {
        "truth": truths,
        "observed": data,
        "mean": learned.mean(axis=1),
        "draw": learned[:, 0],
        "Gaussian's draw": plain[:, 0],
        "sd": learned.std(axis=1),
    }
    plot_fields(part, rows, spreads=["sd"], limits=(0.0, 1.0))
    part.suptitle(question)
figure.savefig(output / "15_images.png", dpi=100)
print(f"figure: {os.path.relpath(output / '15_images.png')}")

# %%
assert training.gain.useful
for question in questions:
    ratio = error[question, "network"] / error[question, "Gaussian"]
    assert ratio < (1.3 if quick else 1.02), (question, error)
    assert coverage[question, "network"] > (0.6 if quick else 0.75), coverage
