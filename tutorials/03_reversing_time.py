# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Reversing time
#
# A forward SDE turns data x_0 into noise x_T. Run backwards it turns noise into data: that is a diffusion
# model. All that the way back needs is the *score* s(x, t) = ∂ ln p(x_t). Here the data are a mixture of two
# Gaussians, for which the score is known exactly, so that every error below is the solver's own.
#
# 1. the score; 2. the reverse SDE with free noise amplitude c; 3. c = 0, the probability-flow ODE, and what
# noise is good for; 4. predictor and corrector; 5. VP, VE and sub-VP side by side; 6. schedules and grids.

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
from scipy.stats import norm

import sdeppl as sp
from sdeppl.plots import animate_trajectories, plot_convergence, plot_trajectories

quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()
print(f"backend: {backend}")


def array(numbers):
    return backend.xp.asarray(numbers, dtype=backend.dtype, device=backend.device)


def host(x):
    return np.asarray(sp.to_host(x))


# %% [markdown]
# ## 1. Data, noise and score
# The VP SDE dx = -β/2 x dt + √β dW gives x_t = α_t x_0 + σ_t ε with α² + σ² = 1. Noised data are blurred
# data: p_t is again a mixture, with means α m_k and variances α² C_k + σ². `GaussianMixtureDenoiser` knows
# E[x_0 given x_t], the best guess of the data, and with it the score, by Tweedie's formula:
# s = (α E[x_0 given x_t] - x_t)/σ².

# %%
WEIGHTS, MEANS, SDS = np.array([0.3, 0.7]), np.array([-1.5, 1.0]), np.array([0.25, 0.5])


def denoiser(sde):
    return sp.GaussianMixtureDenoiser(
        sde, array(WEIGHTS), array(MEANS[:, None]), array((SDS**2)[:, None, None])
    )


vp = sp.VPSDE()
prior = denoiser(vp)


def cdf(x, sde, t):
    """P(x_t ≤ x), exactly."""
    alpha, sigma = sde.alpha_sigma(t)
    spread = np.sqrt(alpha**2 * SDS**2 + sigma**2)
    return np.sum(WEIGHTS * norm.cdf((x[:, None] - alpha * MEANS) / spread), axis=1)


FINE = np.linspace(-6, 6, 120_001)
CDF_OF_DATA = cdf(FINE, vp, 0.0)


def data_quantile(u):
    return np.interp(u, CDF_OF_DATA, FINE)


def distance(x):
    """Wasserstein-1 distance of draws from the data's distribution: how far mass has to move."""
    x = np.sort(host(x)[:, 0])
    return np.mean(np.abs(x - data_quantile((np.arange(x.size) + 0.5) / x.size)))


# %% [markdown]
# ## 2. The reverse SDE
# For *any* c ≥ 0 the SDE
#
#     dx = [f - (1 + c²)/2 g² s] dt + c g dW,      t from T down to 0
#
# has the same densities p_t as the forward SDE (in the notation of dx = -a x dt + b dW, c b is the noise
# amplitude, from 0 to 2b here). c = 1 is Anderson's reverse SDE. It starts at noise, from p_T.

# %%
number = 4_000 if quick else 20_000
start = prior.marginals.sample(vp.T, number, seed=1)
# the weight of a mode, estimated from `number` draws, moves mass over the distance of the means
monte_carlo = math.sqrt(WEIGHTS.prod() / number) * (MEANS[1] - MEANS[0])
print(f"distance from the data; exact draws have up to {monte_carlo:.3f} or so")
print("   c " + "".join(f"{steps:>9} steps" for steps in (25, 100, 400)))
distances = {}
for c in (0.0, 0.5, 1.0, 1.5, 2.0):
    for steps in (25, 100, 400):
        path = sp.solve(
            sp.ReverseSDE(vp, prior, c),
            start,
            sp.log_snr_grid(vp, steps),
            solver=sp.ExponentialHeun(),
            noise=sp.Noise(seed=2),
            keep="last",
        )
        distances[c, steps] = distance(path.states[-1])
    print(f"{c:4.1f} " + "".join(f"{distances[c, steps]:15.3f}" for steps in (25, 100, 400)))

# %% [markdown]
# All arrive. More noise asks for more steps. So why any noise?
#
# ## 3. What noise is good for
# c = 0 is an ODE, the **probability flow**. Nothing is forgotten on the way: on a line it keeps the order of
# the particles, so that each one stays at its own quantile, which says exactly where it must arrive. But it
# keeps mistakes as well. Let all start in the wrong place, too narrow by half and half a unit off:

# %%
wrong = 0.5 * start + 0.5
print("\nfrom a wrong start:")
forgotten = {}
for c in (0.0, 0.5, 1.0, 2.0):
    path = sp.solve(
        sp.ReverseSDE(vp, prior, c),
        wrong,
        sp.log_snr_grid(vp, 200),
        solver=sp.ExponentialHeun(),
        noise=sp.Noise(seed=2),
        keep="last",
    )
    forgotten[c] = distance(path.states[-1])
    print(f"   c = {c:.1f}: distance {forgotten[c]:.3f}")

