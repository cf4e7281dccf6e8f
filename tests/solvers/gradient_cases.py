"""SDEs whose solves are differentiated, with respect to two parameters and the start; and differences."""

import numpy as np
import torch

import sdeppl as sp

TIMES = sp.uniform_grid(0.0, 1.0, 12)
START = np.array([[1.2, 0.5], [-0.4, 0.8], [0.9, 1.6]])
WEIGHTS = np.random.default_rng(0).standard_normal(START.shape)
PARAMETERS = np.array([0.6, 0.5])


def geometric(p):
    return sp.ItoSDE(lambda x, t: p[0] * x, lambda x, t: p[1] * x)


def cubic(p):
    return sp.ItoSDE(lambda x, t: p[1] - p[0] * x**3, lambda x, t: p[0] * (1 + p[1] * x * x) ** 0.5)


def ornstein_uhlenbeck(p):
    return sp.ItoSDE(lambda x, t: -p[0] * x, lambda x, t: p[1], noise="additive")


class Logistic(sp.sde.SDE):
    """dx/dt = p_0 x (1 - p_1 x)."""

    def __init__(self, p):
        self.p = p

    def drift(self, x, t):
        return self.p[0] * x * (1 - self.p[1] * x)

    def diffusion(self, x, t):
        return 0.0

    def deterministic(self, s, t):
        return True


CASES = [
    (cubic, sp.EulerMaruyama()),
    (cubic, sp.Milstein()),
    (cubic, sp.SRIW1()),
    (cubic, sp.StochasticHeun()),
    (cubic, sp.PlatenWeak2()),
    (ornstein_uhlenbeck, sp.SRA1()),
    (Logistic, sp.RungeKutta4()),
    (Logistic, sp.Tsitouras54()),
]
CASE_IDS = [f"{make.__name__}-{type(solver).__name__}" for make, solver in CASES]


def tensors(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def differences(function, point, h=1e-3):
    """The gradient of a number by central differences of order 4."""
    found = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        e = np.zeros_like(point)
        e[index] = h
        near, far = (
            function(point + e) - function(point - e),
            function(point + 2 * e) - function(point - 2 * e),
        )
        found[index] = (8 * near - far) / (12 * h)
    return found
