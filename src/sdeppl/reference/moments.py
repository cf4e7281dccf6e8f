"""A posterior whose mean and standard deviation are known."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exact:
    """mean and sd of a site's posterior, shape of the site, in its units; for `compare`.

    From a Kalman smoother, conditioning of a Gaussian, or quadrature.
    """

    mean: Any
    sd: Any
