"""The Gaussian mean likelihood with Tweedie's mean and exact covariance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..backend import Array, array_namespace, whole_number
from ..denoisers import Denoiser, Moments
from ..linalg import (
    Dense,
    LinearOperator,
    LowRankUpdate,
    ObservedCovariance,
    matrix_transpose,
    matvec,
    psd_or_diagonal,
)
from ..linalg.conjugate_gradients import iterated
from .base import (
    DENSE_LIMIT,
    Guided,
    Innovation,
    MeanLikelihood,
    PseudoObservation,
    compressed,
    psd_part,
)
from .observation import Linearisation, Observation, SiteApproximation

TOLERANCE, LEARNED_TOLERANCE = 1e-6, 1e-3
LEARNED_ITERATIONS = 32
PRECONDITIONED = 512  # observed numbers up to which a matrix of their size is inverted in each step
METHODS = ("auto", "dense", "matrix-free", "low-rank")


@dataclass
class Spent:
    """How many rows of x_t were asked for their mean, and how many products with the covariance of a row were
    taken for them where it is known by products."""

    evaluations: int = 0
    products: int = 0


class TweedieDenoiser(MeanLikelihood):
    """x_0 given x_t and y, with p(x_0 given x_t) taken as N(m, C), Tweedie's moments.

    l(y given x_t) = N(y; η(m), S), S = H C Hᵀ + R with H the Jacobian of the predictor η at m; noise that is
    not Gaussian enters by its surrogate. Exact for a Gaussian x_0 and a linear Gaussian observation; for
    others the Gaussian form is the approximation, best where p(x_0 given x_t) is narrow.

    gradient='full' differentiates l through m and through S, log-determinant included: with q = S⁻¹ (y -
    η(m)), ∂ ln l = α/σ² C Hᵀ q + ½ ∂ tr(S (q qᵀ - S⁻¹)) at q and S⁻¹ held fixed, so that the mean is
    m + σ²/α ∂ ln l. 'mean' leaves out the second term, which is 0 where C and H do not depend on x_t: the
    mean is then Kalman's, m + C Hᵀ q, and n observations cost n products with C less.

    prior: any denoiser; observation: on the prior's backend. method: 'dense' forms S and factors it;
    'matrix-free' needs one product with C per iteration of conjugate gradients, run until the residual is
    below `tolerance` of |y - η(m)|, 1e-6 by default, and 1e-3 for a network's C, whose own error is larger; a
    row that has not converged after `iterations` (2 × observations by default) becomes NaN, which a solve
    reports; a network's C is neither quite symmetric nor positive, and there it takes what has the smallest
    residual; 'low-rank' takes H C Hᵀ on the `rank` directions along which it is largest at T (Nyström);
    these two know the gradient of 'mean' alone. 'auto':
    dense where C is at hand or dim ≤ 128; where it is the same for all x, as of a Gaussian prior that is held
    by its structure, S in the cheapest form that it has (`linalg.ObservedCovariance`). A learned C counts by
    its positive part; repair: how that is found (`psd_part`).

    Raises: as `MeanLikelihood`; ValueError for an unknown method or gradient; TypeError for an observation
    without a Jacobian. Source: Rozet et al. 2024 (MMPS), eq. 11-13; Boys et al. 2023 (TMPD); the full
    gradient is the chain rule.
    """

    name = "tweedie"
    needs = "jacobian"

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation,
        method: Literal["auto", "dense", "matrix-free", "low-rank"] = "auto",
        tolerance: float | None = None,
        iterations: int | None = None,
        gradient: Literal["full", "mean"] = "full",
        rank: int = 16,
        repair: Literal["eigenvalues", "diagonal"] = "eigenvalues",
    ) -> None:
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(
                f"method={method!r} is unknown; use 'auto', 'dense', 'matrix-free' or 'low-rank'"
            )
        if not isinstance(gradient, str) or gradient not in ("full", "mean"):
            raise ValueError(f"gradient={gradient!r} is unknown; use 'full' or 'mean'")
        super().__init__(prior, observation)
        self.method, self.gradient, self.repair = method, gradient, repair
        self.tolerance = tolerance
        self.iterations = 2 * observation.count
        if iterations is not None:
            self.iterations = whole_number("TweedieDenoiser: iterations", iterations, 0)
        self.low_rank = LowRank.of(prior, observation, rank) if method == "low-rank" else None
        self.of_time: tuple[float, ObservedCovariance] | None = None
        self.spent = Spent()

    def row_numbers(self) -> int:
        n, dim, covariance = self.observation.count, self.dim, self.prior(self.end, self.sde.T).covariance
        if covariance.shared and self.observation.is_linear:
            return (4 if self._dense(covariance) else 12) * (n + dim)
        if self._dense(covariance):
            wide = min(n, dim) if n > dim and dim <= DENSE_LIMIT and self.gradient == "mean" else n
            return 4 * n * dim + 8 * wide * wide + (0 if covariance.shared else 2 * dim * dim)
        return 8 * (n + dim) + (0 if self.observation.is_linear else 2 * n * dim)

    def _mean(self, x: Array, t: float) -> Array:
        moments = self.prior(x, t)
        self.spent.evaluations += x.shape[0]
        if self._dense(moments.covariance):
            return self._guided(x, t, moments).mean
        linear = self.observation.linearise(moments.mean)
        if self.low_rank is not None:
            weights = self.low_rank.weights(self.observation, linear, moments.covariance)
            return moments.mean + moments.covariance.matvec(linear.jacobian.rmatvec(weights))
        if self.method == "auto" and moments.covariance.shared and self.observation.is_linear:
            site = self.observation.site_approximation(linear, 0 * linear.predicted)
            weights = self._observed(t, linear, moments, site).solve(site.y - linear.predicted)
            return moments.mean + moments.covariance.matvec(linear.jacobian.rmatvec(weights))
        shift, products = matrix_free_shift(
            self.observation, linear, moments.covariance, self.tolerance, self.iterations
        )
        self.spent.products += x.shape[0] * products
        return moments.mean + shift

    def _observed(
        self, t: float, linear: Linearisation, moments: Moments, site: SiteApproximation
    ) -> ObservedCovariance:
        """S at t, one for all x: kept, for all rows of a step may not come at once."""
        if self.of_time is None or self.of_time[0] != t:
            self.of_time = t, ObservedCovariance(linear.jacobian, moments.covariance, site.noise)
        return self.of_time[1]

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        xp = self.backend.xp
        covariance = psd_part(moments.covariance, self.observation.count, self.repair)
        moments = Moments(moments.mean, covariance)
        linear = self.observation.linearise(moments.mean)
        H = linear.H
        cross = covariance.matmat(xp.matrix_transpose(H))
        variance = xp.clip(xp.sum(H * xp.matrix_transpose(cross), axis=-1), min=0.0)
        noise = self.observation.site_approximation(linear, variance)
        bends = not linear.jacobian.shared or linear.noise is not None
        if self._is_compressible(linear, noise, bends):
            linear, noise = compressed(linear, noise)
            cross = covariance.matmat(linear.jacobian.T.dense())
        projected = projected_covariance(linear, cross, covariance)
        innovation = Innovation.of(noise, linear, projected)
        shift = matvec(cross, innovation.weights)
        if self.gradient == "full":
            shift = shift + self._slopes(x, t, moments, linear, cross, innovation, bends)
        pseudo = PseudoObservation(linear.jacobian, noise)
        return Guided(moments, moments.mean + shift, innovation.log_likelihood, pseudo)

    def _is_compressible(self, linear: Linearisation, noise: SiteApproximation, bends: bool) -> bool:
        """Whether more numbers were seen than are in x_0, and no gradient asks how each depends on x."""
        many = linear.jacobian.shape[0] > self.dim and self.dim <= DENSE_LIMIT
        return (
            many and noise.diagonal and not self.observation.hard and not (bends and self.gradient == "full")
        )

    def _dense(self, covariance: LinearOperator) -> bool:
        if self.method == "auto":
            return covariance.materialised or self.dim <= DENSE_LIMIT
        return self.method == "dense"

    def _slopes(
        self,
        x: Array,
        t: float,
        moments: Moments,
        linear: Linearisation,
        cross: Array,
        innovation: Innovation,
        bends: bool,
    ) -> Array:
        """σ²/α times the gradient of ln l through S: by C's slope, and, where the observation `bends`, by
        that of its H and R."""
        xp, covariance = self.backend.xp, moments.covariance
        shift: Any = 0.0
        inverse, q = innovation.root.inverse().dense(), innovation.weights
        rows = xp.broadcast_to(inverse, (q.shape[0], *inverse.shape[-2:]))
        directions = xp.concat([q[:, None, :], rows], axis=1)  # q qᵀ - S⁻¹ = Σ_a w_a u_a u_aᵀ
        signs = xp.ones_like(directions[:, :, 0])
        signs = xp.concat([signs[:, :1], -signs[:, 1:]], axis=1)
        if not covariance.shared:
            V = xp.matrix_transpose(directions @ linear.H)
            sde = self.sde
            shift = 0.5 * sde.sigma(t) ** 2 / sde.alpha(t) * self.prior.covariance_slope(x, t, V, signs)
        if bends:
            weights = xp.matrix_transpose(signs[:, :, None] * directions) @ directions
            shift = shift + covariance.matvec(self._bend(moments.mean, linear, cross, weights))
        return shift

    def _bend(self, m: Array, linear: Linearisation, cross: Array, weights: Array) -> Array:
        """∂/∂m ½ tr(W (H C Hᵀ + R)) with H and R at m, W (batch, n, n) and C held fixed, for cross = C Hᵀ."""
        xp, of_R = self.backend.xp, None
        of_H = weights @ xp.matrix_transpose(cross)
        if linear.noise is not None:
            of_R = 0.5 * (xp.linalg.diagonal(weights) if linear.noise.is_diagonal else weights)
        return self.observation.bend(m, of_H, of_R)


def projected_covariance(linear: Linearisation, cross: Array, covariance: LinearOperator) -> Array:
    """H C Hᵀ, symmetric; of a learned C that is no matrix, the positive part."""
    xp = array_namespace(cross)
    projected = linear.jacobian.matmat(cross)
    projected = 0.5 * (projected + xp.matrix_transpose(projected))
    return psd_or_diagonal(projected) if covariance.may_be_indefinite else projected


def matrix_free_shift(
    observation: Observation,
    linear: Linearisation,
    covariance: LinearOperator,
    tolerance: float | None,
    iterations: int,
) -> tuple[Array, int]:
    """C Hᵀ S⁻¹ (y - η), (batch, dim), by one product with C an iteration, and how many there were.

    Where C has a Gaussian part (`LinearOperator.near`), with one H and R for all rows, the iterations
    start from that part's S⁻¹, which leaves them what the network adds. A network's C is `learned`: 1e-3
    is its default tolerance, and 32 the most iterations, since its own error is larger. Of others it is 1e-6.
    """
    site, H = observation.site_approximation(linear, 0 * linear.predicted), linear.jacobian

    def product(v: Array) -> tuple[Array, Array]:
        wanted = covariance.matvec(H.rmatvec(v))
        return H.matvec(wanted) + site.noise.matvec(v), wanted

    part = covariance.near
    learned = part is not None
    # without R it may not exist
    precondition = None if observation.hard or part is None else _near_solve(H, part, site.noise)
    residual = site.y - linear.predicted
    goal = tolerance or (LEARNED_TOLERANCE if learned else TOLERANCE)
    most = min(iterations, LEARNED_ITERATIONS) if learned else iterations
    return iterated(product, residual, goal, most, precondition, learned)


def _near_solve(
    H: LinearOperator, part: LinearOperator, noise: LinearOperator
) -> Callable[[Array], Array] | None:
    """b ↦ (H C Hᵀ + R)⁻¹ b for a C near the true one; None where no one matrix serves all rows, or it is too
    large to be factored."""
    if not (H.shared and part.shared and noise.shared):
        return None
    if H.shape[0] <= PRECONDITIONED and H.single_entries is None:
        return (H @ part @ H.T + noise).inverse().matvec
    S = ObservedCovariance(H, part, noise)
    return None if S.closed is None else S.solve


@dataclass(frozen=True)
class LowRank:
    """S ≈ Y (Ωᵀ Y)⁻¹ Yᵀ + R with Y = H C Hᵀ Ω (Nyström), Ω (n, rank) the same at every t.

    Ω: the leading eigenvectors of H C Hᵀ at T, where C is nearly the prior's covariance. Exact where
    H C Hᵀ has no more than `rank` directions. Source: Williams & Seeger 2001.
    """

    directions: Array

    @classmethod
    def of(cls, prior: Denoiser, observation: Observation, rank: int) -> "LowRank":
        """From the prior's covariance at T. Raises: ValueError for a rank below 1."""
        rank = whole_number("rank", rank, 1)
        xp, moments = prior.backend.xp, prior(prior.end, prior.sde.T)
        H, C = observation.linearise(moments.mean).jacobian, moments.covariance
        H, C = H if H.shared else H.take(0), C if C.shared else Dense(C.dense()[0, ...])
        projected = H.matmat(C.matmat(H.T.dense()))
        _, basis = xp.linalg.eigh(0.5 * (projected + projected.T))
        return cls(basis[:, max(observation.count - rank, 0) :])

    def weights(self, observation: Observation, linear: Linearisation, covariance: LinearOperator) -> Array:
        """S⁻¹ (y - η), (batch, n), by rank products with C and Woodbury's identity."""
        xp, H = array_namespace(linear.predicted), linear.jacobian
        Y = H.matmat(covariance.matmat(H.T.matmat(self.directions)))
        core = self.directions.T @ Y
        core = 0.5 * (core + matrix_transpose(core))
        site = observation.site_approximation(linear, xp.sum(Y * self.directions, axis=-1))
        return LowRankUpdate(site.noise, Y, core).solve(site.y - linear.predicted)
