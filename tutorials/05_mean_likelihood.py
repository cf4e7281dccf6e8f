# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The mean likelihood
#
# A diffusion model draws from the prior p(x_0). With data y we want p(x_0 | y). Bayes' rule at noise level t
# says how: the score of p(x_t | y) is
#
#     ∂ ln p(x_t) + ∂ ln l(y | x_t),      l(y | x_t) = ∫ p(y | x_0) p(x_0 | x_t) dx_0.
#
# The first term is the model's. The second is that of the **mean likelihood** l: the likelihood of the data,
# averaged over all x_0 that may have led to x_t. It is tempting to write p(y | x_t) and to put x_t where x_0
# belongs. This tutorial shows what that does, what the usual approximations do, and how particles mend what
# they get wrong. The prior is a mixture of Gaussians, for which the truth is known.

# %%
import math
import os
import sys
import warnings
from pathlib import Path

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import sdeppl as sp

quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()
print(f"backend: {backend}")


def array(numbers):
    return backend.xp.asarray(np.asarray(numbers), dtype=backend.dtype, device=backend.device)


def host(x):
    return np.asarray(sp.to_host(x))


def ladder(prior, observed):
    """Approximations of l, from the crudest: each is a denoiser that knows y."""
    return {
        "naive": sp.NaiveDenoiser(prior, observed),
        "DPS": sp.DPSDenoiser(prior, observed),
        "SDA": sp.SDADenoiser(prior, observed),
        "ΠGDM": sp.PiGDMDenoiser(prior, observed),
        "Tweedie": sp.TweedieDenoiser(prior, observed),
    }


# %% [markdown]
# ## Why p(y | x_t) is wrong
# A number x_0 near -1 or +1 is seen as y = x_0 + noise. At σ/α = 1 the noised x_t says little of x_0: most of
# what is known of it is the prior. m and C are mean and variance of x_0 given x_t (Tweedie's formulas).
#
# | | l(y given x_t) | assumes |
# |---|---|---|
# | naive | N(y; x_t, R) | that x_t is x_0 |
# | DPS | N(y; m, R) | that x_t settles x_0 |
# | SDA | N(y; m, R + σ²/α²) | C = σ²/α², as for a flat prior |
# | ΠGDM | N(y; m, R + r²), r² = σ² v/(α² v + σ²) | C = r², as for a Gaussian prior of variance v (here 1) |
# | Tweedie | N(y; m, R + C) | that p(x_0 given x_t) is Gaussian |
# | exact | p(x_t given y) p(y)/p(x_t) | nothing: Bayes' rule; known for mixtures |
#
# The naive likelihood pulls every particle at every noise level to where x_t itself would have given y.

# %%
sde = sp.VPSDE()
line = sp.GaussianMixtureDenoiser(sde, array([0.4, 0.6]), array([[-1.0], [1.0]]), array([[[0.06]], [[0.06]]]))
seen = sp.LinearGaussian(array([[1.0]]), array([0.8]), R=0.1)
t_one = next(t for t in sp.log_snr_grid(sde, 200) if sde.sigma(t) < sde.alpha(t))  # σ/α just below 1
x = np.linspace(-3.0, 3.0, 241)
column = array(x[:, None])
bayes = sp.exact_posterior(line, seen)
exact_l = np.exp(
    host(bayes.denoiser.log_density(column, t_one) - line.log_density(column, t_one))
    + float(bayes.log_evidence)
)
approximate_l = {
    name: np.exp(host(rung.log_likelihood(column, t_one))) for name, rung in ladder(line, seen).items()
}
print("\nat σ/α = 1: largest error of l(y | x_t), in units of its maximum")
for name, found in approximate_l.items():
    print(f"{name:8} {np.max(np.abs(found - exact_l)) / np.max(exact_l):6.2f}")

# %% [markdown]
# ## Posterior draws, uncorrected
# In the plane, four clusters. Only the first coordinate is seen, with noise of standard deviation 0.32. Two
# clusters explain the datum about equally well, one with x₂ > 0, the other with x₂ < 0: the datum itself does
# not say which, and guidance must find their shares from l alone, at high noise.
#
# `correction=None` leaves the draws as the approximation guides them.

