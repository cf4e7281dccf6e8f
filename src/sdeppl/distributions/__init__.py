"""Layer 3: SDEs and censored data as Pyro distributions."""

from .censored import Censored
from .diffusion import Diffusion
from .interval import Interval
from .path import SDEPath
from .reparam import WienerReparam

__all__ = ["Censored", "Diffusion", "Interval", "SDEPath", "WienerReparam"]
