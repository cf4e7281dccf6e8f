"""Layer 2: one file per solver family, and `solve`."""

from .base import Solver
from .euler_maruyama import EulerMaruyama
from .exponential import ExponentialEuler, ExponentialHeun
from .solve import Path, solve
from .watch import NonFiniteState

__all__ = [
    "EulerMaruyama",
    "ExponentialEuler",
    "ExponentialHeun",
    "NonFiniteState",
    "Path",
    "Solver",
    "solve",
]