# %% [markdown]
# With noise a wrong start is forgotten, and so are errors of a learned score. The guide's default is c = 1.
#
# ## 4. Predictor and corrector
# The score at one t can also be used at that t: Langevin steps x ← x + δ s + √(2δ) z move particles
# *within* p_t, towards it. A `PredictorCorrector` makes some after each step. With few, coarse steps they
# mend much of the error; but each costs an evaluation, which a solver of order 2 may put to better use.

# %%
print("\n                                     evaluations  distance")
mended = {}
ddim, second = sp.ExponentialEuler(), sp.ExponentialHeun()
for name, solver, steps in (
    ("order 1", ddim, 40),
    ("order 1, 2 corrections", sp.PredictorCorrector(ddim, corrections=2, snr=0.3), 40),
    ("order 1, 4 corrections", sp.PredictorCorrector(ddim, corrections=4, snr=0.3), 40),
    ("order 1", ddim, 200),
    ("order 2", second, 100),
):
    path = sp.solve(
        sp.ReverseSDE(vp, prior, c=1.0),
        start,
        sp.log_snr_grid(vp, steps),
        solver=solver,
        noise=sp.Noise(seed=2),
        keep="last",
    )
    mended[name, steps] = distance(path.states[-1])
    print(f"{name:24}{steps:6d} steps {path.stats['evaluations']:12.0f} {mended[name, steps]:9.3f}")

# %% [markdown]
# ## 5. VP, VE and sub-VP side by side
# They differ in how α and σ run:
#
# | | α | σ |
# |---|---|---|
# | VP | e^{-B/2}, B = ∫β | √(1 - e^{-B}) |
# | sub-VP | e^{-B/2} | 1 - e^{-B} |
# | VE | 1 | σ_min (σ_max/σ_min)^t, less what is there at t = 0 |
#
# But x_t/α = x_0 + (σ/α) ε: only the noise level σ/α matters, and t is a label. On a grid with the same
# levels, an exponential integrator, which solves the linear part exactly, makes *the same* steps in all
# three. To see it, VE is given the last level of VP (sub-VP's is nearly the same). The error is that of the
# arrival, which section 3 tells.

# %%
last_level = vp.sigma(vp.T) / vp.alpha(vp.T)
sdes = {"VP": vp, "sub-VP": sp.SubVPSDE(), "VE": sp.VESDE(sigma_max=last_level)}
print("\nprobability flow, rms error of the arrival     steps 20         40         80")
flow_errors = {}


def flow_error(sde, times, solver):
    """Of the probability flow along `times`: where particles arrive against where they must."""
    model = denoiser(sde)
    begin = model.marginals.sample(sde.T, number, seed=1)
    target = data_quantile(cdf(host(begin)[:, 0], sde, sde.T))
    found = sp.solve(sp.ReverseSDE(sde, model, c=0.0), begin, times, solver=solver, keep="last")
    return np.sqrt(np.mean((host(found.states[-1])[:, 0] - target) ** 2))


for name, sde in sdes.items():
    for label, grid in (
        ("log_snr_grid", lambda k, sde=sde: sp.log_snr_grid(sde, k)),
        ("uniform_grid", lambda k, sde=sde: sp.uniform_grid(sde.T, 0.0, k)),
    ):
        flow_errors[name, label] = [flow_error(sde, grid(k), second) for k in (20, 40, 80)]
        print(f"{name:8}{label:34}" + "".join(f"{e:11.5f}" for e in flow_errors[name, label]))

# %% [markdown]
# ## 6. Schedules and grids
# β(t) is a schedule: constant, linear, cosine. For sampling it is nothing but a choice of where a uniform
# grid puts its steps; on `log_snr_grid` it hardly matters. (For training it also weighs the noise levels;
# `ScoreMatching` draws levels uniformly in ln(α/σ), whatever the schedule.)

# %%
schedules = {
    "constant": sp.ConstantSchedule(10.0),
    "linear": sp.LinearSchedule(0.1, 20.0),
    "cosine": sp.CosineSchedule(),
}
grids = {
    "uniform_grid": lambda sde: sp.uniform_grid(sde.T, 0.0, 40),
    "quadratic_grid": lambda sde: sp.quadratic_grid(sde.T, 0.0, 40),
    "log_snr_grid": lambda sde: sp.log_snr_grid(sde, 40),
    "edm_grid": lambda sde: sp.edm_grid(sde, 40),
}
print("\n40 steps         " + "".join(f"{name:>15}" for name in grids))
table = {}
for name, schedule in schedules.items():
    sde = sp.VPSDE(schedule)
    for label, grid in grids.items():
        table[name, label] = flow_error(sde, grid(sde), second)
    print(f"{name:17}" + "".join(f"{table[name, label]:15.4f}" for label in grids))

