"""Layer 3: observations, and mean likelihoods l(y given x_t) as conditioned denoisers."""

from .base import Guided, MeanLikelihood, Seen
from .dps import DPSDenoiser
from .exact import ExactPosterior, exact_posterior, has_exact_posterior
from .linear_constraint import LinearConstraint
from .linear_gaussian import LinearGaussian
from .monte_carlo import MonteCarloDenoiser
from .naive import NaiveDenoiser
from .nested import NestedDenoiser
from .nonlinear_gaussian import NonlinearGaussian
from .observation import Linearisation, NotDifferentiable, Observation, Surrogate
from .pigdm import PiGDMDenoiser
from .sda import SDADenoiser
from .tweedie import TweedieDenoiser, clipped, positive_part

__all__ = [
    "DPSDenoiser",
    "ExactPosterior",
    "Guided",
    "LinearConstraint",
    "LinearGaussian",
    "Linearisation",
    "MeanLikelihood",
    "MonteCarloDenoiser",
    "NaiveDenoiser",
    "NestedDenoiser",
    "NonlinearGaussian",
    "NotDifferentiable",
    "Observation",
    "PiGDMDenoiser",
    "SDADenoiser",
    "Seen",
    "Surrogate",
    "TweedieDenoiser",
    "clipped",
    "exact_posterior",
    "has_exact_posterior",
    "positive_part",
]
