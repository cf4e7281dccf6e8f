"""The Gaussian-mixture linear inverse problem of Cardoso et al. 2023 (MCGDiff), with its exact answer."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

CELLS = ((8, 1), (8, 2), (8, 4), (80, 1), (80, 2), (80, 4), (800, 1))
COMPONENTS = 25
DIRECTIONS = 1_000


@dataclass(frozen=True)
class Problem:
    """y = A x_0 + sd ε, with x_0 ~ Σ_k weights_k N(means_k, I).

    weights (25,), means (25, d_x), A (d_y, d_x), sd: a number, y (d_y,).
    """

    weights: np.ndarray
    means: np.ndarray
    A: np.ndarray
    sd: float
    y: np.ndarray
    seed: int

    @property
    def dim(self) -> int:
        """d_x."""
        return int(self.A.shape[1])

    @property
    def count(self) -> int:
        """d_y."""
        return int(self.A.shape[0])

    def frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """V (d_x, d_y), s (d_y,) and y' (d_y,) with A = U diag(s) Vᵀ: y' = Vᵀ x_0 + sd/s ε."""
        U, s, Vt = np.linalg.svd(self.A, full_matrices=False)
        return Vt.T, s, (U.T @ self.y) / s

    def _log_joint(self) -> tuple[np.ndarray, np.ndarray]:
        """ln w_k N(y; A m_k, S), and S⁻¹ (y - A m_k) (25, d_y), with S = A Aᵀ + sd² I."""
        S = self.A @ self.A.T + self.sd**2 * np.eye(self.count)
        residual = self.y - self.means @ self.A.T
        solved = np.linalg.solve(S, residual.T).T
        constant = np.linalg.slogdet(2 * math.pi * S)[1]
        return np.log(self.weights) - 0.5 * (np.sum(residual * solved, axis=1) + constant), solved

    def log_evidence(self) -> float:
        """ln p(y)."""
        return float(np.logaddexp.reduce(self._log_joint()[0]))

    def exact_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws from p(x_0 given y), (n, d_x)."""
        log_joint, solved = self._log_joint()
        shares = np.exp(log_joint - np.logaddexp.reduce(log_joint))
        centres = self.means + solved @ self.A
        V, s, _ = self.frame()
        z = rng.standard_normal((n, self.dim))
        # along V the variance is sd²/(s² + sd²), across it 1
        z = z + ((z @ V) * (self.sd / np.sqrt(s**2 + self.sd**2) - 1)) @ V.T
        return centres[rng.choice(COMPONENTS, size=n, p=shares / shares.sum())] + z

    def prior_draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws of x_0, (n, d_x)."""
        chosen = rng.choice(COMPONENTS, size=n, p=self.weights)
        return self.means[chosen] + rng.standard_normal((n, self.dim))


def make(cell: tuple[int, int], seed: int) -> Problem:
    """Means (-8i, -8j), i and j from -2 to 2, tiled; weights the squares of normals, normalised; s uniform,
    sorted, between the singular vectors of a normal matrix; sd uniform × max(s); y from a draw of x_0."""
    (dim, count), rng = cell, np.random.default_rng(seed)
    grid = np.array([(-8.0 * i, -8.0 * j) for i in range(-2, 3) for j in range(-2, 3)])
    means = np.tile(grid, (1, dim // 2))
    weights = rng.standard_normal(COMPONENTS) ** 2
    weights = weights / weights.sum()
    U, _, Vt = np.linalg.svd(rng.standard_normal((count, dim)), full_matrices=False)
    s = np.sort(rng.uniform(size=count))[::-1]
    sd = rng.uniform() * s.max()
    x = means[rng.choice(COMPONENTS, p=weights)] + rng.standard_normal(dim)
    A = (U * s) @ Vt
    return Problem(weights, means, A, sd, A @ x + sd * rng.standard_normal(count), seed)


@dataclass(frozen=True)
class Ruler:
    """Exact draws of one problem, and the directions along which others are compared with them."""

    directions: np.ndarray
    sorted_exact: np.ndarray

    @classmethod
    def of(cls, problem: Problem, n: int) -> "Ruler":
        """From the problem's own seed."""
        rng = np.random.default_rng([problem.seed, 1])
        directions = rng.standard_normal((problem.dim, DIRECTIONS))
        directions = directions / np.linalg.norm(directions, axis=0)
        return cls(directions, np.sort(problem.exact_draws(n, rng) @ directions, axis=0))

    def distance(self, draws: Any) -> float:
        """Sliced Wasserstein-1 of draws (n, d_x) to the exact ones: the mean over directions."""
        projected = np.sort(np.asarray(draws) @ self.directions, axis=0)
        return float(np.mean(np.abs(projected - self.sorted_exact)))
