"""Where the reverse SDE starts."""

import math
from dataclasses import dataclass, replace

from ..backend import Array, NoiseStream, array_namespace, backend_of, keyed_normal
from ..backend.sharing import warn
from ..denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser
from ..likelihood import GaussianPosterior
from ..linalg import (
    DENSE,
    Dense,
    Diagonalisable,
    LinearOperator,
    Spectral,
    largest_eigenvalue,
    matvec,
    rmatvec,
)
from ..sde import IsotropicSDE, log_snr_grid
from ..solvers import NonFiniteState

SIGNAL_LIMIT = 0.05  # of the variance of x_T along a direction, where p(x_T) is not known to be Gaussian
GAUSSIAN_SIGNAL_LIMIT = 0.5
ITERATIONS = 5
LAST_LEVEL = 1e-3  # σ/α before the step to t = 0, at most
LEFT_OUT = 1e-4  # of the variance of a large Gaussian, in directions of which no step is as small as their sd
WITH_STRUCTURE = 512  # numbers of a black box near one that has a structure, in the place of DENSE
RANK, SKETCH, PASSES, SIGNS = 48, 64, 3, 32  # of the leading directions of a larger one
SKETCHED = (0x6C656164, 0)
START = 2**14, 2**14 + 1  # indices of normals of which x_T given y is made


class SignalLeftWarning(UserWarning):
    """The forward SDE ends with so much signal left that its end is not close to Gaussian noise."""


@dataclass(frozen=True)
class Start:
    """x_T ~ N(mean, root²): mean (dim,) or (data sets, dim), root a symmetric operator, one or as many.

    smallest_sd: the smallest standard deviation of x_0 given x_T along any direction in which the
    prior varies, in the units of x_0; no smaller than rounding lets it be seen. spread: Cov[x_0 given x_T],
    which is nearly that of x_0. exact: a mixture whose x_T is drawn exactly instead, or None.
    """

    mean: Array
    root: LinearOperator
    smallest_sd: float
    spread: Diagonalisable
    exact: GaussianMixtureDenoiser | None = None

    @property
    def variances(self) -> Array:
        """Eigenvalues of `spread`, (..., dim), rising."""
        if _by_eigenvectors(self.spread):
            return self.spread.eigenvalues
        return array_namespace(self.mean).sort(_all_eigenvalues(self.spread), axis=-1)

    @property
    def basis(self) -> Array:
        """Its eigenvectors in their order, (..., dim, dim), or the leading ones. Raises: ValueError where
        that is too much."""
        if _by_eigenvectors(self.spread):
            return self.spread.basis
        if isinstance(self.spread, Spectral):  # of the leading directions, as they were found
            order = array_namespace(self.mean).argsort(self.spread.along)
        else:
            order = array_namespace(self.mean).argsort(_all_eigenvalues(self.spread))
        return array_namespace(self.mean).take(self.spread.basis, order, axis=-1)

    @property
    def visible(self) -> Diagonalisable:
        """`spread` of one data set without the directions whose variance cannot be told from rounding, where
        it is known by eigenvectors."""
        if not _by_eigenvectors(self.spread):
            return self.spread
        xp, (variances, basis) = array_namespace(self.mean), (self.spread.eigenvalues, self.spread.basis)
        dim = variances.shape[0]
        visible = 4 * dim * float(xp.finfo(variances.dtype).eps) * float(variances[-1])
        rank = max(int(xp.count_nonzero(variances > visible)), 1)
        return Spectral(basis[:, dim - rank :], variances[dim - rank :])

    def draw(self, stream: NoiseStream, draws: int, index: int = 0) -> Array:
        """x_T, (draws, dim), from the stream's normals of step 0; of many data sets, as `of_sets` has
        them."""
        dim = self.mean.shape[-1]
        if self.exact is not None:
            uniforms, z = stream.uniform(0, draws, index), stream.normal(0, (draws, dim), index)
            return self.exact.sample(self.exact.sde.T, uniforms, z)
        return self.mean + self.root.rmatvec(stream.normal(0, (draws, dim), index))

    def of_sets(self, index: Array | None) -> "Start":
        """For draws of which the i-th belongs to data set index[i]; itself where all share one."""
        if index is None or self.mean.ndim == 1:
            return self
        take = array_namespace(index).take
        return replace(
            self,
            mean=take(self.mean, index, axis=0),
            root=self.root.take(index),
            exact=None if self.exact is None else self.exact.of_sets(index),
        )


