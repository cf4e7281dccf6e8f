"""Gaussian steps of the reverse SDE with the moments of the true ones, guided, and their weights."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from ..backend import Array, array_namespace
from ..likelihood import Guided, psd_part
from ..linalg import Dense, LinearOperator, Subspace, Triangular, cholesky, log_diagonal, psd_or_diagonal
from ..sde import StepCoefficients

DENSE_LIMIT = 64  # numbers in x up to which a step has a full covariance
LEARNED_LIMIT = 16  # the same where C takes a product with it for each number
DIRECTIONS = 8  # along which it has one, beyond


@dataclass(frozen=True)
class Proposal:
    """x_t ~ N(centre, L F Fᵀ Lᵀ) with F = I - K G⁻¹ Kᵀ, guided; unguided N(centre - L shift, L Lᵀ).

    root: L; K (dim, n) and G (n, n), lower triangular, or None where guidance leaves the covariance as it
    is; guided_root: a root of the guided covariance in place of L F; log_ratio: ln det of L F over that of
    L, (batch,); shift: (batch, dim).
    """

    centre: Array
    root: LinearOperator
    shift: Array
    log_ratio: Array
    K: LinearOperator | None = None
    G: LinearOperator | None = None
    guided_root: LinearOperator | None = None

    def take(self, index: Array) -> "Proposal":
        """The rows `index`; what is the same for all rows stays."""
        xp = array_namespace(self.centre)
        rows = (xp.take(part, index, axis=0) for part in (self.centre, self.shift, self.log_ratio))
        centre, shift, log_ratio = rows
        operators = (self.K, self.G, self.guided_root)
        return Proposal(
            centre,
            self.root.take(index),
            shift,
            log_ratio,
            *(None if operator is None else operator.take(index) for operator in operators),
        )

    def draw(self, z: Array) -> tuple[Array, Array]:
        """x_t for standard normals z (batch, dim), and ln of its unguided density over its guided one."""
        xp = array_namespace(z)
        if self.guided_root is not None:
            step = self.guided_root.matvec(z)
            white = self.root.solve(step)
        else:
            white = z
            if self.K is not None and self.G is not None:
                white = z - self.K.matvec(self.G.solve(self.K.rmatvec(z)))
            step = self.root.matvec(white)
        unguided = white + self.shift
        log_weight = 0.5 * xp.sum(z * z - unguided * unguided, axis=-1) + self.log_ratio
        return self.centre + step, log_weight


class MomentKernel:
    """Steps x_t ~ N(decay x_s + first m, noise² I + first² C): the true x_t given x_s has these moments.

    For x_0 drawn from p(x_0 given x_s), decay x_s + first x_0 + noise z is the reverse SDE's step exactly,
    for any noise amplitude c; with m and C, Tweedie's moments, this Gaussian has its first two moments, so a
    Gaussian prior is exact at any step length, and others to one order more than with noise² I alone.
    Guidance makes the moments those of x_0 given x_s and y. Up to 64 numbers in x (16 where each costs a
    product with C), or where C is the same for all x, C counts in full; beyond, in full along `Q`, the
    leading directions of the prior's covariance (at most 8), and isotropic across them, with the mean over
    the other directions of σ² λ/(α² λ + σ²), λ the prior's variance.

    basis, variances: of the prior's covariance, rising; of many numbers the leading
    eigenvectors alone. Source: Bao et al. 2022 (Analytic-DPM) for the
    optimal isotropic variance; the rest is the law of total covariance.
    """

    def __init__(self, basis: Array, variances: Array) -> None:
        xp, dim = array_namespace(basis), basis.shape[0]
        self.dim = dim
        median = float(variances[dim // 2])
        count = int(xp.count_nonzero(variances > 4 * median))
        kept = min(max(count, 1), DIRECTIONS, basis.shape[1])
        self.Q = basis[:, basis.shape[1] - kept :]
        others: Any = variances[: dim - kept]
        self.across = [max(float(v), 0.0) for v in others] or [0.0]

    def propose(self, x: Array, guided: Guided, step: StepCoefficients, ratio: float) -> Proposal:
        """The step from x (batch, dim); ratio: σ²/α² at its start."""
        xp, prior = array_namespace(x), guided.prior
        centre = step.decay * x + step.first * guided.mean
        if step.shift is not None:
            centre = centre + step.shift
        C = self._covariance(guided, ratio)
        root = (C * step.first**2).shifted(step.noise**2).sqrt()
        shift = step.first * root.solve(guided.mean - prior.mean)
        zero = xp.sum(0 * shift, axis=-1)
        if guided.covariance is not None and C.materialised:
            own = (Dense(guided.covariance) * step.first**2).shifted(step.noise**2).sqrt()
            return Proposal(centre, root, shift, own.logdet() - root.logdet() + zero, guided_root=own)
        pseudo = guided.pseudo_observation
        if pseudo is None:
            return Proposal(centre, root, shift, zero)
        K = step.first * root.solve_columns(pseudo.reduction(C.matmat(pseudo.jacobian.T.dense())))
        gram = xp.matrix_transpose(K) @ K
        identity = xp.eye(gram.shape[-1], dtype=x.dtype, device=device(x))
        G = cholesky(identity - gram)
        return Proposal(centre, root, shift, log_diagonal(G) + zero, Dense(K), Triangular(identity + G))

    def _covariance(self, guided: Guided, ratio: float) -> LinearOperator:
        """Cov[x_0 given x_s] as far as the step needs it."""
        xp, covariance = array_namespace(self.Q), guided.prior.covariance
        if covariance.shared and not covariance.materialised and self.dim > DENSE_LIMIT:
            return covariance  # on a grid, whose roots are products
        if covariance.shared or self.dim <= (DENSE_LIMIT if covariance.materialised else LEARNED_LIMIT):
            return Dense(psd_part(covariance, self.dim).dense())
        variance = sum(v * ratio / (v + ratio) for v in self.across) / len(self.across)
        inner = self.Q.T @ covariance.matmat(self.Q)
        inner = psd_or_diagonal(0.5 * (inner + xp.matrix_transpose(inner)))
        return Subspace(self.Q, Dense(inner), variance)
