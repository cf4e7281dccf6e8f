"""Layer 3: SDEs and censored data as Pyro distributions."""

from .censored import Censored, Interval
from .path import Diffusion, SDEPath, WienerReparam
