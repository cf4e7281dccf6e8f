# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # From Brownian motion to stochastic differential equations
#
# Everything in this library is a stochastic differential equation, dx = f(x, t) dt + g(x, t) dW. This
# tutorial says what the symbols mean, and tries each statement on numbers:
#
# 1. W is rough: the sum of its squared steps does not vanish, but counts the time;
# 2. so functions of W need Itô's formula, an ordinary chain rule with one term more;
# 3. solvers are judged by how their error falls with the step;
# 4. where g depends on x, an equation must say in whose sense it is meant, Itô's or Stratonovich's;
# 5. the density of x_t follows the Fokker–Planck equation: no randomness is left in it.
#
# `SDEPPL_BACKEND=numpy` or `torch` chooses the arrays. No knowledge of diffusion models is needed.

# %%
import itertools
import math
import os
import sys
from pathlib import Path

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import sdeppl as sp
from sdeppl.plots import plot_convergence, plot_density

quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()
xp = backend.xp  # numpy, torch, ...: whatever the backend is
print(f"backend: {backend}")


def host(x):
    return np.asarray(sp.to_host(x))


# %% [markdown]
# ## 1. Brownian motion
# W starts at 0. W(t) - W(s) is normal with mean 0 and variance t - s, and independent of what happened
# before s. A `BrownianPath` is such a path, fixed by its seed, that can be read on any grid: a finer grid
# shows more of the *same* path. Here are 2,000 of them.

# %%
number = 500 if quick else 2_000
grids = [4, 16, 64, 256, 1024]
brownian = sp.BrownianPath(seed=1, stop=1.0, cells=grids[-1])
stream = brownian.stream(backend)


def increments(steps):
    """ΔW on a grid of equal steps, (steps, number)."""
    times = sp.uniform_grid(0.0, 1.0, steps)
    return xp.stack([stream.increment(s, t, (number,)) for s, t in itertools.pairwise(times)])


dW = {steps: increments(steps) for steps in grids}

# %% [markdown]
# Its **quadratic variation** Σ (ΔW)² over [0, t] does not vanish on finer grids. It comes to t, without
# chance: each (ΔW)² has mean Δt, and the scatter of the sum, √(2Δt) at t = 1, goes to 0. For a smooth path
# the sum would vanish like Δt. This is what the shorthand (dW)² = dt says.

# %%
print(f"{'steps':>6}  {'Σ (ΔW)²':>8}  {'scatter':>8}  {'√(2Δt)':>8}")
for steps, step in dW.items():
    total = xp.sum(step**2, axis=0)
    mean, scatter = float(xp.mean(total)), float(xp.std(total))
    print(f"{steps:6d}  {mean:8.4f}  {scatter:8.4f}  {math.sqrt(2 / steps):8.4f}")
    # 5 standard errors of a mean and of a standard deviation of `number` draws (χ² of few degrees: wider)
    assert abs(mean - 1) < 5 * math.sqrt(2 / steps / number)
    assert abs(scatter / math.sqrt(2 / steps) - 1) < 5 * math.sqrt((0.5 + 3 / steps) / number)

# %% [markdown]
# ## 2. Itô's formula
# By the ordinary chain rule d(W²) = 2W dW, so ∫ W dW = W²/2. Add the integral up, with W at the *left* end
# of every step (the solver does not know the future), and W²/2 - t/2 comes out. Taylor's second term,
# ½ φ''(W) (dW)², is of order dt by the quadratic variation, and stays:
#
#     dφ(W) = φ'(W) dW + ½ φ''(W) dt        (Itô)
#
# With the mean of W at *both* ends of every step the integral is Stratonovich's: the ordinary rule holds.

# %%
steps = grids[-1]
W = xp.concat([xp.zeros_like(dW[steps][:1]), xp.cumulative_sum(dW[steps], axis=0)])
left = xp.sum(W[:-1] * dW[steps], axis=0)
middle = xp.sum(0.5 * (W[:-1] + W[1:]) * dW[steps], axis=0)
W1 = W[-1]


def rms(x):
    return float(xp.sqrt(xp.mean(x**2)))


