"""SDEs whose solution along a given Brownian path, or whose moments, are known."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from checks import array
from scipy.linalg import expm

import sdeppl as sp

START = np.array([0.4, -0.3])
MIXING = np.array([[1.0, 0.5], [-0.3, 0.8]])  # makes components depend on each other
BROWNIAN = {  # noise class ↦ b of the problems with known solution
    "scalar": np.array([[0.3], [-0.5]]),
    "diagonal": np.array([[0.35, 0.0], [0.0, 0.5]]),
    "general": np.array([[0.3, 0.2], [-0.25, 0.35]]),
}
RATE = 0.2  # of k(t) = 1 + RATE t


@dataclass(frozen=True)
class Paths:
    """Brownian paths on [0, 1] on a fine grid: z and u (steps, paths, m), as a solver is given them."""

    z: Any
    u: Any

    @classmethod
    def draw(cls, steps: int, paths: int, m: int, seed: int, linear: bool = False) -> "Paths":
        """Brownian, or (`linear`) piecewise linear, which a differential equation can be driven by."""
        z, u = np.random.default_rng(seed).standard_normal((2, steps, paths, m))
        return cls(z, 0 * u if linear else u)

    @property
    def increments(self) -> Any:
        return self.z / math.sqrt(len(self.z))

    def coarse(self, steps: int) -> "Paths":
        """z and u of the same paths on a coarser grid: I_(1,0) is Σ_i I_(1,0),i + (W_i - W_s) δ."""
        fine, h = 1 / len(self.z), 1 / steps
        blocks = (steps, len(self.z) // steps, *self.z.shape[1:])
        dW = self.increments.reshape(blocks)
        own = (fine**1.5 * (self.z / 2 + self.u / math.sqrt(12))).reshape(blocks)
        before = np.cumsum(dW, axis=1) - dW
        z = dW.sum(axis=1) / math.sqrt(h)
        integral = (own + before * fine).sum(axis=1)
        return Paths(z, math.sqrt(12) * (integral / h**1.5 - z / 2))

    def fourier(self, steps: int, terms: int) -> Any:
        """What `MilsteinLevy` takes as 'levy': (steps, paths, 2 terms + 1, m), of piecewise linear paths."""
        q = len(self.z) // steps
        angle = 2 * np.pi * np.arange(1, terms + 1)[:, None] * np.linspace(0, 1, q + 1)
        rate = 2 * np.pi * np.arange(1, terms + 1)[:, None] / q
        sine = -np.diff(np.cos(angle), axis=1) / rate
        cosine = np.diff(np.sin(angle), axis=1) / rate
        z = self.z.reshape(steps, q, *self.z.shape[1:]) * math.sqrt(2 / q)
        X, Y = (np.einsum("rq,nqpm->nprm", wave, z) for wave in (-sine, cosine))
        share = math.sqrt(6) / (np.pi * np.arange(1, terms + 1))
        rest = -(self.coarse(steps).u + np.einsum("r,nprm->npm", share, X))
        rest = rest / math.sqrt(1 - np.sum(share**2))
        return np.concatenate([X, Y, rest[:, :, None]], axis=2)


@dataclass(frozen=True)
class Transformed:
    """x_t = P arctan(c + k(t) b W_t), k = 1 + t/5: any b (2, m) gives noise that is commutative.

    Itô, for y = P⁻¹ x: dy = [cos² y (tan y - c) k'/k - k² |b_i|² sin y cos³ y] dt + k cos² y b dW.
    Source: Kloeden & Platen 1992, section 4.4, for k = 1.
    """

    noise: str

    @property
    def matrices(self) -> tuple[Any, Any]:
        return np.eye(2) if self.noise == "diagonal" else MIXING, BROWNIAN[self.noise]

    def sde(self, backend: Any) -> sp.ItoSDE:
        P, b = self.matrices
        to_y, to_x = array(np.linalg.inv(P).T, backend), array(P.T, backend)
        c, square = array(START, backend), array((b**2).sum(axis=1), backend)
        columns = [array(b[:, k], backend) for k in range(b.shape[1])]
        own = array(np.diag(b) if self.noise == "diagonal" else b[:, 0], backend)

        def drift(x: Any, t: float) -> Any:
            xp, y, k = array_namespace(x), x @ to_y, 1 + RATE * t
            sine, cosine = xp.sin(y), xp.cos(y)
            of_time = cosine * (sine - c * cosine) * (RATE / k)
            return (of_time - sine * cosine**3 * square * k**2) @ to_x

        def diffusion(x: Any, t: float) -> Any:
            xp, y, k = array_namespace(x), x @ to_y, 1 + RATE * t
            slope = k * xp.cos(y) ** 2
            if self.noise == "general":
                return xp.stack([(slope * column) @ to_x for column in columns], axis=-1)
            return (slope * own) @ to_x if self.noise == "scalar" else slope * own

        return sp.ItoSDE(drift, diffusion, self.noise, b.shape[1] if self.noise == "general" else None)

    def start(self) -> Any:
        return self.matrices[0] @ np.arctan(START)

    def solution(self, paths: Paths) -> Any:
        return self.at(1.0, paths.increments.sum(axis=0))

    def at(self, t: float, W: Any) -> Any:
        """x_t for W_t (..., m)."""
        P, b = self.matrices
        return np.arctan(START + (1 + RATE * t) * W @ b.T) @ P.T


@dataclass(frozen=True)
class Driven:
    """dx = f(x, t) dt + Σ_k (B_k x + b_k(t)) ∘ dW_k, solved along piecewise linear paths.

    'additive': f nonlinear, g a matrix that depends on t. 'non-commutative': f and g linear, B_1 B_2 ≠
    B_2 B_1. The solution is that of the ordinary differential equation along the fine path.
    """

    noise: str
    A = np.array([[-0.4, 0.3], [-0.2, -0.25]])
    B = np.array([[[0.0, 0.8], [0.3, 0.0]], [[0.7, 0.0], [0.0, -0.5]]])
    b = np.array([[1.0, 0.4], [-0.5, 1.1]])

    def sde(self, backend: Any) -> Any:
        A, b = array(self.A.T, backend), array(self.b.T, backend)
        B = [array(matrix.T, backend) for matrix in self.B]

        def bent(x: Any, t: float) -> Any:
            return (x + array_namespace(x).sin(2 * x) + t) @ A

        if self.noise == "additive":
            return sp.ItoSDE(bent, lambda x, t: b * (1 + t), "additive", 2)

        def diffusion(x: Any, t: float) -> Any:
            return array_namespace(x).stack([x @ matrix for matrix in B], axis=-1)

        return sp.StratonovichSDE(lambda x, t: x @ A, diffusion, "general", 2)

    def start(self) -> Any:
        return np.array([0.7, -0.5])

    def solution(self, paths: Paths) -> Any:
        x = np.broadcast_to(self.start(), (paths.z.shape[1], 2))
        fine = 1 / len(paths.z)
        for i, dW in enumerate(paths.increments):
            if self.noise == "additive":  # Heun's scheme, of order 2 along a smooth path
                first = self._bent(x, i * fine) + dW @ self.b * (1 + i * fine) / fine
                there = x + fine * first
                last = self._bent(there, (i + 1) * fine) + dW @ self.b * (1 + (i + 1) * fine) / fine
                x = x + fine / 2 * (first + last)
            else:
                term = x
                for order in range(1, 5):  # exp(A δ + Σ_k B_k ΔW_k) x
                    moved = [dW[:, k : k + 1] * (term @ self.B[k].T) for k in range(2)]
                    term = (fine * (term @ self.A.T) + sum(moved)) / order
                    x = x + term
        return x

    def _bent(self, x: Any, t: float) -> Any:
        return (x + np.sin(2 * x) + t) @ self.A.T


@dataclass(frozen=True)
class Linear:
    """dx = r (A x + a) dt + √r Σ_k (B_k x + b_k) dW_k, r = 1 + t: its moments by a change of time."""

    noise: str
    A = np.array([[-0.6, 0.4], [0.3, -0.2]])
    a = np.array([0.3, -0.5])

    def fields(self) -> tuple[Any, Any]:
        """B (m, 2, 2) and b (m, 2)."""
        first, second = np.array([[0.4, 0.3], [-0.2, 0.5]]), np.array([[0.1, -0.5], [0.4, 0.2]])
        shifts = np.array([[0.3, -0.2], [0.1, 0.4]])
        return {
            "none": (np.zeros((1, 2, 2)), np.zeros((1, 2))),
            "additive": (np.zeros((2, 2, 2)), shifts),
            "scalar": (first[None], shifts[:1]),
            "diagonal": (np.array([np.diag([0.5, 0.0]), np.diag([0.0, -0.4])]), np.diag([0.2, 0.1])),
            "general": (np.stack([first, 0.5 * first @ first + 0.2 * np.eye(2)]), 0 * shifts),
            "non-commutative": (np.stack([first, second]), shifts),
        }[self.noise]

    def sde(self, backend: Any) -> sp.ItoSDE:
        A, a = array(self.A.T, backend), array(self.a, backend)
        B, b = ([array(matrix.T, backend) for matrix in part] for part in self.fields())

        def diffusion(x: Any, t: float) -> Any:
            root, xp = math.sqrt(1 + t), array_namespace(x)
            if self.noise in ("none", "additive"):
                return root * xp.stack(b, axis=-1)
            columns = [root * (x @ B_k + b_k) for B_k, b_k in zip(B, b, strict=True)]
            if self.noise == "diagonal":
                return xp.stack([column[..., k] for k, column in enumerate(columns)], axis=-1)
            return columns[0] if self.noise == "scalar" else xp.stack(columns, axis=-1)

        noise = {"none": "additive", "non-commutative": "general"}.get(self.noise, self.noise)
        m = None if noise in ("scalar", "diagonal") else len(b)
        return sp.ItoSDE(lambda x, t: (1 + t) * (x @ A + a), diffusion, noise, m)

    def second_moments(self) -> Any:
        """E v vᵀ at t = 1 for v = (x, 1), as a vector, from x_0 = (1, -0.7)."""
        B, b = self.fields()
        drift, *noises = (
            _affine(matrix, shift) for matrix, shift in [(self.A, self.a), *zip(B, b, strict=True)]
        )
        identity = np.eye(3)
        generator = np.kron(drift, identity) + np.kron(identity, drift) + sum(np.kron(G, G) for G in noises)
        return expm(1.5 * generator) @ self.start()

    def start(self) -> Any:
        v = np.array([1.0, -0.7, 1.0])
        return np.kron(v, v)


def _affine(matrix: Any, shift: Any) -> Any:
    return np.block([[matrix, shift[:, None]], [np.zeros((1, 3))]])
