"""Gaussian steps of the reverse SDE with the moments of the true ones, guided, and their weights."""

import math
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import cholesky, log_diagonal, solve_lower
from ..likelihood import Guided, psd_part
from ..linalg import psd_or_diagonal
from ..sde import StepCoefficients

DENSE_LIMIT = 64  # numbers in x up to which a step has a full covariance
LEARNED_LIMIT = 16  # the same where C takes a product with it for each number
DIRECTIONS = 8  # along which it has one, beyond


def rows(matrix: Any, v: Any) -> Any:
    """matrix @ v row by row: matrix (n, k) or (batch, n, k), v (batch, k)."""
    return v @ matrix.T if matrix.ndim == 2 else (matrix @ v[..., None])[..., 0]


@dataclass(frozen=True)
class Proposal:
    """x_t ~ N(centre, L F Fᵀ Lᵀ) with F = I - K G⁻¹ Kᵀ, guided; unguided N(centre - L shift, L Lᵀ).

    root: what multiplies by L and L⁻¹; K (dim, n) or (batch, dim, n) and G (n, n) or (batch, n, n), lower
    triangular, or None where guidance leaves the covariance as it is; guided_root: (batch, dim, dim), a
    root of the guided covariance in place of L F; log_ratio: ln det of L F over that of L, (batch,);
    shift: (batch, dim).
    """

    centre: Any
    root: Any
    shift: Any
    K: Any | None
    G: Any | None
    log_ratio: Any
    guided_root: Any | None = None

    def take(self, index: Any) -> "Proposal":
        """The rows `index`; what is the same for all rows stays."""
        xp = array_namespace(self.centre)

        def pick(value: Any, dims: int) -> Any:
            shared = not hasattr(value, "ndim") or value.ndim < dims
            return value if shared else xp.take(value, index, axis=0)

        return Proposal(
            pick(self.centre, 2),
            self.root.take(index),
            pick(self.shift, 2),
            pick(self.K, 3),
            pick(self.G, 3),
            pick(self.log_ratio, 1),
            pick(self.guided_root, 3),
        )

    def draw(self, z: Any) -> tuple[Any, Any]:
        """x_t for standard normals z (batch, dim), and ln of its unguided density over its guided one."""
        xp = array_namespace(z)
        if self.guided_root is not None:
            step = rows(self.guided_root, z)
            white = self.root.back(step)
        else:
            white = z
            if self.K is not None:
                inner = MatrixRoot(self.G).back(rows(xp.matrix_transpose(self.K), z))
                white = z - rows(self.K, inner)
            step = self.root.forward(white)
        unguided = white + self.shift
        log_weight = 0.5 * xp.sum(z * z - unguided * unguided, axis=-1) + self.log_ratio
        return self.centre + step, log_weight


@dataclass(frozen=True)
class MatrixRoot:
    """L, (dim, dim) or (batch, dim, dim)."""

    L: Any

    def forward(self, v: Any) -> Any:
        """L v row by row."""
        return rows(self.L, v)

    def back(self, v: Any) -> Any:
        """L⁻¹ v row by row."""
        if self.L.ndim == 2:
            return solve_lower(self.L, v.T).T
        return solve_lower(self.L, v[..., None])[..., 0]

    def back_columns(self, M: Any) -> Any:
        """L⁻¹ M, M (dim, k) or (batch, dim, k)."""
        return solve_lower(self.L, M)

    def take(self, index: Any) -> "MatrixRoot":
        """The rows `index`."""
        if self.L.ndim == 2:
            return self
        return MatrixRoot(array_namespace(self.L).take(self.L, index, axis=0))


@dataclass(frozen=True)
class SubspaceRoot:
    """L = √v (I - Q Qᵀ) + Q L_Q Qᵀ: full on the columns of Q (dim, q), isotropic across them.

    inner: L_Q, (q, q) or (batch, q, q); scale: √v.
    """

    Q: Any
    inner: Any
    scale: float

    def forward(self, v: Any) -> Any:
        """L v row by row."""
        along = v @ self.Q
        return self.scale * v + (rows(self.inner, along) - self.scale * along) @ self.Q.T

    def back(self, v: Any) -> Any:
        """L⁻¹ v row by row."""
        along = v @ self.Q
        return v / self.scale + (MatrixRoot(self.inner).back(along) - along / self.scale) @ self.Q.T

    def back_columns(self, M: Any) -> Any:
        """L⁻¹ M, M (dim, k) or (batch, dim, k)."""
        along = self.Q.T @ M
        return M / self.scale + self.Q @ (MatrixRoot(self.inner).back_columns(along) - along / self.scale)

    def take(self, index: Any) -> "SubspaceRoot":
        """The rows `index`."""
        return replace(self, inner=MatrixRoot(self.inner).take(index).L)


