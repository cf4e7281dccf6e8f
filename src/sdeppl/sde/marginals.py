"""The Fokker–Planck equation in closed form: Gaussian mixtures under affine SDEs."""

from numbers import Integral
from typing import Any

from ..backend import Array, Noise, NoiseStream, log_ndtr, require_arrays, whole_number
from ..linalg import Dense, Spectral, Triangular
from .affine import AffineSDE
from .mixture import GaussianMixture


class AffineMarginals:
    """p_t(x) = Σ_k w_k N(x; m_k(t), C_k(t)) for x_0 ~ Σ_k w_k N(m_k, C_k) under any `AffineSDE`.

    It solves ∂p/∂t = -∇·(f p) + ½ ∇∇:(B Bᵀ p). weights (components,), positive, normalised here;
    means (components, dim); covariances (components, dim, dim), symmetric, positive semidefinite: where
    they are singular so may be the marginal at t = 0, which then has no density. Units of x; one
    backend. It gives a `ReverseSDE` its score, for forward SDEs that no denoiser covers too.

    Raises: TypeError for an SDE that is not affine; ValueError for shapes that do not fit, weights
    that are not positive, and matrices that are no covariances. Source: Särkkä & Solin 2019, section 6.1.
    """

    def __init__(self, sde: AffineSDE, weights: Array, means: Array, covariances: Array) -> None:
        if not isinstance(sde, AffineSDE):
            raise TypeError(f"AffineMarginals needs an affine SDE, as VPSDE is; got {type(sde).__name__}")
        self.sde = sde
        self.backend = require_arrays(
            "AffineMarginals", means=means, weights=weights, covariances=covariances
        )
        shapes = tuple(weights.shape), tuple(means.shape), tuple(covariances.shape)
        if means.ndim != 2 or shapes != (shapes[1][:1], shapes[1], shapes[1] + shapes[1][1:]):
            raise ValueError(
                "AffineMarginals: expected weights (k,), means (k, dim), covariances (k, dim, dim); got "
                f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
            )
        xp = self.backend.xp
        if not bool(xp.all((weights > 0) & xp.isfinite(weights))):
            raise ValueError(
                "AffineMarginals: the weights must be positive and finite; leave out what has none"
            )
        if not bool(xp.all(xp.isfinite(means))):
            raise ValueError("AffineMarginals: the means must be finite")
        size = xp.max(xp.abs(covariances))
        if not bool(xp.all(xp.abs(covariances - xp.matrix_transpose(covariances)) <= 1e-6 * size)):
            raise ValueError("AffineMarginals: the covariances must be symmetric and finite")
        lowest = float(xp.min(xp.linalg.eigvalsh(covariances)))
        if lowest < -1e-5 * float(size):
            raise ValueError(f"AffineMarginals: a covariance has the negative eigenvalue {lowest:.3g}")
        self.dim = means.shape[1]
        self.weights, self.means, self.covariances = weights / xp.sum(weights), means, covariances

    def __repr__(self) -> str:
        return f"AffineMarginals({self.sde}, components={self.means.shape[0]}, dim={self.dim})"

    def components(self, t: float) -> tuple[Array, Array]:
        """Means (components, dim) and covariances (components, dim, dim) of the components at t."""
        return self.sde.moments(self.means, self.covariances, t)

    def moments(self, t: float) -> tuple[Array, Array]:
        """Mean (dim,) and covariance (dim, dim) of x_t."""
        means, covariances = self.components(t)
        return GaussianMixture(self._log_weights, means, Dense(covariances)).moments()

    def log_density(self, x: Array, t: float) -> Array:
        """ln p_t(x), (...) for x (..., dim). Raises: ValueError where a covariance is singular."""
        return self.backend.xp.reshape(self._at(t).log_density(self._rows(x)), x.shape[:-1])

    def score(self, x: Array, t: float) -> Array:
        """∂ ln p_t(x), like x. Raises: ValueError where a covariance is singular."""
        return self.backend.xp.reshape(self._at(t).score(self._rows(x)), x.shape)

    def sample(
        self, t: float, n: int, noise: Noise | NoiseStream | Array | None = None, *, seed: int = 0
    ) -> Array:
        """n draws of x_t, (n, dim).

        noise: a `Noise` (`seed` in host mode by default), an opened stream, or an array of standard
        normals (n, dim + 1), whose first column chooses the component. Raises: ValueError for an
        array of another shape.
        """
        xp = self.backend.xp
        n = whole_number("sample(t, n): n", n, 1)
        if isinstance(noise, Integral):
            raise TypeError(f"sample: noise must be a Noise, a stream or an array; use seed={noise}")
        noise = Noise(seed) if noise is None else noise
        stream: Any = noise.stream(self.backend) if isinstance(noise, Noise) else noise
        z: Array = stream.normal(0, (n, self.dim + 1)) if hasattr(stream, "normal") else stream
        if tuple(z.shape) != (n, self.dim + 1):
            raise ValueError(f"sample: expected normals ({n}, {self.dim + 1}); got {tuple(z.shape)}")
        means, covariances = self.components(t)
        values, bases = xp.linalg.eigh(covariances)
        roots = Spectral(bases, xp.clip(values, min=0.0))  # where they are singular, so may x_t be
        return GaussianMixture(self._log_weights, means, roots).sample(xp.exp(log_ndtr(z[:, 0])), z[:, 1:])

    @property
    def _log_weights(self) -> Array:
        return self.backend.xp.log(self.weights)

    def _rows(self, x: Array) -> Array:
        if x.shape[-1] != self.dim:
            raise ValueError(f"AffineMarginals: x must be (..., {self.dim}); got {tuple(x.shape)}")
        return self.backend.xp.reshape(x, (-1, self.dim))

    def _at(self, t: float) -> GaussianMixture[Dense]:
        """p_t. Raises: ValueError where a covariance is singular."""
        means, covariances = self.components(t)
        try:
            root = Triangular(self.backend.xp.linalg.cholesky(covariances))
        except (RuntimeError, ValueError) as error:  # torch's and NumPy's LinAlgError
            raise ValueError(
                f"AffineMarginals: at t={t} a component's covariance is singular, so x_t has no density; "
                "take a larger t, or covariances of x_0 that are positive definite"
            ) from error
        return GaussianMixture(self._log_weights, means, Dense(covariances, positive=True, root=root))
