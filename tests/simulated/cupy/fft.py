"""numpy.fft on simulated CuPy arrays."""

import sys

import numpy as np

from . import _fill

_fill(sys.modules[__name__], np.fft)
