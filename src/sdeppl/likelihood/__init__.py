"""Layer 3: observations, and mean likelihoods l(y given x_t) as conditioned denoisers."""

from . import families
from .base import Guided, MeanLikelihood, PseudoObservation, psd_part
from .cubature import CubatureDenoiser
from .density import DensityObservation, classifier_observation
from .dps import DPSDenoiser
from .exact import ExactPosterior, exact_posterior, has_exact_posterior
from .independent import IndependentObservation
from .joint import JointObservation, joint_observation
from .linear_gaussian import LinearConstraint, LinearGaussian
from .matheron import GaussianPosterior, is_drawn_directly
from .monte_carlo import MonteCarloDenoiser
from .naive import NaiveDenoiser
from .nested import NestedDenoiser
from .nonlinear_gaussian import NonlinearGaussian
from .observation import Linearisation, NotDifferentiable, Observation, SiteApproximation
from .pigdm import PiGDMDenoiser
from .sda import SDADenoiser
from .serialise import observation_from_dict, observation_to_dict
from .tweedie import TweedieDenoiser

# the mean likelihoods that `Posterior(likelihood=...)` knows by name
RUNGS: dict[str, type[MeanLikelihood]] = {
    rung.name: rung
    for rung in (
        NaiveDenoiser,
        DPSDenoiser,
        SDADenoiser,
        PiGDMDenoiser,
        TweedieDenoiser,
        CubatureDenoiser,
        MonteCarloDenoiser,
        NestedDenoiser,
    )
}
