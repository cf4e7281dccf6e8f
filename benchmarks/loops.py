"""Euler–Maruyama by sdeppl, by hand and by other libraries, each as a function of a `Problem`.

A maker takes a problem and gives `run`, which does the work once and returns the final states
(paths, dim), or None for the bare generators. Libraries are imported by the makers that need them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

A, B = 1.5, 0.7  # Ornstein-Uhlenbeck: dx = -A x dt + B dW
SIGMA, RHO, BETA, AMPLITUDE = 10.0, 28.0, 8 / 3, 1.0  # Lorenz-63, the same noise in each component


@dataclass(frozen=True)
class Problem:
    """All paths start at `start`, and end at time 1."""

    name: str
    start: tuple[float, ...]
    paths: int
    steps: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.paths, len(self.start)

    @property
    def h(self) -> float:
        return 1.0 / self.steps

    @property
    def noise(self) -> float:
        """What multiplies a standard normal in one step."""
        return (B if self.name == "ou" else AMPLITUDE) * math.sqrt(self.h)

    def begin(self) -> np.ndarray:
        return np.tile(np.asarray(self.start, dtype=np.float32), (self.paths, 1))


PROBLEMS = {
    "ou": Problem("ou", (2.0,), 100_000, 1_000),
    "lorenz": Problem("lorenz", (1.0, 1.0, 25.0), 10_000, 1_000),
}


def lorenz_drift(x: Any, stack: Callable[[list[Any]], Any]) -> Any:
    """f(x), for libraries that take the drift as a function."""
    u, v, w = x[..., 0], x[..., 1], x[..., 2]
    return stack([SIGMA * (v - u), u * (RHO - w) - v, u * v - BETA * w])


# ---- Bare generators ------------------------------------------------------------------------------


def torch_normal(problem: Problem) -> Callable[[], None]:
    import torch

    z, generator = torch.empty(problem.shape), torch.Generator().manual_seed(0)

    def run() -> None:
        for _ in range(problem.steps):
            z.normal_(generator=generator)

    return run


def numpy_normal(bits: str) -> Callable[[Problem], Callable[[], None]]:
    def make(problem: Problem) -> Callable[[], None]:
        z, generator = np.empty(problem.shape, np.float32), np.random.Generator(getattr(np.random, bits)(0))

        def run() -> None:
            for _ in range(problem.steps):
                generator.standard_normal(out=z, dtype=np.float32)

        return run

    return make


# ---- sdeppl ---------------------------------------------------------------------------------------


class TorchNormals:
    """NumPy arrays filled by torch's generator: a `noise` of one's own for `sp.solve`."""

    def __init__(self) -> None:
        import torch

        self.torch, self.generator = torch, torch.Generator().manual_seed(0)

    def draws(self, step: int, s: float, t: float, kinds: Any, shapes: Any) -> tuple[np.ndarray, ...]:
        return tuple(self.torch.randn(shape, generator=self.generator).numpy() for shape in shapes)


def sdeppl(library: str, noise: str) -> Callable[[Problem], Callable[[], Any]]:
    def make(problem: Problem) -> Callable[[], Any]:
        import sdeppl as sp

        x = problem.begin()
        if library == "torch":
            import torch

            x = torch.from_numpy(x)
        sde = sp.LinearSDE(A, B) if problem.name == "ou" else sp.Lorenz63(SIGMA, RHO, BETA, AMPLITUDE)
        grid = sp.uniform_grid(0.0, 1.0, problem.steps)
        made = {
            "native": lambda: sp.Noise(0, "native"),
            "host": lambda: sp.Noise(0, "host"),
            "path": lambda: sp.BrownianPath(0, 0.0, 1.0, cells=problem.steps),
            "torch": TorchNormals,
        }[noise]
        return lambda: sp.solve(sde, x, grid, solver=sp.EulerMaruyama(), noise=made(), keep="last").states[0]

    return make


# ---- By hand --------------------------------------------------------------------------------------


def hand_torch(problem: Problem) -> Callable[[], Any]:
    import torch

    begin, z, h = torch.from_numpy(problem.begin()), torch.empty(problem.shape), problem.h
    generator = torch.Generator().manual_seed(0)
    f = torch.empty_like(z)

    def run() -> Any:
        x = begin.clone()
        for _ in range(problem.steps):
            z.normal_(generator=generator)
            if problem.name == "ou":
                x.mul_(1 - A * h).add_(z, alpha=problem.noise)
                continue
            u, v, w = x.unbind(-1)
            f[:, 0] = (v - u).mul_(SIGMA)
            f[:, 1] = (RHO - w).mul_(u).sub_(v)
            f[:, 2] = (u * v).sub_(w, alpha=BETA)
            x.add_(f, alpha=h).add_(z, alpha=problem.noise)
        return x

    return run


def hand_numpy(filled_by_torch: bool) -> Callable[[Problem], Callable[[], Any]]:
    def make(problem: Problem) -> Callable[[], Any]:
        begin, z, h = problem.begin(), np.empty(problem.shape, np.float32), np.float32(problem.h)
        f, scale = np.empty_like(z), np.float32(problem.noise)
        if filled_by_torch:
            import torch

            fill = torch.from_numpy(z).normal_
        else:
            generator = np.random.Generator(np.random.SFC64(0))

            def fill() -> Any:
                return generator.standard_normal(out=z, dtype=np.float32)

        def run() -> Any:
            x = begin.copy()
            for _ in range(problem.steps):
                fill()
                np.multiply(z, scale, out=z)
                if problem.name == "ou":
                    x *= 1 - np.float32(A) * h
                else:
                    u, v, w = x[:, 0], x[:, 1], x[:, 2]
                    np.multiply(np.subtract(v, u, out=f[:, 0]), SIGMA * h, out=f[:, 0])
                    np.multiply(np.subtract(np.multiply(np.subtract(RHO, w), u), v), h, out=f[:, 1])
                    np.multiply(np.subtract(u * v, BETA * w), h, out=f[:, 2])
                    x += f
                x += z
            return x

        return run

    return make