# %%
WEIGHTS = [0.2, 0.3, 0.3, 0.2]
MEANS = [[-1.5, 1.5], [-0.5, -1.2], [0.8, 1.2], [1.6, -0.6]]
prior = sp.GaussianMixtureDenoiser(sde, array(WEIGHTS), array(MEANS), array([0.08 * np.eye(2)] * 4))
datum = 0.2
observed = sp.LinearGaussian(array([[1.0, 0.0]]), array([datum]), R=0.1)
exact = sp.exact_posterior(prior, observed)
number = 1_000 if quick else 4_000
exact_draws = np.sort(host(exact.denoiser.marginals.sample(0.0, 100_000, seed=9))[:, 1])
exact_sd = exact_draws.std()


def distance(draws):
    """Wasserstein-1 distance of x₂ from its exact posterior, in posterior standard deviations."""
    found = np.sort(host(draws)[:, 1])
    ranks = ((np.arange(found.size) + 0.5) / found.size * exact_draws.size).astype(int)
    return np.mean(np.abs(found - exact_draws[ranks])) / exact_sd


def upper(draws):
    """The share of draws with x₂ > 0."""
    return np.mean(host(draws)[:, 1] > 0)


share = np.mean(exact_draws > 0)
independent = math.sqrt(share * (1 - share) / number)
steps = 50 if quick else 100
guided, corrected = {}, {}
for name, rung in ladder(prior, observed).items():
    uncorrected = sp.Posterior(prior, observed, likelihood=rung, steps=steps, correction=None)
    guided[name] = uncorrected.sample(number, seed=1)

# %% [markdown]
# ## The correction
# `TwistedSMC`, the default wherever l is not exact, takes the approximation as a proposal only. Particles
# follow it; a weight keeps account of what it gets wrong; particles with large weights multiply. In the end
# the draws are the posterior's *whatever* l was. A bad l costs: few particles carry all the weight. The
# diagnosis measures that, and says whether to trust the answer. It gives ln p(y), too.

# %%
for name, rung in ladder(prior, observed).items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.UntrustedWarning)  # the verdict is in the table below
        twisted = sp.Posterior(prior, observed, likelihood=rung, steps=steps, correction=sp.TwistedSMC())
        corrected[name] = twisted.run(number, seed=1)

log_evidence = float(exact.log_evidence)
print(
    f"\nexact: {share:.3f} of the posterior has x₂ > 0 (± {independent:.3f} for {number} independent draws)"
)
print(f"       ln p(y) = {log_evidence:.3f}")
print(f"{'':9}{'--- uncorrected':18}    --- corrected")
two = f"{'x₂ > 0':>8}{'distance':>10}"
print(f"{'':9}{two}    {two}  {'ESS':>6}  {'ln p(y)':>14}  trusted")
for name, draws in guided.items():
    run = corrected[name]
    told = run.diagnosis
    print(
        f"{name:9}{upper(draws):8.3f}{distance(draws):10.3f}    {upper(run.draws):8.3f}"
        f"{distance(run.draws):10.3f}  {told.ess:6.1%}  {told.log_evidence:6.2f} ± "
        f"{told.log_evidence_error:5.2f}  {'yes' if told.trusted else 'no'}"
    )

# %% [markdown]
# No rung finds the shares of the clusters by itself; more steps would not help. Corrected, those that are
# trusted agree with the truth, in the draws and in ln p(y). Where the guide is too far off (naive), the
# diagnosis says so, in words: `print(run.diagnosis)`.
#
# In practice say nothing: `sp.Posterior(prior, observed)` takes the closed form where there is one, as here,
# and else a suitable rung with its correction. `'cubature'`, `'monte-carlo'` and `'nested'` are further rungs
# (`docs/likelihoods.md`).

# %%
chosen = sp.Posterior(prior, observed).run(number, seed=1)
print(f"\n{chosen.diagnosis}")
print(f"distance {distance(chosen.draws):.3f}, x₂ > 0: {upper(chosen.draws):.3f}")

# %% [markdown]
# ## The picture
# Above: l on the line, the distances without and with correction, and the shares. Below: draws over contours
# of the exact posterior.

# %%
COLOURS = {"naive": "#999999", "DPS": "#E69F00", "SDA": "#56B4E9", "ΠGDM": "#009E73", "Tweedie": "#D55E00"}
figure, axes = plt.subplots(3, 3, figsize=(11.5, 10.5), layout="constrained")
curve, bars, shares = axes[0]
curve.plot(x, exact_l, color="black", linewidth=3.5, alpha=0.35, label="exact")
for name, found in approximate_l.items():
    curve.plot(x, found, color=COLOURS[name], linestyle="--" if name == "naive" else "-", label=name)
