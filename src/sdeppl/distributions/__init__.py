"""Layer 3: SDEs as Pyro distributions."""

from .diffusion import Diffusion
from .path import SDEPath
from .reparam import WienerReparam

__all__ = ["Diffusion", "SDEPath", "WienerReparam"]
