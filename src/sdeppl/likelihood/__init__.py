"""Layer 3: observations, and mean likelihoods l(y given x_t) as conditioned denoisers."""

from .observation import LinearGaussian, NonlinearGaussian, Observation
from .tweedie import TweedieDenoiser

__all__ = ["LinearGaussian", "NonlinearGaussian", "Observation", "TweedieDenoiser"]