print(f"\n∫ W dW by left ends less (W² - t)/2: {rms(left - (W1**2 - 1) / 2):.4f} rms")
print(f"∫ W dW by left ends less W²/2:       {rms(left - W1**2 / 2):.4f} rms")
print(f"∫ W dW by both ends less W²/2:       {rms(middle - W1**2 / 2):.1e} rms")
assert rms(left - (W1**2 - 1) / 2) < 1.2 * math.sqrt(0.5 / steps)
assert rms(middle - W1**2 / 2) < 1e-12

# %% [markdown]
# ## 3. A forward SDE, and how good its solvers are
# Geometric Brownian motion dx = μ x dt + σ x dW models prices. Itô's formula for ln x gives
# d ln x = (μ - σ²/2) dt + σ dW, so x_t = x_0 exp((μ - σ²/2) t + σ W_t) on every path. `solve` reads the same
# path on coarse grids, and the error at t = 1 falls with the number of steps. Euler–Maruyama,
# x + f Δt + g ΔW, has *strong order* ½: quartering the step halves the error. Milstein's scheme adds Itô's
# term of g, ½ g g' ((ΔW)² - Δt), and has order 1; Rößler's SRIW1 has 1½.

# %%
gbm = sp.GeometricBrownianMotion(mu=0.5, sigma=0.5)
shape = (1_000 if quick else 4_000, 1)
start = xp.ones(shape, dtype=backend.dtype, device=backend.device)
sizes = [8, 16, 32, 64, 128, 256]
path = sp.BrownianPath(seed=3, cells=sizes[-1], area=True)  # SRIW1 wants the path's area, too
W_end = path.increment(0.0, 1.0, shape, backend)
truth = xp.exp((0.5 - 0.5**2 / 2) * 1.0 + 0.5 * W_end)
curves = {}
for solver in (sp.EulerMaruyama(), sp.Milstein(), sp.SRIW1()):
    errors = []
    for n in sizes:
        solved = sp.solve(gbm, start, sp.uniform_grid(0.0, 1.0, n), solver=solver, noise=path, keep="last")
        errors.append(rms(solved.states[-1] - truth))
    curves[type(solver).__name__] = (sizes, errors)

# %% [markdown]
# ## 4. Itô or Stratonovich
# Where g depends on x, f and g alone do not fix the process: it matters at which end of a step g is taken.
# `ItoSDE` takes the left end, the choice of finance and of diffusion models. `StratonovichSDE` takes the
# middle, the limit of noise that is really smooth, the choice of physics. The two are translated exactly:
# Stratonovich's f, g is Itô's f + ½ g g', g. `to_ito` does that, and so does any solver made for Itô.
#
# Here a particle in a double well is shaken the harder the further right it is.


# %%
def force(x, t):
    return x - x**3


def shaking(x, t):
    return 0.7 + 0.5 * xp.tanh(x)


ito = sp.ItoSDE(force, shaking, noise="diagonal")
stratonovich = sp.StratonovichSDE(force, shaking, noise="diagonal")

shared = sp.BrownianPath(seed=4, stop=2.0, cells=512)
begin = -xp.ones((200, 1), dtype=backend.dtype, device=backend.device)
gaps = []
for n in (64, 512):
    grid = sp.uniform_grid(0.0, 2.0, n)
    heun = sp.solve(stratonovich, begin, grid, solver=sp.StochasticHeun(), noise=shared, keep="last")
    converted = sp.solve(
        sp.to_ito(stratonovich), begin, grid, solver=sp.Milstein(), noise=shared, keep="last"
    )
    gaps.append(rms(heun.states[-1] - converted.states[-1]))
print(f"\nStratonovich's by Heun, and by Milstein after to_ito: {gaps[0]:.4f} apart with 64 steps,")
print(f"{gaps[1]:.4f} with 512; so both solve the same equation")
assert gaps[1] < 0.25 * gaps[0]  # of order 1: an eighth

