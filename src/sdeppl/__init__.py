"""Posterior inference by score-based diffusion: an extension of Pyro on any array library.

Names are loaded when they are first used, so that `import sdeppl` brings in neither torch nor Pyro.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES_OF_MODULE = {
    "backend": "Backend BackendMismatch BackendUnavailable Noise resolve to_host",
    "sde": "AffineSDE ConstantSchedule IsotropicSDE ItoSDE LinearSDE LinearSchedule ReverseSDE "
    "StratonovichSDE Transition VESDE VPSDE log_snr_grid to_ito to_stratonovich uniform_grid",
    "solvers": "EulerMaruyama ExponentialEuler ExponentialHeun NonFiniteState Path solve",
    "denoisers": "CallableDenoiser Denoiser GaussianDenoiser GaussianMixtureDenoiser Moments NetworkDenoiser",
    "nn": "ResidualMLP",
    "distributions": "Diffusion SDEPath WienerReparam",
    "likelihood": "LinearGaussian NonlinearGaussian TweedieDenoiser",
    "posterior": "Posterior SignalLeftWarning",
    "tracing": "ModelError",
    "query": "ApproximateWarning LinearisedWarning RankWarning SitePosterior",
    "guide": "CorruptFile ScoreGuide",
    "training": "Gain ScoreMatching",
    "diagnostics": "Comparison compare",
}
_MODULE_OF_NAME = {name: m for m, names in _NAMES_OF_MODULE.items() for name in names.split()}
_MODULES = (*_NAMES_OF_MODULE, "plots", "reference")

__all__ = sorted([*_MODULE_OF_NAME, "plots", "reference"])


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF_NAME:
        value = getattr(import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'sdeppl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
