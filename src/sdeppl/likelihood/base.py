"""What a mean likelihood is: l(y given x_t) = ∫ p(y given x_0) p(x_0 given x_t) dx_0, as a denoiser."""

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from array_api_compat import device

from ..backend import Array, BackendMismatch, array_namespace, in_chunks, rows_at_once
from ..backend.arguments import kind, refuse_former
from ..backend.sharing import cached_property, warn
from ..denoisers import Denoiser, Moments
from ..linalg import (
    Dense,
    Diagonal,
    LinearOperator,
    Triangular,
    as_operator,
    cholesky,
    matrix_transpose,
    project_psd,
    psd_or_diagonal,
)
from .observation import Linearisation, Observation, SiteApproximation

DENSE_LIMIT = 128  # numbers in x_0 up to which a covariance that is no matrix is written out
LEARNED_LIMIT = 16  # the same where C takes a product of a network for each number
ROUNDING = 1e-14  # of the mean information, for directions of which nothing was seen
JITTER = 1e-9  # of σ²/(α² + σ²), added to C so that it has a root
SMALLER = "use likelihood='sda' or 'dps', which need no covariance, fewer observed numbers, or fewer latents"


class PseudoObservation:
    """A Gaussian observation H x_0 + N(0, R): H an operator, (n, dim) or (batch, n, dim); noise: its R."""

    def __init__(self, H: Array | LinearOperator, noise: SiteApproximation) -> None:
        self.jacobian, self.noise = as_operator(H), noise

    @property
    def H(self) -> Array:
        """All entries of the operator."""
        return self.jacobian.dense()

    def reduction(self, cross: Array) -> Array:
        """U = C Hᵀ L⁻ᵀ with L Lᵀ = H C Hᵀ + R, for cross = C Hᵀ: C - U Uᵀ is the covariance given y."""
        projected = self.jacobian.matmat(cross)
        projected = 0.5 * (projected + matrix_transpose(projected))
        root = Triangular(cholesky(self.noise.noise.added_to(projected)))
        return matrix_transpose(root.solve_columns(matrix_transpose(cross)))


@dataclass(frozen=True)
class Guided:
    """What one evaluation of a mean likelihood gives, for x_t (batch, dim).

    prior: moments of x_0 given x_t; mean: of x_0 given x_t and y, (batch, dim); log_likelihood:
    ln l(y given x_t), (batch,); pseudo_observation: the Gaussian observation of x_0 near its mean that y
    amounts to, which makes the covariance of x_0 given x_t and y C - C Hᵀ (H C Hᵀ + R)⁻¹ H C; covariance:
    that covariance itself, (batch, dim, dim), where it is known otherwise. Both None where the method
    says nothing of it.
    """

    prior: Moments
    mean: Array
    log_likelihood: Array
    pseudo_observation: PseudoObservation | None = None
    covariance: Array | None = None

    @classmethod
    def unguided(cls, moments: Moments) -> "Guided":
        """Where nothing was observed."""
        return cls(moments, moments.mean, array_namespace(moments.mean).zeros_like(moments.mean[:, 0]))


