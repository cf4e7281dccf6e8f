"""Layer 3: SDEs, censored data, simulators and data sets as Pyro distributions."""

from .censored import Censored, Interval
from .dataset import Dataset, Part
from .draws_alone import DrawsAlone, SamplerError
from .markov_path import MarkovPath
from .path import Diffusion, SDEPath, WienerReparam
from .simulated import Simulated
