"""Layer 2: E[x_0 given x_t] and Cov[x_0 given x_t], analytic, by a network, or a black box."""

from typing import Any

from ..backend.sharing import warn
from ..linalg import Dense
from . import base
from .array_network import ArrayMLP
from .base import Denoiser, Moments, tweedie_covariance
from .coordinates import Coordinates, Eigenbasis, OnGrid
from .function import CallableDenoiser
from .gaussian import GaussianDenoiser
from .mixture import GaussianMixtureDenoiser, MixtureCovariance, decomposed
from .network import NetworkDenoiser

_FORMER: dict[str, tuple[Any, str]] = {
    "Covariance": (base.Covariance, "sdeppl.linalg.LinearOperator"),
    "MatrixCovariance": (Dense, "sdeppl.linalg.Dense"),
    "PullbackCovariance": (tweedie_covariance, "sdeppl.denoisers.tweedie_covariance"),
}


def __getattr__(name: str) -> Any:
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found, now = _FORMER[name]
    warn(f"denoisers.{name} is called {now} now", DeprecationWarning, stacklevel=2)
    return found
