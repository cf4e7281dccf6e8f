"""Layer 2: E[x_0 given x_t] and Cov[x_0 given x_t], analytic, by a network, or a black box."""

from .array_network import ArrayMLP
from .base import Denoiser, Moments
from .covariance import Covariance, MatrixCovariance, PullbackCovariance
from .function import CallableDenoiser
from .gaussian import GaussianDenoiser
from .mixture import GaussianMixtureDenoiser
from .mixture_covariance import MixtureCovariance
from .network import NetworkDenoiser

__all__ = [
    "ArrayMLP",
    "CallableDenoiser",
    "Covariance",
    "Denoiser",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "MatrixCovariance",
    "MixtureCovariance",
    "Moments",
    "NetworkDenoiser",
    "PullbackCovariance",
]