class MeanLikelihood(Denoiser):
    """A prior's denoiser and an observation: the denoiser of x_0 given x_t and y.

    A subclass is one approximation of l(y given x_t); its mean is m + σ²/α ∂ ln l/∂x_t, so that
    Tweedie's formula gives the guided score ∂ ln p(x_t) + ∂ ln l(y given x_t). With no observed value it
    is the prior. `name`: as in `Posterior(likelihood=...)`; `gradient_free`: whether it does without the
    derivative of ln p(y given x_0).

    Raises: ValueError for an observation of another dimension or dtype than the prior's;
    BackendMismatch; TypeError for an observation that the method cannot take.
    """

    name: ClassVar[str]
    gradient_free: ClassVar[bool] = False
    needs: ClassVar[Literal["", "density", "jacobian"]] = ""  # of the observation
    covariance_is_slope = False  # but for a Gaussian x_0 and a linear observation

    def __init_subclass__(cls) -> None:
        refuse_former(cls, guide="guided", _guide="_guided")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.prior!r}, {self.observation!r})"

    def __init__(self, prior: Denoiser, observation: Observation) -> None:
        require_fit(prior, observation)
        if self.needs == "jacobian":
            require_jacobian(self.name, observation)
        if self.needs == "density":
            require_density(self.name, observation)
        self.sde, self.dim, self.backend = prior.sde, prior.dim, prior.backend
        self.prior = prior
        self.observation = observation

    def guided(self, x: Array, t: float) -> Guided:
        """Everything about x_0 given x_t = x and y, from one evaluation of the prior."""
        moments = self.prior(x, t)
        if self.observation.count:
            return self._guided(x, t, moments)
        return Guided.unguided(moments)

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        """`guided` by the prior's moments, where something was observed: what a subclass gives."""
        raise NotImplementedError(f"{type(self).__name__} gives neither _guided nor guided")

    def guide(self, x: Array, t: float) -> Guided:
        """The former name of `guided`."""
        warn("MeanLikelihood.guide is called guided now", DeprecationWarning, stacklevel=2)
        return self.guided(x, t)

    def log_likelihood(self, x: Array, t: float) -> Array:
        """ln l(y given x_t = x), (batch,)."""
        return self.guided(x, t).log_likelihood

    def mean(self, x: Array, t: float) -> Array:
        """E[x_0 given x_t = x, y], (batch, dim), in as many rows at a time as fit in memory.

        Raises: OutOfMemory where not even one does.
        """
        if self.observation.count == 0:
            return self.prior.mean(x, t)
        if self.backend.adapter.traced():
            return self._mean(x, t)
        batch = x.shape[0]
        return in_chunks(lambda rows, part: self._of_rows(part, batch)._mean(rows, t), x, self.rows_at_once)

    def _mean(self, x: Array, t: float) -> Array:
        """`mean` of rows that fit, where something was observed."""
        return self.guided(x, t).mean

    def row_numbers(self) -> int:
        """About how many numbers `guide` holds at once for a row of x_t; here as of a dense covariance."""
        n, dim = self.observation.count, self.dim
        return 4 * n * dim + 8 * n * n + 2 * dim * dim

    @cached_property
    def rows_at_once(self) -> int:
        """Rows of x_t that one call of `guide` is given in `mean`."""
        n, dim, itemsize = self.observation.count, self.dim, self.backend.itemsize
        what = f"one draw of {dim} latent numbers by likelihood='{self.name}', with {n} numbers observed,"
        return rows_at_once(self.row_numbers() * itemsize, self.backend, what, SMALLER)

    def _of_rows(self, part: slice, batch: int) -> "MeanLikelihood":
        """With the data of some of `batch` rows."""
        sets = self.observation.sets
        if sets is None or part == slice(0, batch):
            return self
        xp, each = self.backend.xp, batch // sets
        return self.of_sets(
            xp.arange(part.start, part.stop, dtype=xp.int64, device=self.backend.device) // each
        )

    def __call__(self, x: Array, t: float) -> Moments:
        """Mean and covariance; where the method knows no covariance, the prior's stands for it."""
        guided = self.guided(x, t)
        if guided.covariance is not None:
            return Moments(guided.mean, Dense(guided.covariance))
        if guided.pseudo_observation is None:
            return Moments(guided.mean, guided.prior.covariance)
        covariance = guided.prior.covariance.dense()
        if guided.prior.covariance.may_be_indefinite:
            covariance = project_psd(covariance)  # near T little trains the slope of a network
        pseudo = guided.pseudo_observation
        reduction = pseudo.reduction(covariance @ pseudo.jacobian.T.dense())
        return Moments(guided.mean, Dense(covariance - reduction @ matrix_transpose(reduction)))

    def _with_floor(self, covariance: LinearOperator, x: Array, t: float) -> Array:
        """C of each row, (batch, dim, dim), and a trace of the noise: a direction without variance, as of a
        prior on a subspace, has no root otherwise."""
        xp, (batch, dim), variance = self.backend.xp, x.shape, self.sde.sigma(t) ** 2
        identity = xp.eye(dim, dtype=self.backend.dtype, device=self.backend.device)
        floor = JITTER * variance / (self.sde.alpha(t) ** 2 + variance)
        return xp.broadcast_to(covariance.dense() + floor * identity, (batch, dim, dim))

    def of_sets(self, index: Array) -> "MeanLikelihood":
        """The same where row i of x_t belongs to data set index[i]; see `Observation.with_data`."""
        chosen = copy.copy(self)
        chosen.observation = self.observation.of_sets(index)
        return chosen


def require_fit(prior: Denoiser, observation: Observation) -> None:
    """Raises: TypeError; ValueError for another dimension or dtype than the prior's; BackendMismatch."""
    kind("prior", prior, Denoiser, "a Denoiser, such as GaussianDenoiser(sde, mean, covariance)")
    kind("observation", observation, Observation, "an Observation, such as LinearGaussian(H, y, R)")
    if observation.dim != prior.dim:
        raise ValueError(
            f"the observation operator takes {observation.dim} values, the prior has {prior.dim}"
        )
    ours, theirs = prior.backend, observation.backend
    if (ours.name, ours.device) != (theirs.name, theirs.device):
        raise BackendMismatch(
            f"y is of {theirs.name} on {theirs.device}, expected {ours.name} on {ours.device}; convert it "
            "with sdeppl.backend.convert"
        )
    if theirs.dtype != ours.dtype:
        raise ValueError(
            f"the observation is in {theirs.dtype}, the prior in {ours.dtype}; make both in one dtype"
        )