@dataclass(frozen=True)
class GaussianStart:
    """x_T given y of a Gaussian posterior, of any number of numbers: α x_0 + σ ε, with x_0 from it.

    numbers: the data set of each row, where there are many. smallest_sd: as of `Start`, along any of the
    directions that have all but 1e-4 of the prior's variance; a lower bound.
    """

    posterior: GaussianPosterior
    smallest_sd: float
    numbers: Array | None = None

    @classmethod
    def of(cls, posterior: GaussianPosterior) -> "GaussianStart":
        """Of any posterior, whatever signal is left in x_T."""
        return cls(posterior, 1 / math.sqrt(1 / _smallest_variance(posterior.prior) + posterior.information))

    def draw(self, stream: NoiseStream, draws: int, index: int = 0) -> Array:
        """x_T, (draws, dim), from the stream's normals of step 0, and of two of its own."""
        prior, (first, second) = self.posterior.prior, START
        shape, sde = (draws, prior.dim), prior.sde
        alpha, sigma = sde.alpha_sigma(sde.T)
        z, e = stream.normal(0, shape, first), stream.normal(0, (draws, self.posterior.count), second)
        x0 = self.posterior.draws(z, e, self.numbers)
        return alpha * x0 + sde.shift(sde.T) + sigma * stream.normal(0, shape, index)

    def of_sets(self, index: Array | None) -> "GaussianStart":
        """For draws of which the i-th belongs to data set index[i]."""
        return self if index is None else replace(self, numbers=index)


def _smallest_variance(prior: GaussianDenoiser) -> float:
    """Of x_0 along any direction, nearly; among those that have all but 1e-4 of its variance, where C is held
    by eigenvalues."""
    C = prior.prior_covariance
    if not isinstance(C, Diagonalisable):
        return 1 / largest_eigenvalue(C.inverse().matvec, prior.dim, prior.backend)
    values = C.eigenvalues
    xp = array_namespace(values)
    falling = xp.flip(xp.sort(values))
    carried = xp.cumulative_sum(falling) <= (1 - LEFT_OUT) * xp.sum(falling)
    return float(falling[min(int(xp.count_nonzero(carried)), falling.shape[0] - 1)])


def start_moments(denoiser: Denoiser, prior: Denoiser | None = None, sets: int | None = None) -> Start:
    """The Gaussian whose score has the denoiser's value and slope at its own mean, at t = T.

    With m and C the moments of x_0 given x_T = x: covariance Σ = σ² (I - α²/σ² C)⁻¹ and mean
    x + Σ (α m - x)/σ², iterated from x = 0. Exact for a Gaussian x_0, whatever is left of it at T; for
    others as good as x_T is close to Gaussian. A guided denoiser gives the moments of x_T given y, of as many
    data sets as `sets`; `prior` is then the unguided one.

    Warns: SignalLeftWarning where the largest eigenvalue of α²/σ² C shows that x_T is not mostly
    noise.
    """
    xp, sde, backend = denoiser.backend.xp, denoiser.sde, denoiser.backend
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    exact = denoiser if isinstance(denoiser, GaussianMixtureDenoiser) else None
    if sets is not None and exact is not None:  # drawn exactly, so that no moments are needed
        C = exact.mixture.covariances.dense()
        variances, basis = xp.linalg.eigh(C if C.ndim == 2 else C[0, ...])
        return Start(exact.mixture.mean, Dense(basis), exact.smallest_sd, Spectral(basis, variances), exact)
    if prior is not None and prior is not denoiser and is_large(prior):
        return _guided_start(denoiser, start_moments(prior), sets)
    x = xp.zeros((sets or 1, denoiser.dim), dtype=backend.dtype, device=backend.device)
    shift = sde.shift(sde.T)  # the iteration runs on x_T - m(T)
    eps = float(xp.finfo(backend.dtype).eps)
    for _ in range(ITERATIONS):
        moments = denoiser(x + shift, sde.T)
        structure = _structure(moments.covariance) if sets is None else None
        if structure is not None:
            return _structured(denoiser, structure)
        variances, basis = _eigenbasis(moments.mean, moments.covariance, sets)
        share = (alpha / sigma) ** 2 * variances
        # in float32 the difference from 1 must be a number that float32 knows
        noise = 1 - xp.clip(share, 0.0, 1 - max(1e-9, eps))
        pull = rmatvec(basis, alpha * moments.mean - x) / noise
        x = x + matvec(basis, pull)
    unguided = moments.covariance if prior is None else prior(x[:1, :] + shift, sde.T).covariance
    if exact is None:  # a mixture's x_T is known whatever is left in it
        _warn_of_signal(float(xp.max(share)), alpha, sigma, unguided.shared)
    # the symmetric root: unlike eigenvectors it is unique, so every backend starts at the same draws
    root = (basis * (sigma / xp.sqrt(noise))[..., None, :]) @ xp.matrix_transpose(basis)
    mean = x + shift if sets else (x + shift)[0, :]
    smallest = _smallest_sd(variances, unguided, eps)
    return Start(mean, Dense(root), smallest, Spectral(basis, variances), exact)


