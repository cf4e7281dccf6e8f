"""The figures in this folder, one function each.

`python docs/figures.py` makes all of them, `python docs/figures.py fokker_planck` one.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import sdeppl as sp
from sdeppl.plots import plot_density

HERE = Path(__file__).resolve().parent


def fokker_planck() -> None:
    """A double well: the grid's density against 20,000 paths, from the left well over the barrier."""
    sde, end, steps, every = sp.DoubleWell(barrier=1.0, well=1.0, temperature=0.5), 6.0, 1200, 10
    grid = sp.FokkerPlanckGrid(sde, -2.2, 2.2, 440, "numpy")
    times = sp.uniform_grid(0.0, end, steps)
    start = grid.density_of(lambda x: np.exp(-0.5 * ((x[:, 0] + 1.0) / 0.1) ** 2))
    densities = grid.solve(start, times[::every])
    x = -1.0 + 0.1 * np.random.default_rng(0).standard_normal((20_000, 1))
    path = sp.solve(sde, x, times, noise=sp.Noise(0))
    figure = plt.figure(figsize=(9.0, 3.6), layout="constrained", dpi=150)
    plot_density(figure, grid, densities, times[::every], path.states[::every], shown=[8, 30, 120])
    figure.savefig(HERE / "fokker_planck.png")
    plt.close(figure)


def strong_errors(solver: sp.Solver, steps: list[int]) -> list[float]:
    """Root mean square errors at t = 1 of geometric Brownian motion: 4,000 paths, the same for each grid."""
    sde, x = sp.GeometricBrownianMotion(mu=0.5, sigma=0.5), np.ones((4_000, 1))
    path = sp.BrownianPath(seed=3, cells=max(steps), area=True)
    exact = sde.exact(x, 0.0, 1.0, path.increment(0.0, 1.0, x.shape, "numpy"))
    ends = (
        sp.solve(sde, x, sp.uniform_grid(0.0, 1.0, n), solver=solver, noise=path).states[-1] for n in steps
    )
    return [float(np.sqrt(np.mean((end - exact) ** 2))) for end in ends]


def flow_errors(solvers: list[sp.Solver], steps: list[int]) -> list[list[tuple[float, float]]]:
    """(evaluations, root mean square error) of the probability-flow ODE of a 2-d mixture, 400 starts."""
    sde = sp.VPSDE()
    means = np.array([[-2.0, 0.5], [1.5, 1.0]])
    covariances = np.array([[[0.6, 0.2], [0.2, 0.3]], [[0.4, -0.1], [-0.1, 0.9]]])
    prior = sp.GaussianMixtureDenoiser(sde, np.array([0.2, 0.8]), means, covariances)
    flow, start = sp.ReverseSDE(sde, prior, 0.0), prior.marginals.sample(sde.T, 400)
    level = 0.05
    times = {n: sp.log_snr_grid(sde, n + 1, level)[:-1] for n in steps}  # to σ/α = 0.05
    control = sp.PIController(rtol=1e-11, atol=1e-11)
    ends = [times[steps[0]][0], times[steps[0]][-1]]
    exact = sp.solve(flow, start, ends, solver=sp.Tsitouras54(), control=control).states[-1]
    curves = []
    for solver in solvers:
        found = [sp.solve(flow, start, times[n], solver=solver) for n in steps]
        errors = [float(np.sqrt(np.mean((path.states[-1] - exact) ** 2))) for path in found]
        curves.append([(path.stats["evaluations"], error) for path, error in zip(found, errors, strict=True)])
    return curves


def orders() -> None:
    """Errors against steps of strong schemes, and against evaluations of samplers: slopes are orders."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained", dpi=150)
    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9"]  # Okabe and Ito's
    marks = "osD^vX"
    steps = [8, 16, 32, 64, 128, 256]
    schemes = {"Euler–Maruyama, ½": sp.EulerMaruyama(), "Milstein, 1": sp.Milstein(), "SRIW1, 1½": sp.SRIW1()}
    for k, (name, solver) in enumerate(schemes.items()):
        errors = strong_errors(solver, steps)
        left.loglog(steps, errors, marks[k] + "-", color=colours[k], label=name)
    left.set(xlabel="steps", ylabel="root mean square error", title="strong error, geometric Brownian motion")
    samplers = {
        "Euler, 1": sp.EulerMaruyama(),
        "DDIM, 1": sp.ExponentialEuler(),
        "exponential Heun, 2": sp.ExponentialHeun(),
        "DPM-Solver++, 2": sp.DPMSolverPP(order=2),
        "DPM-Solver++, 3": sp.DPMSolverPP(order=3),
        "UniPC-3, 4": sp.UniPC(p=3),
    }
    curves = flow_errors(list(samplers.values()), [8, 16, 32, 64, 128, 256])
    for k, (name, curve) in enumerate(zip(samplers, curves, strict=True)):
        right.loglog(*zip(*curve, strict=True), marks[k] + "-", color=colours[k], label=name)
    right.set(xlabel="evaluations of the denoiser", title="probability-flow ODE of a 2-d mixture")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize="small", title="scheme, its order", title_fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "orders.png")
    plt.close(figure)


FIGURES = {"fokker_planck": fokker_planck, "orders": orders}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
