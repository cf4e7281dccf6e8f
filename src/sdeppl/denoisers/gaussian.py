"""The exact denoiser of a Gaussian x_0."""

import math
from typing import Any

from ..backend import backend_of, require_arrays, require_same
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import MatrixCovariance


class GaussianDenoiser(Denoiser):
    """x_0 ~ N(m, C): E[x_0 given x_t] = m + α C (α² C + σ² I)⁻¹ (x - α m), covariance
    σ² C (α² C + σ² I)⁻¹; for any x_0 with these moments, the best denoiser linear in x.

    mean (dim,), covariance (dim, dim), symmetric and positive semidefinite, in the data's units,
    on one backend. Works in the eigenbasis C = V diag(λ) Vᵀ; directions with λ below
    float64's rounding of the largest (4 dim 2⁻⁵², and at most 1e-12 of it) carry no variance and are
    left out. Times may be floats or arrays (batch, 1).

    Raises: ValueError for shapes that do not fit, asymmetry or a negative eigenvalue.
    """

    def __init__(self, sde: IsotropicSDE, mean: Any, covariance: Any) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        self.backend = require_arrays(type(self).__name__, mean=mean, covariance=covariance)
        if mean is None or covariance is None:
            raise TypeError("GaussianDenoiser: mean and covariance must be arrays; got None")
        if mean.ndim != 1 or tuple(covariance.shape) != 2 * tuple(mean.shape):
            raise ValueError(
                f"expected mean (dim,) and covariance (dim, dim); got {tuple(mean.shape)} and "
                f"{tuple(covariance.shape)}"
            )
        self.dim = mean.shape[0]
        xp = self.backend.xp
        scale = float(xp.max(xp.abs(covariance)))
        if not float(xp.max(xp.abs(covariance - covariance.T))) <= 1e-6 * scale:
            raise ValueError(f"the covariance is not symmetric, or not finite; got entries up to {scale:.3g}")
        eigenvalues, basis = xp.linalg.eigh(0.5 * (covariance + covariance.T))
        if float(xp.min(eigenvalues)) < -1e-5 * scale:
            raise ValueError(f"the covariance has the negative eigenvalue {float(xp.min(eigenvalues)):.3g}")
        floor = min(4 * self.dim * 2.0**-52, 1e-12) * float(xp.max(eigenvalues))
        rank = max(int(xp.count_nonzero(eigenvalues > floor)), 1)
        self.location = mean
        self.basis = basis[:, self.dim - rank :]
        self.eigenvalues = eigenvalues[self.dim - rank :]

    @classmethod
    def from_eigenbasis(
        cls, sde: IsotropicSDE, mean: Any, basis: Any, eigenvalues: Any
    ) -> "GaussianDenoiser":
        """From C = V diag(λ) Vᵀ as it stands: basis V (dim, rank), eigenvalues λ (rank,), positive.

        A network that works in an eigenbasis needs the very basis it was trained in.
        """
        denoiser = cls.__new__(cls)
        denoiser.sde = sde
        denoiser.backend = backend_of(mean)
        require_same(denoiser.backend, basis=basis, eigenvalues=eigenvalues)
        denoiser.dim = mean.shape[-1]
        denoiser.location, denoiser.basis, denoiser.eigenvalues = mean, basis, eigenvalues
        return denoiser

    def __repr__(self) -> str:
        return f"GaussianDenoiser({self.sde}, dim={self.dim})"

    def __call__(self, x: Any, t: float) -> Moments:
        x = self.sde.centre(x, t)
        alpha, variance = self._marginal(t)
        # one matrix, C (α² C + σ² I)⁻¹, serves the covariance and, in one product, the mean
        matrix = (self.basis * (self.eigenvalues / variance)) @ self.basis.T
        mean = self.location + alpha * ((x - alpha * self.location) @ matrix)
        return Moments(mean, MatrixCovariance(self.sde.sigma(t) ** 2 * matrix))

    def log_prob(self, x0: Any) -> Any:
        """ln N(x_0; m, C) of rows x_0 (batch, dim), where C has full rank: (batch,)."""
        xp = self.backend.xp
        w = (x0 - self.location) @ self.basis
        constant = self.dim * math.log(2 * math.pi) + xp.sum(xp.log(self.eigenvalues))
        return -0.5 * (xp.sum(w * w / self.eigenvalues, axis=-1) + constant)

    def mean(self, x: Any, t: Any) -> Any:
        alpha, variance = self._marginal(t)
        gain = alpha * self.eigenvalues / variance
        # one expression: two arrays at a time, since none has a name
        return self.location + self._scaled(self.sde.centre(x, t) - alpha * self.location, gain)

    def _scaled(self, x: Any, gain: Any) -> Any:
        """V diag(gain) Vᵀ x for each row; the matrix is multiplied out first where that is less work."""
        rank = self.eigenvalues.shape[0]
        if gain.ndim == 1 and x.ndim == 2 and x.shape[0] * (2 * rank - self.dim) > rank * self.dim:
            return x @ ((self.basis * gain) @ self.basis.T)
        return (gain * (x @ self.basis)) @ self.basis.T

    def covariance_slope(self, x: Any, t: float, V: Any, w: Any) -> Any:
        """0: the covariance is the same for all x."""
        return self.backend.xp.zeros_like(x)

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        covariance = (self.basis * self.eigenvalues) @ self.basis.T
        weight = self.backend.xp.ones_like(self.location[:1])
        return AffineMarginals(self.sde, weight, self.location[None, :], covariance[None, ...])

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,). Raises: ValueError at t = 0 where C is singular."""
        return self.marginals.log_density(x, t)

    def whiten(self, x: Any, t: Any) -> Any:
        """x in the eigenbasis, scaled by its standard deviation at t: (batch, rank)."""
        alpha, variance = self._marginal(t)
        xp = self.backend.xp
        return (self.sde.centre(x, t) - alpha * self.location) @ self.basis / xp.sqrt(variance)

    def posterior_scale(self, t: Any) -> Any:
        """Standard deviations of x_0 given x_t along the eigenbasis, √(σ² λ/(α² λ + σ²)): (rank,)."""
        _, variance = self._marginal(t)
        xp = self.backend.xp
        return self.sde.sigma(t) * xp.sqrt(self.eigenvalues / variance)

    def explained(self, t: Any) -> Any:
        """Share of x_0's variance that x_t explains along the eigenbasis, α² λ/(α² λ + σ²): (rank,)."""
        alpha, variance = self._marginal(t)
        return alpha * alpha * self.eigenvalues / variance

    def _marginal(self, t: Any) -> tuple[Any, Any]:
        """α and the variances α² λ + σ² of x_t along the eigenbasis."""
        alpha, sigma = self.sde.alpha_sigma(t)
        return alpha, alpha * alpha * self.eigenvalues + sigma**2