def _structure(covariance: LinearOperator) -> Diagonalisable | None:
    """The covariance, or one near it, in a structure of its own, where it has one that is not of entries."""
    held = covariance if covariance.near is None else covariance.near
    if isinstance(held, Diagonalisable) and not _by_eigenvectors(held):
        return held
    return None if covariance.materialised or covariance.shape[0] <= DENSE else leading(covariance)


def is_large(prior: Denoiser) -> bool:
    """Whether Cov[x_0 given x_t] is known by products alone, of so many numbers that neither it nor weights
    of particles are at hand: more than 2,048, or 512 where each x_t has its own, near one that has a
    structure."""
    if prior.dim <= WITH_STRUCTURE:
        return False
    covariance = prior(prior.end, prior.sde.T).covariance
    if covariance.materialised or (covariance.shared and prior.dim <= DENSE):
        return False
    return _structure(covariance) is not None


def leading(covariance: LinearOperator) -> Spectral:
    """Of a covariance that is known by its products for one row: its 48 largest eigenvalues and their
    eigenvectors, and the mean of the others.

    By subspace iteration from random vectors, 4 times 64 products, and the trace by 32 more. Source: Halko,
    Martinsson & Tropp 2011, algorithm 4.4; Girard 1989.
    """
    like, dim = covariance.like, covariance.shape[0]
    xp, backend = array_namespace(like), backend_of(like)

    def product(columns: Array) -> Array:
        found = covariance.matmat(columns)
        return found if found.ndim == 2 else found[0, :, :]

    Q = xp.linalg.qr(keyed_normal(backend, (dim, SKETCH), 0, SKETCHED)).Q
    for _ in range(PASSES):
        Q = xp.linalg.qr(product(Q)).Q
    inner = Q.T @ product(Q)
    values, basis = xp.linalg.eigh(0.5 * (inner + inner.T))
    U, along = Q @ basis[:, SKETCH - RANK :], xp.clip(values[SKETCH - RANK :], min=0.0)
    signs = xp.sign(keyed_normal(backend, (dim, SIGNS), 0, SKETCHED, 1))
    rest = signs - U @ (U.T @ signs)
    across = xp.sum(rest * product(rest)) / (SIGNS * (dim - RANK))
    return Spectral(U, along, xp.clip(across, min=0.0)[None])


def _guided_start(denoiser: Denoiser, prior: Start, sets: int | None) -> Start:
    """x_T given y, of as many data sets as `sets`, by the mean alone, with the root and the spread of the
    prior's: what data say of x_T beyond its mean is as little as there is signal left in it."""
    sde, root = denoiser.sde, prior.root
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    x = prior.mean - sde.shift(sde.T)
    x = array_namespace(x).broadcast_to(x, (sets or 1, x.shape[-1]))
    for _ in range(ITERATIONS):
        mean = denoiser.mean(x + sde.shift(sde.T), sde.T)
        x = x + root.matvec(root.rmatvec(alpha * mean - x)) / sigma**2
    _require_finite(x)
    mean = x + sde.shift(sde.T)
    return replace(prior, mean=mean if sets else mean[0, :], exact=None)


