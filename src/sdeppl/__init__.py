"""Posterior inference by score-based diffusion: an extension of Pyro on any array library.

Names are loaded when they are first used, so that `import sdeppl` brings in neither torch nor Pyro.
"""

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES_OF_MODULE = {
    "backend": "Backend BackendMismatch BackendUnavailable CostWarning Noise OnnxFunction OutOfMemory "
    "TorchFunction place resolve to_host",
    "linalg": "FieldShape Grid PathShape Time",
    "sde": "AffineMarginals AffineSDE CallableSchedule CallableVESDE ConstantSchedule CosineSchedule "
    "CriticallyDampedSDE DataAnchoredSDE EDMSDE IsotropicSDE ItoSDE LangevinSDE LinearSDE LinearSchedule "
    "SDE Schedule DoubleWell FokkerPlanckGrid GeometricBrownianMotion Lorenz63 Lorenz96 "
    "MatrixLinearSDE ReverseSDE ShiftedVPSDE StratonovichSDE SubVPSDE Transition VESDE VPSDE ddpm_grid "
    "edm_grid log_snr_grid ncsn_grid quadratic_grid to_ito to_stratonovich uniform_grid",
    "solvers": "BrownianPath DormandPrince54 PIController RungeKutta4 Tsitouras54 "
    "AncestralSampler DPMSolverPP EDMHeun PredictorCorrector UniPC "
    "Solver BAOAB EulerMaruyama ExactAffine ExponentialEuler ExponentialHeun MidpointSSCS Milstein "
    "MilsteinLevy NonFiniteState Path PlatenWeak2 SRA1 SRIW1 SSCS StochasticHeun solve",
    "denoisers": "ArrayMLP CallableDenoiser Denoiser GaussianDenoiser GaussianMixtureDenoiser Moments "
    "NetworkDenoiser",
    "nn": "FieldNetwork ResidualMLP UNet export_onnx",
    "distributions": "Censored Dataset Diffusion Interval MarkovPath SDEPath SamplerError Simulated "
    "WienerReparam",
    "likelihood": "CubatureDenoiser DPSDenoiser DensityObservation IndependentObservation "
    "JointObservation LinearConstraint LinearGaussian Linearisation MeanLikelihood "
    "MonteCarloDenoiser NaiveDenoiser NestedDenoiser "
    "NonlinearGaussian NotDifferentiable Observation PiGDMDenoiser SDADenoiser SiteApproximation "
    "TweedieDenoiser classifier_observation exact_posterior joint_observation",
    "posterior": "Diagnosis FitCheck HamiltonianMC LangevinCorrector LogDensity PortablePosterior Posterior "
    "PosteriorRun PosteriorRuns Posteriors SignalLeftWarning TemperedSMC TwistedSMC UntrustedWarning "
    "load_posterior log_density",
    "tracing": "HeavyTailsWarning ModelError PriorCheck SitePriorCheck UnrecordedWarning check_prior",
    "query": "ApproximateWarning LinearisedWarning RankWarning SitePosterior SitePosteriors",
    "guide": "CorruptFile ScoreGuide",
    "training": "Gain ScoreMatching",
    "diagnostics": "Calibration Comparison CovarianceCheck CoverageMap LocalC2ST LossCheck ScoreCheck "
    "Simulations check_covariance check_loss check_score compare coverage coverage_map local_c2st "
    "posterior_sbc sbc simulate_posteriors tarp to_arviz",
    "reporting": "Report report",
}
_MODULE_OF_NAME = {name: m for m, names in _NAMES_OF_MODULE.items() for name in names.split()}
_MODULES = (*_NAMES_OF_MODULE, "plots", "reference")

_FORMER_NAMES = {"Surrogate": "SiteApproximation"}

__all__ = sorted([*_MODULE_OF_NAME, "linalg", "plots", "reference"])


def __getattr__(name: str) -> Any:
    if name in _FORMER_NAMES:
        warnings.warn(f"{name} is called {_FORMER_NAMES[name]} now", DeprecationWarning, stacklevel=2)
        return getattr(import_module(__name__), _FORMER_NAMES[name])
    if name in _MODULE_OF_NAME:
        value = getattr(import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'sdeppl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
