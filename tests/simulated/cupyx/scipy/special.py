"""scipy.special on simulated CuPy arrays."""

from cupy import wrapped
from scipy import special

gammaln, log_ndtr = wrapped(special.gammaln), wrapped(special.log_ndtr)