class MomentKernel:
    """Steps x_t ~ N(decay x_s + first m, noise² I + first² C): the true x_t given x_s has these moments.

    For x_0 drawn from p(x_0 given x_s), decay x_s + first x_0 + noise z is the reverse SDE's step exactly,
    for any noise amplitude c; with m and C, Tweedie's moments, this Gaussian has its first two moments, so a
    Gaussian prior is exact at any step length, and others to one order more than with noise² I alone.
    Guidance makes the moments those of x_0 given x_s and y. Up to 64 numbers in x (16 where each costs a
    product with C), or where C is the same for all x, C counts in full; beyond, in full along `Q`, the
    leading directions of the prior's covariance (at most 8), and isotropic across them, with the mean over
    the other directions of σ² λ/(α² λ + σ²), λ the prior's variance.

    basis, variances: of the prior's covariance, rising. Source: Bao et al. 2022 (Analytic-DPM) for the
    optimal isotropic variance; the rest is the law of total covariance.
    """

    def __init__(self, basis: Any, variances: Any) -> None:
        xp, dim = array_namespace(basis), basis.shape[0]
        self.dim = dim
        median = float(variances[dim // 2])
        count = int(xp.count_nonzero(variances > 4 * median))
        kept = min(max(count, 1), DIRECTIONS)
        self.Q = basis[:, dim - kept :]
        self.across = [max(float(v), 0.0) for v in variances[: dim - kept]] or [0.0]

    def propose(self, x: Any, guided: Guided, step: StepCoefficients, ratio: float) -> Proposal:
        """The step from x (batch, dim); ratio: σ²/α² at its start."""
        xp, prior = array_namespace(x), guided.prior
        centre = step.decay * x + step.first * guided.mean
        if step.shift is not None:
            centre = centre + step.shift
        root, columns = self._root(guided, step, ratio)
        shift = step.first * root.back(guided.mean - prior.mean)
        zero = xp.sum(0 * shift, axis=-1)
        if guided.covariance is not None and isinstance(root, MatrixRoot):
            own = cholesky(_step_covariance(guided.covariance, step))
            log_ratio = log_diagonal(own) - log_diagonal(root.L) + zero
            return Proposal(centre, root, shift, None, None, log_ratio, own)
        if guided.pseudo_observation is None:
            return Proposal(centre, root, shift, None, None, zero)
        reduction = guided.pseudo_observation.reduction(
            columns(xp.matrix_transpose(guided.pseudo_observation.H))
        )
        K = step.first * root.back_columns(reduction)
        gram = xp.matrix_transpose(K) @ K
        identity = xp.eye(gram.shape[-1], dtype=x.dtype, device=device(x))
        G = cholesky(identity - gram)
        return Proposal(centre, root, shift, K, identity + G, log_diagonal(G) + zero)

    def _root(self, guided: Guided, step: StepCoefficients, ratio: float) -> tuple[Any, Any]:
        """L, and M ↦ C M with the C that it is made of."""
        xp, covariance = array_namespace(self.Q), guided.prior.covariance
        if covariance.shared or self.dim <= (DENSE_LIMIT if covariance.materialised else LEARNED_LIMIT):
            dense = psd_part(covariance, self.dim).dense()
            return MatrixRoot(cholesky(_step_covariance(dense, step))), lambda M: dense @ M
        variance = sum(v * ratio / (v + ratio) for v in self.across) / len(self.across)
        inner = self.Q.T @ covariance.matmat(self.Q)
        inner = psd_or_diagonal(0.5 * (inner + xp.matrix_transpose(inner)))
        scale = math.sqrt(step.noise**2 + step.first**2 * variance)
        root = SubspaceRoot(self.Q, cholesky(_step_covariance(inner, step)), scale)

        def columns(M: Any) -> Any:
            along = self.Q.T @ M
            return variance * M + self.Q @ (inner @ along - variance * along)

        return root, columns


def _step_covariance(matrix: Any, step: StepCoefficients) -> Any:
    """noise² I + first² C."""
    xp = array_namespace(matrix)
    identity = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=device(matrix))
    return step.noise**2 * identity + step.first**2 * matrix
