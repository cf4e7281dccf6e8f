"""Denoiser evaluations against the error of the probability-flow ODE of a 2-d Gaussian mixture.

    python benchmarks/adaptive.py

VP with β from 0.1 to 20, 500 draws of the exact p_1 carried to t = 0.001 with the exact denoiser, in
float64. The error is the largest distance of any draw from the solution at rtol 1e-12 (scipy's DOP853). The
adaptive schemes choose their steps; Euler takes 1,000, equal or in a geometric row; scipy's RK45 is run on
all draws as one system, with the same tolerances.
"""

import numpy as np
from scipy.integrate import solve_ivp

import sdeppl as sp

STOP, DRAWS, SEED = 1e-3, 500, 0
WEIGHTS = np.array([0.3, 0.5, 0.2])
MEANS = np.array([[-2.0, 0.5], [1.5, 1.0], [0.3, -1.8]])
COVARIANCES = np.array([[[0.3, 0.1], [0.1, 0.2]], [[0.15, -0.08], [-0.08, 0.25]], [[0.1, 0.0], [0.0, 0.5]]])


def start(sde: sp.VPSDE) -> np.ndarray:
    """Draws of p_1."""
    rng = np.random.default_rng(SEED)
    component = rng.choice(3, size=DRAWS, p=WEIGHTS)
    root = np.linalg.cholesky(COVARIANCES)[component]
    x0 = MEANS[component] + (root @ rng.standard_normal((DRAWS, 2, 1)))[..., 0]
    return sde.alpha(1.0) * x0 + sde.sigma(1.0) * rng.standard_normal((DRAWS, 2))


def by_scipy(
    reverse: sp.ReverseSDE, x: np.ndarray, method: str, rtol: float, atol: float
) -> tuple[np.ndarray, int]:
    """The solution of all draws as one system, and the evaluations that it took."""
    found = solve_ivp(
        lambda t, y: reverse.drift(y.reshape(x.shape), t).ravel(),
        (1.0, STOP),
        x.ravel(),
        method=method,
        rtol=rtol,
        atol=atol,
    )
    return found.y[:, -1].reshape(x.shape), found.nfev


def main() -> None:
    """Print the table."""
    sde = sp.VPSDE(sp.LinearSchedule(0.1, 20.0))
    reverse = sp.ReverseSDE(sde, sp.GaussianMixtureDenoiser(sde, WEIGHTS, MEANS, COVARIANCES), c=0.0)
    x = start(sde)
    exact, _ = by_scipy(reverse, x, "DOP853", 1e-12, 1e-12)

    def error(states: np.ndarray) -> float:
        return float(np.max(np.linalg.norm(states - exact, axis=-1)))

    print(f"{'scheme':34}{'evaluations':>12}{'rejected':>10}{'error':>11}")
    euler = {}
    for name, grid in (
        ("uniform", sp.uniform_grid(1.0, STOP, 1000)),
        ("geometric", np.geomspace(1.0, STOP, 1001).tolist()),
    ):
        states = sp.solve(reverse, x, grid, solver=sp.EulerMaruyama(), keep="last").states[0]
        euler[name] = error(states)
        print(f"{'Euler, 1,000 steps, ' + name:34}{1000:12}{'':10}{euler[name]:11.2e}")
    needed: dict[tuple[str, str], int] = {}
    for solver in (sp.Tsitouras54(), sp.DormandPrince54()):
        for rtol in (1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
            control = sp.PIController(rtol=rtol, atol=0.1 * rtol)
            found = sp.solve(reverse, x, [1.0, STOP], solver=solver, control=control, keep="last")
            name, used, reached = type(solver).__name__, found.stats["evaluations"], error(found.states[0])
            print(f"{f'{name}, rtol {rtol:.0e}':34}{used:12}{found.stats['rejected']:10}{reached:11.2e}")
            for grid_name, bound in euler.items():
                if reached <= bound:
                    needed.setdefault((name, grid_name), used)
    for rtol in (1e-3, 1e-5, 1e-7):
        states, used = by_scipy(reverse, x, "RK45", rtol, 0.1 * rtol)
        print(f"{f'scipy RK45, rtol {rtol:.0e}':34}{used:12}{'':10}{error(states):11.2e}")
    for (name, grid_name), used in needed.items():
        print(f"{name} is as exact as 1,000 Euler steps ({grid_name}) with {used} evaluations")


if __name__ == "__main__":
    main()