def require_jacobian(name: str, observation: Observation) -> None:
    """Raises: TypeError, naming the method, for an observation that cannot be linearised."""
    if not observation.has_jacobian:
        raise TypeError(
            f"likelihood='{name}' needs the derivative of the observation, which "
            f"{type(observation).__name__} has not; use likelihood='monte-carlo', which is gradient-free"
        )


def require_density(name: str, observation: Observation) -> None:
    """Raises: TypeError, naming the method, for a hard constraint, which has no p(y given x_0)."""
    if observation.hard:
        raise TypeError(
            f"likelihood='{name}' needs the density of y given x_0, which a hard constraint has not; use "
            "likelihood='tweedie', or LinearGaussian with a small variance"
        )


@dataclass(frozen=True)
class Innovation:
    """The Gaussian form that most mean likelihoods share: y = η + noise, with η ~ N(predicted, P) given x_t.

    l(y given x_t) = N(y; predicted, S), S = P + R, times the scale of the site approximation. root: L with
    L Lᵀ = S; weights: S⁻¹ (y - predicted), (batch, n); log_likelihood: (batch,).
    """

    root: LinearOperator
    weights: Array
    log_likelihood: Array

    @classmethod
    def of(cls, site: SiteApproximation, linear: Linearisation, projected: Array) -> "Innovation":
        """projected: P, (n, n) or (batch, n, n), in units of η²."""
        xp, root = array_namespace(linear.predicted), Triangular(cholesky(site.noise.added_to(projected)))
        residual = site.y - linear.predicted
        white = root.solve(residual)
        constant = root.logdet() + 0.5 * residual.shape[-1] * math.log(2 * math.pi)
        log_likelihood = site.log_scale - 0.5 * xp.sum(white * white, axis=-1) - constant
        return cls(root, root.rsolve(white), log_likelihood)


def compressed(linear: Linearisation, noise: SiteApproximation) -> tuple[Linearisation, SiteApproximation]:
    """The same function of δ = x_0 - m from dim numbers, where n > dim were observed.

    N(y; η + H δ, R) = N(y'; Lᵀ δ, I) times a number that log_scale takes, with L Lᵀ = Hᵀ R⁻¹ H and
    L y' = Hᵀ R⁻¹ (y - η). R must be diagonal and positive. Matrices of dim × dim take the place of n × n.
    Source: the information form of the Kalman filter.
    """
    xp, H, variances = array_namespace(linear.predicted), linear.H, noise.noise.diagonal()
    n, dim = H.shape[-2:]
    weight, residual = 1 / variances, noise.y - linear.predicted
    if H.ndim == 2 and weight.ndim == 2:
        products = xp.reshape(H[:, :, None] * H[:, None, :], (n, dim * dim))
        information = xp.reshape(weight @ products, (weight.shape[0], dim, dim))
    else:
        information = xp.matrix_transpose(H) @ (weight[..., :, None] * H)
    identity = xp.eye(dim, dtype=H.dtype, device=device(H))
    scale = xp.mean(xp.linalg.diagonal(information), axis=-1)[..., None, None]
    least = float(xp.finfo(H.dtype).smallest_normal)  # where nothing at all was seen, as of a scale alone
    root = Triangular(cholesky(information + xp.clip(ROUNDING * scale, min=least) * identity))
    y = root.solve(linear.jacobian.rmatvec(residual * weight))
    left_over = xp.sum(weight * residual * residual, axis=-1) - xp.sum(y * y, axis=-1)
    constant = 0.5 * (n - dim) * math.log(2 * math.pi)
    log_scale = noise.log_scale - 0.5 * (left_over + xp.sum(xp.log(variances), axis=-1)) - constant
    few = Linearisation(xp.zeros_like(y), root.T)
    return few, SiteApproximation(y, Diagonal(xp.ones_like(y)), log_scale)


def psd_part(
    covariance: LinearOperator, count: int, repair: Literal["eigenvalues", "diagonal"] = "diagonal"
) -> LinearOperator:
    """The covariance; a learned one of few numbers as a matrix, its positive part.

    Errors of a learned score can make C negative along some direction, S with it, and the gain
    then throws draws far away, silently; a true covariance has no such part. repair: by eigenvalues, or
    where a Cholesky factor, at a tenth of the cost, shows that a row is not positive, its variances alone.
    Of many numbers, more than 16 and than the `count` of products that are wanted, it stays an operator.
    """
    if not covariance.may_be_indefinite:
        return covariance
    dim = covariance.shape[-1]
    if dim > max(LEARNED_LIMIT, count) or dim > DENSE_LIMIT:
        return covariance
    dense = covariance.dense()
    return Dense(project_psd(dense) if repair == "eigenvalues" else psd_or_diagonal(dense))
