"""Gaussian mixtures."""

import math
from typing import Generic, TypeVar

from array_api_compat import array_namespace, device

from ..backend import Array
from ..linalg import LinearOperator, matvec

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

    @property
    def rows(self) -> int | None:
        """Rows of which each has its own, or None."""
        return self.log_weights.shape[0] if self.log_weights.ndim == 2 else None

    @property
    def weights(self) -> Array:
        """w_k, as `log_weights`."""
        return array_namespace(self.log_weights).exp(self.log_weights)

    @property
    def mean(self) -> Array:
        """Of all components, (dim,) or (rows, dim)."""
        return combined(self.weights, self.means)

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
