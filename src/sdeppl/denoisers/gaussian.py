"""The exact denoiser of a Gaussian x_0."""

from typing import Any

from ..backend import Array, Number, array_namespace, backend_of, require_arrays, require_same
from ..linalg import Diagonalisable, LinearOperator, Spectral
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from ..sde.marginals import GaussianMixture
from .base import Denoiser, Moments


class GaussianDenoiser(Denoiser):
    """x_0 ~ N(m, C): E[x_0 given x_t] = m + α C (α² C + σ² I)⁻¹ (x - α m), covariance
    σ² C (α² C + σ² I)⁻¹; for any x_0 with these moments, the best denoiser linear in x.

    mean (dim,), covariance (dim, dim), symmetric and positive semidefinite, or a `linalg.Diagonalisable`
    operator, such as `Isotropic` and `Diagonal`, which holds it otherwise; in the data's units, on one
    backend. A matrix becomes V diag(λ) Vᵀ; directions with λ below float64's rounding of the largest (4 dim
    2⁻⁵², and at most 1e-12 of it) carry no variance and are left out. Times may be floats or arrays (batch,
    1).

    Raises: ValueError for shapes that do not fit, asymmetry or a negative eigenvalue.
    """

    def __init__(self, sde: IsotropicSDE, mean: Array, covariance: Array | LinearOperator) -> None:
        require_isotropic(sde, type(self).__name__)
        given = covariance.like if isinstance(covariance, LinearOperator) else covariance
        self.sde, self.backend = sde, require_arrays(type(self).__name__, mean=mean, covariance=given)
        if mean is None or covariance is None:
            raise TypeError("GaussianDenoiser: mean and covariance must be arrays; got None")
        if mean.ndim != 1 or tuple(covariance.shape) != 2 * tuple(mean.shape):
            raise ValueError(
                f"expected mean (dim,) and covariance (dim, dim); got {tuple(mean.shape)} and "
                f"{tuple(covariance.shape)}"
            )
        self.dim, self.location = mean.shape[0], mean
        self.prior_covariance: Any = (
            covariance if isinstance(covariance, LinearOperator) else _decomposed(covariance)
        )

    @classmethod
    def from_eigenbasis(
        cls, sde: IsotropicSDE, mean: Array, basis: Array, eigenvalues: Array
    ) -> "GaussianDenoiser":
        """From C = V diag(λ) Vᵀ as it stands: basis V (dim, rank), eigenvalues λ (rank,), positive.

        A network that works in an eigenbasis needs the very basis it was trained in.
        """
        require_same(backend_of(mean), basis=basis, eigenvalues=eigenvalues)
        return cls(sde, mean, Spectral(basis, eigenvalues))

    @property
    def basis(self) -> Array:
        """Eigenvectors of C in which it varies, (dim, rank)."""
        return self.prior_covariance.basis

    @property
    def eigenvalues(self) -> Array:
        """Of C, along `basis`, (rank,)."""
        return self.prior_covariance.eigenvalues

    def __repr__(self) -> str:
        return f"GaussianDenoiser({self.sde}, dim={self.dim})"

    def __call__(self, x: Array, t: float) -> Moments:
        x = self.sde.centre(x, t)
        alpha, sigma = self.sde.alpha_sigma(t)
        # C (α² C + σ² I)⁻¹ serves the covariance and the mean
        gain = self.prior_covariance.gain(alpha, sigma).formed()
        mean = self.location + alpha * gain.matvec(x - alpha * self.location)
        return Moments(mean, self.sde.sigma(t) ** 2 * gain)

    def log_prob(self, x0: Array) -> Array:
        """ln N(x_0; m, C) of rows x_0 (batch, dim), where C has full rank: (batch,)."""
        return self.prior_covariance.log_normal(x0 - self.location)

    def mean(self, x: Array, t: Number) -> Array:
        alpha, sigma = self.sde.alpha_sigma(t)
        gain = self.prior_covariance.gain(alpha, sigma, alpha)
        # one expression: two arrays at a time, since none has a name
        return self.location + gain.matvec(self.sde.centre(x, t) - alpha * self.location)

    def covariance_slope(self, x: Array, t: float, V: Array, w: Array) -> Array:
        """0: the covariance is the same for all x."""
        return self.backend.xp.zeros_like(x)

    @property
    def mixture(self) -> GaussianMixture[Diagonalisable]:  # type: ignore[override]
        """x_0 as a mixture of one."""
        no_weight = 0 * self.location[:1]
        return GaussianMixture(no_weight, self.location[None, :], self.prior_covariance)

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        covariance = self.prior_covariance.dense()
        weight = self.backend.xp.ones_like(self.location[:1])
        return AffineMarginals(self.sde, weight, self.location[None, :], covariance[None, ...])

    def log_density(self, x: Array, t: float) -> Array:
        """ln p_t(x), (batch,). Raises: ValueError at t = 0 where C is singular."""
        covariance, (alpha, sigma) = self.prior_covariance, self.sde.alpha_sigma(t)
        if isinstance(covariance, Spectral):
            return self.marginals.log_density(x, t)
        return (
            (covariance * alpha**2)
            .shifted(sigma**2)
            .log_normal(self.sde.centre(x, t) - alpha * self.location)
        )

    def whiten(self, x: Array, t: Number) -> Array:
        """x in the eigenbasis, scaled by its standard deviation at t: (batch, rank)."""
        alpha, variance = self._marginal(t)
        xp = self.backend.xp
        return self.prior_covariance.inside(self.sde.centre(x, t) - alpha * self.location) / xp.sqrt(variance)

    def posterior_scale(self, t: Number) -> Array:
        """Standard deviations of x_0 given x_t along the eigenbasis, √(σ² λ/(α² λ + σ²)): (rank,)."""
        _, variance = self._marginal(t)
        xp = self.backend.xp
        return self.sde.sigma(t) * xp.sqrt(self.eigenvalues / variance)

    def explained(self, t: Number) -> Array:
        """Share of x_0's variance that x_t explains along the eigenbasis, α² λ/(α² λ + σ²): (rank,)."""
        alpha, variance = self._marginal(t)
        return alpha * alpha * self.eigenvalues / variance

    def _marginal(self, t: Number) -> tuple[Array, Array]:
        """α and the variances α² λ + σ² of x_t along the eigenbasis."""
        alpha, sigma = self.sde.alpha_sigma(t)
        return alpha, alpha * alpha * self.eigenvalues + sigma**2


def _decomposed(covariance: Array) -> Spectral:
    """Without the directions that carry no variance. Raises: ValueError for what is no covariance."""
    xp, dim = array_namespace(covariance), covariance.shape[0]
    scale = float(xp.max(xp.abs(covariance)))
    if not float(xp.max(xp.abs(covariance - covariance.T))) <= 1e-6 * scale:
        raise ValueError(f"the covariance is not symmetric, or not finite; got entries up to {scale:.3g}")
    eigenvalues, basis = xp.linalg.eigh(0.5 * (covariance + covariance.T))
    if float(xp.min(eigenvalues)) < -1e-5 * scale:
        raise ValueError(f"the covariance has the negative eigenvalue {float(xp.min(eigenvalues)):.3g}")
    floor = min(4 * dim * 2.0**-52, 1e-12) * float(xp.max(eigenvalues))
    rank = max(int(xp.count_nonzero(eigenvalues > floor)), 1)
    return Spectral(basis[:, dim - rank :], eigenvalues[dim - rank :])
