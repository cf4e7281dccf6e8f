"""Paths against Kalman smoothers: python benchmarks/trajectories.py [--lengths 64 4096] [--draws 100000].

Linear Gaussian systems, each given as a simulator alone, fitted to paths of 64 states, then asked for other
lengths. Printed: errors of the posterior's mean (rms over states, in its standard deviations) and standard
deviation, of ln p(y), and seconds of `condition` and of 100 draws.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp

NOISE = 0.2  # of the standard deviation of what is seen
EVERY, FITTED, DRAWS = 8, 64, 100
SEED = 1


@dataclass(frozen=True)
class System:
    """x_{k+1} = A x_k + L ε, stationary from the start; the first number of a state is seen, alone or with
    the others of it. states: how many numbers of a state the model has, the others being hidden in it."""

    A: np.ndarray
    Q: np.ndarray
    states: int

    @property
    def stationary(self) -> np.ndarray:
        """Covariance of a state."""
        n = len(self.A)
        kernel = np.eye(n * n) - np.kron(self.A, self.A)
        return np.linalg.solve(kernel, self.Q.reshape(-1)).reshape(n, n)

    @property
    def noise(self) -> float:
        """Standard deviation of the observation."""
        return NOISE * math.sqrt(self.stationary[0, 0])


def ar1() -> System:
    return System(np.array([[0.97]]), np.array([[1 - 0.97**2]]), 1)


def oscillation() -> System:
    angle, decay = 2 * math.pi / 25, 0.97
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return System(decay * turn, (1 - decay**2) * np.eye(2), 2)


def matern() -> System:
    """ν = 3/2 of range 8 steps, whose derivative is hidden: no autoregression of the path itself."""
    rate = math.sqrt(3) / 8
    A = math.exp(-rate) * np.array([[1 + rate, 1.0], [-(rate**2), 1 - rate]])
    P = np.diag([1.0, rate**2])
    return System(A, P - A @ P @ A.T, 1)


SYSTEMS: dict[str, Callable[[], System]] = {
    "AR(1), .97": ar1, "damped oscillation": oscillation, "Matern-3/2": matern,
}  # fmt: skip


def simulated(system: System, n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """(n, length, numbers of a state)."""
    root, start = (np.linalg.cholesky(C + 1e-15 * np.eye(len(C))) for C in (system.Q, system.stationary))
    x = [rng.standard_normal((n, len(start))) @ start.T]
    for _ in range(length - 1):
        x.append(x[-1] @ system.A.T + rng.standard_normal(x[-1].shape) @ root.T)
    return np.stack(x, axis=1)


def model_of(system: System) -> Callable[..., None]:
    """The path as a simulator alone."""

    def simulate(n: int, rng: np.random.Generator, length: int) -> np.ndarray:
        return simulated(system, n, length, rng)[:, :, : system.states]

    def model(length: int = FITTED) -> None:
        def sampler(n: int, rng: np.random.Generator) -> np.ndarray:
            return simulate(n, rng, length)

        x = pyro.sample("x", sp.Simulated(sampler, shape=(length, system.states)))
        pyro.sample("y", dist.Normal(x[..., ::EVERY, 0], system.noise).to_event(1))

    return model


def smoothed(system: System, y: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Means and standard deviations of the states, and ln p(y): Kalman's filter, and the smoother of Rauch,
    Tung and Striebel."""
    A, Q, log_p = system.A, system.Q, 0.0
    m, P = np.zeros(len(A)), system.stationary
    filtered, predicted = [], []
    for k in range(length):
        predicted.append((m, P))
        if k % EVERY == 0:
            S, r = P[0, 0] + system.noise**2, y[k // EVERY] - m[0]
            log_p -= 0.5 * (math.log(2 * math.pi * S) + r * r / S)
            m, P = m + P[:, 0] / S * r, P - np.outer(P[:, 0], P[0]) / S
        filtered.append((m, P))
        m, P = A @ m, A @ P @ A.T + Q
    m, P = filtered[-1]
    found = [(m, P)]
    for k in range(length - 2, -1, -1):
        G = np.linalg.solve(predicted[k + 1][1], A @ filtered[k][1]).T
        m = filtered[k][0] + G @ (m - predicted[k + 1][0])
        P = filtered[k][1] + G @ (P - predicted[k + 1][1]) @ G.T
        found.append((m, P))
    kept = slice(0, system.states)
    means = np.array([m[kept] for m, _ in reversed(found)])
    sds = np.array([np.sqrt(np.diag(P)[kept]) for _, P in reversed(found)])
    return means, sds, log_p


def row(guide: sp.ScoreGuide, system: System, length: int) -> str:
    """One line of the table."""
    rng = np.random.default_rng(SEED)
    path = simulated(system, 1, length, rng)[0]
    y = path[::EVERY, 0] + system.noise * rng.standard_normal(len(path[::EVERY]))
    clock = time.process_time()
    posterior = guide.condition(y=y, kwargs={"length": length}, backend="numpy")
    conditioned, clock = time.process_time() - clock, time.process_time()
    run = posterior.run(DRAWS, seed=SEED)
    drawn = time.process_time() - clock
    exact: Any = posterior.arrays.choice.exact
    gaussian, closed = posterior.gaussian, exact.S.closed
    location, scale = gaussian.location.numpy(), gaussian.scale.numpy()
    mean = (location + scale * np.asarray(exact.mean)).reshape(length, -1)
    sd = (scale * np.sqrt(np.asarray(closed.posterior.inverse().diagonal()))).reshape(length, -1)
    means, sds, log_p = smoothed(system, y, length)
    off = math.sqrt(np.mean(((mean - means) / sds) ** 2))
    spread = math.sqrt(np.mean((sd / sds - 1) ** 2))
    evidence = run.diagnosis.log_evidence - log_p
    return f"| {length:,} | {off:.4f} | {spread:.2%} | {evidence:+.3f} | {conditioned:.1f} | {drawn:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 4_096])
    parser.add_argument("--draws", type=int, default=100_000, help="that the Gaussian part is fitted to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for name, make in SYSTEMS.items():
        system = make()
        guide = sp.ScoreGuide(model_of(system), layout={"x": sp.Time()})
        clock = time.process_time()
        guide.fit_gaussian(options.draws, progress=False)
        print(f"\n{name}: fitted in {time.process_time() - clock:.0f} s; {guide.fitted().words}")
        print(f"fit check: {guide.fit_check.verdict}\n")
        print("| states | mean, sd off | sd off | ln p(y) off | s to condition | s for 100 draws |")
        print("|---|---|---|---|---|---|")
        for length in options.lengths:
            print(row(guide, system, length), flush=True)


if __name__ == "__main__":
    main()
