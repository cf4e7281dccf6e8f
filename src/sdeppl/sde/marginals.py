"""The Fokker–Planck equation in closed form: Gaussian mixtures under affine SDEs."""

import math
from numbers import Integral
from typing import Any, Generic, TypeVar

from array_api_compat import device

from ..backend import Array, Noise, NoiseStream, array_namespace, log_ndtr, require_arrays, whole_number
from ..linalg import Dense, LinearOperator, Spectral, Triangular, matvec
from .base import AffineSDE

C = TypeVar("C", bound=LinearOperator)


class GaussianMixture(Generic[C]):
    """Σ_k w_k N(m_k, C_k): one for all rows x, or one for each row, as of a data set each.

    log_weights: ln w_k, normalised, (components,) or (rows, components); means: (components, dim) or (rows,
    components, dim); covariances: an operator of `components` matrices that serve all rows, or one that all
    components have: then no array has rows × components × dim numbers, unless the means have.
    """

    def __init__(self, log_weights: Array, means: Array, covariances: C) -> None:
        self.log_weights, self.means, self.covariances = log_weights, means, covariances
        self.components, self.dim = means.shape[-2:]
        # at once: kept when it is first asked for, it would be another graph where a step is made again
        self.mean = combined(self.weights, means)  # of all components, (dim,) or (rows, dim)

    @property
    def rows(self) -> int | None:
        """Rows of which each has its own, or None."""
        return self.log_weights.shape[0] if self.log_weights.ndim == 2 else None

    @property
    def weights(self) -> Array:
        """w_k, as `log_weights`."""
        return array_namespace(self.log_weights).exp(self.log_weights)

    def moments(self) -> tuple[Array, Array]:
        """Mean (dim,) and covariance (dim, dim) of one for all rows."""
        xp, mean = array_namespace(self.means), self.mean
        centred, within = self.means - mean, self.covariances.dense()
        if within.ndim == 3:
            within = xp.sum(self.weights[:, None, None] * within, axis=0)
        return mean, within + (self.weights[:, None] * centred).T @ centred

    def take(self, index: Array) -> "GaussianMixture[C]":
        """That of the rows `index`; itself where there is one for all."""
        if self.rows is None:
            return self
        xp = array_namespace(index)
        log_weights, means = (xp.take(part, index, axis=0) for part in (self.log_weights, self.means))
        return GaussianMixture(log_weights, means, self.covariances)

    def joint_of_one(
        self, x: Array, alpha: float = 1.0, V: LinearOperator | None = None
    ) -> tuple[Array, Array, Array]:
        """Where all C_k are C, of α x_0 + noise with covariance V, C by default: ln w_k N(x; α m_k, V) -
        ln N(x; α mean, V), (rows, components), for the size of the latter would cost their differences
        digits; x - α mean; and V⁻¹ (m_k - mean), as the means."""
        xp, mean = array_namespace(x), self.mean
        offsets, centred = self.means - mean[..., None, :], x - alpha * mean
        scaled = (self.covariances if V is None else V).solve(offsets)
        squares = 0.5 * alpha**2 * xp.sum(offsets * scaled, axis=-1)
        return self.log_weights - squares + alpha * matvec(scaled, centred), centred, scaled

    def joint_of_several(self, x: Array) -> tuple[Array, Array]:
        """ln w_k N(x; m_k, C_k) without the powers of 2π, (rows, components); and W_k (x - m_k) with W_kᵀ W_k
        = C_k⁻¹, (rows, components, dim)."""
        xp, white = array_namespace(x), self.covariances.whiten(x[:, None, :] - self.means)
        squares = xp.sum(white * white, axis=-1) + self.covariances.logdet()
        return self.log_weights - 0.5 * squares, white

    def log_density(self, x: Array) -> Array:
        """ln p(x) of rows x, (rows, dim) to (rows,)."""
        if self.covariances.shared:
            log_joint, centred, _ = self.joint_of_one(x)
            return log_sum(log_joint) + self.covariances.log_normal(centred)
        return log_sum(self.joint_of_several(x)[0]) - 0.5 * self.dim * math.log(2 * math.pi)

    def score(self, x: Array) -> Array:
        """∂ ln p(x), (rows, dim)."""
        covariances = self.covariances
        if covariances.shared:
            log_joint, centred, scaled = self.joint_of_one(x)
            return combined(shares(log_joint), scaled) - covariances.solve(centred)
        log_joint, white = self.joint_of_several(x)
        return -combined(shares(log_joint), covariances.whiten_adjoint(white))

    def sample(self, uniforms: Array, z: Array) -> Array:
        """Draws, (rows, dim): uniforms (rows,) choose the components, normals z (rows, dim) the place.

        m_k + C_k^½ z, with the symmetric root of what is known by eigenvalues, else Cholesky's: either is
        unique, and so alike on every backend.
        """
        xp, roots = array_namespace(z), self.covariances.sqrt()
        below = xp.cumulative_sum(self.weights, axis=-1)[..., :-1]
        chosen = xp.sum(xp.astype(below <= uniforms[:, None], xp.int64), axis=-1)
        if self.rows is None:
            means = xp.take(self.means, chosen, axis=0)
        else:
            numbers = xp.arange(self.components, dtype=xp.int64, device=device(z))
            means = combined(xp.astype(numbers == chosen[:, None], z.dtype), self.means)
        if roots.shared:
            return means + roots.matvec(z)
        moved = xp.zeros_like(z)
        for k in range(self.components):
            moved = xp.where((chosen == k)[:, None], roots.take(k).matvec(z), moved)
        return means + moved


def shares(log_joint: Array) -> Array:
    """e^{log_joint} (..., components) that sum to one: the responsibilities."""
    xp = array_namespace(log_joint)
    joint = xp.exp(log_joint - xp.max(log_joint, axis=-1, keepdims=True))
    return joint / xp.sum(joint, axis=-1, keepdims=True)


def log_sum(log_joint: Array) -> Array:
    """ln Σ_k e^{log_joint_k} over the last axis."""
    xp, largest = array_namespace(log_joint), array_namespace(log_joint).max(log_joint, axis=-1)
    return largest + xp.log(xp.sum(xp.exp(log_joint - largest[..., None]), axis=-1))


def combined(weights: Array, values: Array) -> Array:
    """Σ_k w_k v_k of values (components, dim) or (rows, components, dim)."""
    if values.ndim == 2:
        return weights @ values
    return array_namespace(values).sum(weights[..., None] * values, axis=-2)


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