def _structured(denoiser: Denoiser, spread: Diagonalisable) -> Start:
    """The same of one data set by functions of Cov[x_0 given x_T] in its structure, or of one near it: at T,
    where x_T says next to nothing, that of the linear part for a network's."""
    xp, sde = denoiser.backend.xp, denoiser.sde
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    values = spread.eigenvalues
    eps = float(xp.finfo(values.dtype).eps)
    noise = spread.map(lambda values: -((alpha / sigma) ** 2) * values).shifted(1.0)
    assert isinstance(noise, Diagonalisable)
    noise = noise.map(lambda values: xp.clip(values, min=max(1e-9, eps), max=1.0))
    x = denoiser.end - sde.shift(sde.T)
    for _ in range(ITERATIONS):
        moments = denoiser(x + sde.shift(sde.T), sde.T)
        x = x + noise.solve(alpha * moments.mean - x)
    _require_finite(x, values)
    _warn_of_signal((alpha / sigma) ** 2 * float(xp.max(values)), alpha, sigma, moments.covariance.shared)
    visible = 4 * denoiser.dim * eps * float(xp.max(values))
    varying = xp.where(values > visible, values, xp.max(values))
    smallest = math.sqrt(max(float(xp.min(varying)), 0.0))
    root = noise.map(lambda values: sigma / xp.sqrt(values))
    return Start((x + sde.shift(sde.T))[0, :], root, smallest, spread)


def last_level(smallest_sd: float, wanted: float | None) -> float:
    """σ/α at which the last step goes to t = 0: as wanted, or 1/20 of the smallest standard deviation."""
    return wanted or min(smallest_sd / 20, LAST_LEVEL)


def first_step(sde: IsotropicSDE, steps: int, wanted: float | None) -> float:
    """Length in ln(α/σ) of the first of `steps`, which all have about this length."""
    levels = log_snr_grid(sde, steps, LAST_LEVEL if wanted is None else wanted)
    return float(sde.half_log_snr(levels[1]) - sde.half_log_snr(levels[0]))


def _eigenbasis(mean: Array, covariance: LinearOperator, sets: int | None) -> tuple[Array, Array]:
    """Rising eigenvalues (..., dim) and eigenvectors of the covariance, one for each data set where they
    differ."""
    xp, matrix = array_namespace(mean), covariance.dense()
    _require_finite(mean, matrix)
    if sets is None and matrix.ndim == 3:
        matrix = matrix[0, :, :]
    return xp.linalg.eigh(matrix)


def _require_finite(*moments: Array) -> None:
    """Raises: NonFiniteState for moments of x_0 given x_T, and y, that are not finite."""
    xp = array_namespace(*moments)
    if not all(bool(xp.all(xp.isfinite(values))) for values in moments):
        raise NonFiniteState(
            "E or Cov[x_0 given x_T] is NaN or infinite where the reverse SDE starts: the denoiser, or "
            "the mean likelihood that guides it, gives no number there; use another likelihood=, or "
            "correction=TemperedSMC(), which needs no guidance"
        )


def _by_eigenvectors(operator: Diagonalisable) -> bool:
    """Whether it is known by eigenvectors alone, which somebody has computed, rising."""
    return isinstance(operator, Spectral) and operator.across is None


def _all_eigenvalues(operator: Diagonalisable) -> Array:
    """Of each direction one, (..., dim) but for those along which it is zero."""
    values = operator.eigenvalues
    if isinstance(operator, Spectral):
        if operator.across is None:
            return values
        xp, across = array_namespace(values), operator.across
        rest = operator.shape[0] - operator.U.shape[-1]
        return xp.concat([xp.broadcast_to(across, (*values.shape[:-1], rest)), values], axis=-1)
    return array_namespace(values).broadcast_to(values, (*values.shape[:-1], operator.shape[0]))


def _smallest_sd(variances: Array, prior: LinearOperator, eps: float) -> float:
    """Of the guided variances, among as many of the largest as the prior has varying directions."""
    xp, dim = array_namespace(variances), variances.shape[-1]
    matrix = prior.dense()
    prior_variances = xp.linalg.eigvalsh(matrix if matrix.ndim == 2 else matrix[0, :, :])
    visible = 4 * dim * eps * float(xp.max(prior_variances))
    rank = max(int(xp.count_nonzero(prior_variances > visible)), 1)
    return math.sqrt(max(float(xp.min(variances[..., dim - rank])), visible, 0.0))


def _warn_of_signal(largest: float, alpha: float, sigma: float, is_gaussian: bool) -> None:
    if largest > (GAUSSIAN_SIGNAL_LIMIT if is_gaussian else SIGNAL_LIMIT):
        warn(
            f"the forward SDE ends with signal left: along one direction {largest:.0%} of the "
            f"variance of x_T is signal (α={alpha:.3g}, σ={sigma:.3g}); for a prior that is not "
            "Gaussian use a larger T or more noise (a larger beta_max, sigma_max), or standardise x_0",
            SignalLeftWarning,
            stacklevel=4,
        )
