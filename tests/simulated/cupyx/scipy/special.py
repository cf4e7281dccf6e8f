"""scipy.special on simulated CuPy arrays."""

from cupy import wrapped
from scipy import special

gammaln, log_ndtr, ndtri = (wrapped(f) for f in (special.gammaln, special.log_ndtr, special.ndtri))