curve.set(title="l(y | x_t) at σ/α = 1, y = 0.8", xlabel="x_t")
curve.legend(frameon=False, fontsize="small")
place = np.arange(len(guided))
for k, (label, results, hatch) in enumerate(
    (
        ("uncorrected", {name: draws for name, draws in guided.items()}, "//"),
        ("corrected", {name: run.draws for name, run in corrected.items()}, None),
    )
):
    colour = ("white", "#0072B2")[k]
    height = [distance(draws) for draws in results.values()]
    bars.bar(place + 0.4 * k, height, 0.38, color=colour, edgecolor="#0072B2", hatch=hatch, label=label)
    shares.plot(
        place,
        [upper(draws) for draws in results.values()],
        "os"[k],
        color="#0072B2",
        label=label,
        markerfacecolor=colour,
        markersize=7,
    )
floor = distance(exact.denoiser.marginals.sample(0.0, number, seed=10))
bars.axhline(floor, color="black", linestyle=":", label="independent exact draws")
bars.set(title="distance from the posterior", yscale="log", ylabel="posterior standard deviations")
shares.axhspan(share - 2 * independent, share + 2 * independent, color="0.85")
shares.axhline(share, color="black", linestyle=":", label="exact")
shares.set(title="share of draws with x₂ > 0", ylim=(0, 1))
for panel in (bars, shares):
    panel.set_xticks(place + (0.2 if panel is bars else 0), list(guided), fontsize="small")
    panel.legend(frameon=False, fontsize="small")
first, second = np.linspace(-1.6, 2.0, 120), np.linspace(-2.4, 2.6, 120)
mesh = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
density = np.exp(host(exact.denoiser.log_density(array(mesh), 0.0))).reshape(120, 120)
levels = density.max() * np.array([0.02, 0.2, 0.6])
clouds = {f"{name}, uncorrected": guided[name] for name in ("naive", "DPS", "ΠGDM", "Tweedie")}
clouds |= {"Tweedie, corrected": corrected["Tweedie"].draws, "exact (what 'auto' takes here)": chosen.draws}
for panel, (name, draws) in zip(axes[1:].flat, clouds.items(), strict=True):
    panel.axvline(datum, color="0.6", linestyle="--", linewidth=0.8)
    panel.plot(*host(draws)[:1_500].T, ".", color="#0072B2", markersize=2, alpha=0.6)
    panel.contour(first, second, density.T, levels=levels, colors="#D55E00", linewidths=1.0)
    outside = np.mean((np.abs(host(draws)) > 2.6).any(axis=1))
    if outside > 0.01:
        told = f"{outside:.0%} of the draws lie outside"
        panel.text(0.03, 0.95, told, transform=panel.transAxes, backgroundcolor="white")
    panel.set(title=name, xlim=(-1.6, 2.0), ylim=(-2.4, 2.6), xlabel="x₁, seen with noise", ylabel="x₂")
for panel in axes.flat:
    panel.spines[["top", "right"]].set_visible(False)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "05_mean_likelihood.png", dpi=120)
print(f"figure: {os.path.relpath(output / '05_mean_likelihood.png')}")

# %% [markdown]
# ## What must be true

# %%
worst = {name: np.max(np.abs(found - exact_l)) / np.max(exact_l) for name, found in approximate_l.items()}
assert worst["Tweedie"] < 0.4 < 0.8 < worst["naive"], worst
assert distance(chosen.draws) < 4 * independent / exact_sd * 2.4, distance(chosen.draws)  # clusters 2.4 apart
for name in ("SDA", "ΠGDM", "Tweedie"):
    told = corrected[name].diagnosis
    assert told.trusted, (name, told)
    assert abs(told.log_evidence - log_evidence) < 4 * told.log_evidence_error, (name, told)
    # draws of one run share their weights' noise: worth fewer than independent ones
    assert abs(upper(corrected[name].draws) - share) < (0.12 if quick else 0.06), name
    assert abs(upper(guided[name]) - share) > 0.04, name
assert corrected["Tweedie"].diagnosis.ess > 0.4  # a good guide leaves the weights even
assert not corrected["naive"].diagnosis.trusted