# %% [markdown]
# ## 5. The density: Fokker–Planck against Monte Carlo
# Paths are random, their density p(x, t) is not. For Itô's SDE it follows
#
#     ∂p/∂t = -∂(f p)/∂x + ½ ∂²(g² p)/∂x²        (Fokker–Planck)
#
# `FokkerPlanckGrid` solves it on a grid, with no randomness, in one and two dimensions. Everything starts on
# the barrier between the wells. Both processes are compared with 20,000 paths each.

# %%
paths = 4_000 if quick else 20_000
end, steps, every = 6.0, 600, 10
times = sp.uniform_grid(0.0, end, steps)
normals = sp.Noise(seed=5).stream(backend).normal(0, (paths, 1))
results = {}
for name, sde in {"Itô": ito, "Stratonovich": stratonovich}.items():
    grid = sp.FokkerPlanckGrid(sde, -2.0, 3.0, 400, backend)
    first = grid.density_of(lambda x: xp.exp(-0.5 * (x[:, 0] / 0.1) ** 2))
    density = grid.solve(first, times[::every])
    walked = sp.solve(sde, 0.1 * normals, times, solver=sp.Milstein(), noise=sp.Noise(seed=6))
    results[name] = grid, density, walked.states[::every]

print(f"\nat t = {end:g}: {'mean of the density':>24}  {'of the paths':>14}  {'standard errors apart':>22}")
means, apart = {}, {}
for name, (grid, density, states) in results.items():
    means[name] = float(grid.mean(density[-1])[0])
    sd = float(xp.std(states[-1]))
    found = float(xp.mean(states[-1]))
    apart[name] = (found - means[name]) / (sd / math.sqrt(paths))
    print(f"{name:20} {means[name]:14.4f}  {found:14.4f}  {apart[name]:22.1f}")

# %% [markdown]
# ## The picture
# Above: one path, read three times more finely, is no smoother for it; its quadratic variation is t; and
# the orders of three solvers. Below: the two processes with the same f and g.

# %%
figure = plt.figure(figsize=(11, 10), layout="constrained")
top, *below = figure.subfigures(3, 1, height_ratios=[1.0, 1.05, 1.05])
one, two, three = top.subplots(1, 3)
shades = ["#56B4E9", "#0072B2", "#000000"]
for steps, colour in zip((16, 64, 1024), shades, strict=True):
    ticks = np.linspace(0, 1, steps + 1)
    ragged = np.concatenate([[0.0], np.cumsum(host(dW[steps][:, 0]))])
    width = 1.8 if steps == 16 else 0.8
    one.plot(ticks, ragged, color=colour, linewidth=width, label=f"{steps} steps", zorder=-steps)
    squares = np.concatenate([[0.0], np.cumsum(host(dW[steps][:, 0]) ** 2)])
    two.plot(ticks, squares, color=colour, linewidth=1.2, label=f"{steps} steps", drawstyle="steps-post")
two.plot([0, 1], [0, 1], color="#D55E00", linestyle="--", label="t")
one.set(title="the same Brownian path", xlabel="t", ylabel="W")
two.set(title="its quadratic variation", xlabel="t", ylabel="Σ (ΔW)²")
for axes in (one, two):
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
orders = plot_convergence(three, curves)
three.set(
    title="strong errors of three solvers", xlabel="steps", ylabel="rms error at t = 1", ylim=(4e-6, None)
)
for panel, (name, (grid, density, states)) in zip(below, results.items(), strict=True):
    plot_density(panel, grid, density, times[::every], states, shown=[5, 15, 60])
    panel.suptitle(f"{name}: the density over time, and 4 paths", x=0.02, ha="left", fontsize="medium")
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "02_brownian_motion.png", dpi=120)
print(f"figure: {os.path.relpath(output / '02_brownian_motion.png')}")

# %% [markdown]
# ## What must be true

# %%
for name, order in {"EulerMaruyama": 0.5, "Milstein": 1.0, "SRIW1": 1.5}.items():
    assert abs(orders[name] - order) < 0.12, (name, orders[name])
for name, z in apart.items():
    assert abs(z) < 4, (name, z)  # four standard errors: by chance once in 16,000
assert means["Stratonovich"] - means["Itô"] > 0.2, means  # the same f and g, two processes
