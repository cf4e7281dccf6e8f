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


FIGURES = {"fokker_planck": fokker_planck}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