# %% [markdown]
# ## The picture
# Above: the score times -σ (the ε that a network learns to guess), how the noise level runs, and orders of
# solvers of the flow. Below: forward, and back with three amplitudes; the shading is p_t, the same in all.

# %%
figure = plt.figure(figsize=(12, 12), layout="constrained")
top, upper, lower = figure.subfigures(3, 1, height_ratios=[1.1, 1.0, 1.0])
one, two, three = top.subplots(1, 3)
x = np.linspace(-3, 3, 301)
for t, colour in zip((0.05, 0.2, 0.5, 1.0), plt.get_cmap("cividis")([0.0, 0.35, 0.65, 0.9]), strict=True):
    one.plot(x, host(prior.eps(array(x[:, None]), t))[:, 0], color=colour, label=f"t = {t:g}")
one.set(title="-σ s(x, t), the expected noise", xlabel="x", ylabel="ε̂")
ticks = np.linspace(0.002, 1.0, 300)
styles = {"VP": "#0072B2", "sub-VP": "#D55E00", "VE": "#009E73"}
for name, sde in sdes.items():
    ratio = [sde.sigma(float(t)) / sde.alpha(float(t)) for t in ticks]
    two.semilogy(ticks, ratio, color=styles[name], label=name)
cosine = sp.VPSDE(schedules["cosine"])
ratio = [cosine.sigma(float(t)) / cosine.alpha(float(t)) for t in ticks]
two.semilogy(ticks, ratio, color=styles["VP"], linestyle="--", label="VP, cosine")
two.set(title="noise level σ/α", xlabel="t", ylim=(1e-3, 1e3))
for axes in (one, two):
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
counts = [20, 40, 80, 160]
curves = {}
for name, solver, cost in (
    ("Euler", sp.EulerMaruyama(), 1),
    ("DDIM", ddim, 1),
    ("exponential Heun", second, 2),
    ("DPM-Solver++ 2", sp.DPMSolverPP(order=2), 1),
):
    errors = [flow_error(vp, sp.log_snr_grid(vp, k), solver) for k in counts]
    curves[name] = ([cost * k for k in counts], errors)
orders = plot_convergence(three, curves, fitted=2)
three.set(title="probability flow, rms error", xlabel="evaluations of the score")
times = sp.uniform_grid(0.0, vp.T, 200)
clean = prior.marginals.sample(0.0, number, seed=3)
runs = {"forward": sp.solve(vp, clean, times, noise=sp.Noise(seed=4))}
for c in (0.0, 1.0, 2.0):
    reverse = sp.ReverseSDE(vp, prior, c)
    runs[f"reverse, c = {c:g}"] = sp.solve(reverse, start, times[::-1], solver=second, noise=sp.Noise(seed=2))
panels = [*upper.subfigures(1, 2), *lower.subfigures(1, 2)]
for panel, (name, path) in zip(panels, runs.items(), strict=True):
    plot_trajectories(panel, path.times, path.states, prior.log_density, span=(-4.0, 4.0))
    panel.suptitle(name)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "03_reversing_time.png", dpi=120)
print(f"figure: {os.path.relpath(output / '03_reversing_time.png')}")

# %% [markdown]
# The same in two dimensions, moving: noise that turns into a ring of eight clusters.

# %%
angles = 2 * np.pi * np.arange(8) / 8
ring = sp.GaussianMixtureDenoiser(
    vp,
    array(np.linspace(0.5, 1.5, 8) / 8),
    array(2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)),
    array(np.stack([0.04 * np.eye(2)] * 8)),
)
moving = sp.solve(
    sp.ReverseSDE(vp, ring),
    ring.marginals.sample(vp.T, 1_000, seed=5),
    sp.log_snr_grid(vp, 120, noise_to_signal=0.01),
    solver=second,
    noise=sp.Noise(seed=6),
)
small = plt.figure(figsize=(4.2, 4.2), layout="constrained")
animation = animate_trajectories(small, moving.times, moving.states, ring.log_density, 4 if quick else 60)
animation.save(output / "03_reversing_time.gif", writer="pillow", dpi=90)
print(f"animation: {os.path.relpath(output / '03_reversing_time.gif')}")

# %% [markdown]
# ## What must be true

# %%
for (c, steps), found in distances.items():
    if steps == 400:  # every c arrives: within four times what exact draws are expected to miss
        assert found < 4 * monte_carlo, (c, found)
assert forgotten[0.0] > 0.3 and forgotten[1.0] < 4 * monte_carlo, forgotten
assert mended["order 1, 4 corrections", 40] < 0.5 * mended["order 1", 40], mended
exact = [flow_errors[name, "log_snr_grid"] for name in sdes]
assert exact[0][2] < 0.01  # the flow carries every particle to its own quantile
for other in exact[1:]:  # sub-VP and VE make the same steps as VP, but for 2e-5 in the last level
    assert np.allclose(other, exact[0], rtol=1e-3), exact
for name, order in {"DDIM": 1.0, "exponential Heun": 2.0, "DPM-Solver++ 2": 2.0}.items():
    assert abs(orders[name] - order) < 0.25, orders
