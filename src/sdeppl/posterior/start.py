"""Where the reverse SDE starts."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import NoiseStream
from ..backend.sharing import warn
from ..denoisers import Denoiser, GaussianMixtureDenoiser
from ..linalg import LinearOperator
from ..sde import IsotropicSDE, log_snr_grid
from ..solvers import NonFiniteState

SIGNAL_LIMIT = 0.05  # of the variance of x_T along a direction, where p(x_T) is not known to be Gaussian
GAUSSIAN_SIGNAL_LIMIT = 0.5
ITERATIONS = 5
LAST_LEVEL = 1e-3  # σ/α before the step to t = 0, at most


class SignalLeftWarning(UserWarning):
    """The forward SDE ends with so much signal left that its end is not close to Gaussian noise."""


@dataclass(frozen=True)
class Start:
    """x_T ~ N(mean, root²): mean (dim,), root (dim, dim) symmetric.

    smallest_sd: the smallest standard deviation of x_0 given x_T along any direction in which the
    prior varies, in the units of x_0; no smaller than rounding lets it be seen. variances (dim,), rising,
    and basis (dim, dim): of Cov[x_0 given x_T], which is nearly that of x_0. exact: a mixture whose
    x_T is drawn exactly instead, or None.
    """

    mean: Any
    root: Any
    smallest_sd: float
    variances: Any
    basis: Any
    exact: GaussianMixtureDenoiser | None = None

    def draw(self, stream: NoiseStream, draws: int, index: int = 0) -> Any:
        """x_T, (draws, dim), from the stream's normals of step 0."""
        dim = self.mean.shape[0]
        if self.exact is not None:
            uniforms, z = stream.uniform(0, draws, index), stream.normal(0, (draws, dim), index)
            return self.exact.sample(self.exact.sde.T, uniforms, z)
        return self.mean + stream.normal(0, (draws, dim), index) @ self.root


def start_moments(denoiser: Denoiser, prior: Denoiser | None = None) -> Start:
    """The Gaussian whose score has the denoiser's value and slope at its own mean, at t = T.

    With m and C the moments of x_0 given x_T = x: covariance Σ = σ² (I - α²/σ² C)⁻¹ and mean
    x + Σ (α m - x)/σ², iterated from x = 0. Exact for a Gaussian x_0, whatever is left of it at T; for
    others as good as x_T is close to Gaussian. A guided denoiser gives the moments of x_T given y;
    `prior` is then the unguided one.

    Warns: SignalLeftWarning where the largest eigenvalue of α²/σ² C shows that x_T is not mostly
    noise.
    """
    xp, sde, backend = denoiser.backend.xp, denoiser.sde, denoiser.backend
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    x = xp.zeros((1, denoiser.dim), dtype=backend.dtype, device=backend.device)
    shift = sde.shift(sde.T)  # the iteration runs on x_T - m(T)
    eps = float(xp.finfo(backend.dtype).eps)
    for _ in range(ITERATIONS):
        moments = denoiser(x + shift, sde.T)
        _require_finite(moments.mean, moments.covariance.dense())
        variances, basis = _eigenbasis(moments.covariance)
        share = (alpha / sigma) ** 2 * variances
        # in float32 the difference from 1 must be a number that float32 knows
        noise = 1 - xp.clip(share, 0.0, 1 - max(1e-9, eps))
        x = x + ((alpha * moments.mean - x) @ basis / noise) @ basis.T
    unguided = prior(x + shift, sde.T).covariance if prior is not None else moments.covariance
    if not isinstance(denoiser, GaussianMixtureDenoiser):  # whose x_T is known whatever is left in it
        _warn_of_signal(float(xp.max(share)), alpha, sigma, unguided.shared)
    # the symmetric root: unlike eigenvectors it is unique, so every backend starts at the same draws
    root = (basis * (sigma / xp.sqrt(noise))) @ basis.T
    exact = denoiser if isinstance(denoiser, GaussianMixtureDenoiser) else None
    return Start((x + shift)[0, :], root, _smallest_sd(variances, unguided, eps), variances, basis, exact)


@dataclass(frozen=True)
class RowStarts:
    """`Start` for many data sets: mean (data sets, dim), root (data sets, dim, dim)."""

    mean: Any
    root: Any
    smallest_sd: float

    def draw(self, z: Any, index: Any) -> Any:
        """x_T (rows, dim) for normals z (rows, dim), row i of data set index[i]."""
        xp = array_namespace(z)
        moved = (
            z @ self.root
            if self.root.ndim == 2
            else (xp.take(self.root, index, axis=0) @ z[..., None])[..., 0]
        )
        return xp.take(self.mean, index, axis=0) + moved


def start_rows(denoiser: Denoiser, prior: Denoiser, sets: int) -> RowStarts:
    """`start_moments` of a guided denoiser of `sets` data sets, row by row."""
    xp, sde, backend = denoiser.backend.xp, denoiser.sde, denoiser.backend
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    x = xp.zeros((sets, denoiser.dim), dtype=backend.dtype, device=backend.device)
    shift, eps = sde.shift(sde.T), float(xp.finfo(backend.dtype).eps)
    for _ in range(ITERATIONS):
        moments = denoiser(x + shift, sde.T)
        _require_finite(moments.mean, moments.covariance.dense())
        variances, basis = xp.linalg.eigh(moments.covariance.dense())
        share = (alpha / sigma) ** 2 * variances
        noise = 1 - xp.clip(share, 0.0, 1 - max(1e-9, eps))
        pull = (alpha * moments.mean - x)[:, None, :] @ basis / noise[..., None, :]
        x = x + (pull @ xp.matrix_transpose(basis))[:, 0, :]
    unguided = prior(x[:1, :] + shift, sde.T).covariance
    _warn_of_signal(float(xp.max(share)), alpha, sigma, unguided.shared)
    root = (basis * (sigma / xp.sqrt(noise))[..., None, :]) @ xp.matrix_transpose(basis)
    least = _smallest_sd(xp.min(xp.reshape(variances, (-1, denoiser.dim)), axis=0), unguided, eps)
    return RowStarts(x + shift, root, least)


def _require_finite(*numbers: Any) -> None:
    """Raises: NonFiniteState for moments of x_0 given x_T, and y, that are not finite."""
    for values in numbers:
        if not bool(array_namespace(values).all(array_namespace(values).isfinite(values))):
            raise NonFiniteState(
                "E or Cov[x_0 given x_T] is NaN or infinite where the reverse SDE starts: the denoiser, or "
                "the mean likelihood that guides it, gives no number there; use another likelihood=, or "
                "correction=TemperedSMC(), which needs no guidance"
            )


def last_level(smallest_sd: float, wanted: float | None) -> float:
    """σ/α at which the last step goes to t = 0: as wanted, or 1/20 of the smallest standard deviation."""
    return wanted or min(smallest_sd / 20, LAST_LEVEL)


def first_step(sde: IsotropicSDE, steps: int, wanted: float | None) -> float:
    """Length in ln(α/σ) of the first of `steps`, which all have about this length."""
    levels = log_snr_grid(sde, steps, LAST_LEVEL if wanted is None else wanted)
    return float(sde.half_log_snr(levels[1]) - sde.half_log_snr(levels[0]))


def _eigenbasis(covariance: LinearOperator) -> tuple[Any, Any]:
    """Rising eigenvalues (dim,) and eigenvectors of the covariance at a single x."""
    matrix = covariance.dense()
    matrix = matrix if matrix.ndim == 2 else matrix[0, :, :]
    eigenvalues, basis = array_namespace(matrix).linalg.eigh(matrix)
    return eigenvalues, basis


def _smallest_sd(variances: Any, prior: LinearOperator, eps: float) -> float:
    """Of the guided variances, among as many of the largest as the prior has varying directions."""
    xp, dim = array_namespace(variances), variances.shape[0]
    prior_variances, _ = _eigenbasis(prior)
    visible = 4 * dim * eps * float(xp.max(prior_variances))
    rank = max(int(xp.count_nonzero(prior_variances > visible)), 1)
    return math.sqrt(max(float(variances[dim - rank]), visible, 0.0))


def _warn_of_signal(largest: float, alpha: float, sigma: float, is_gaussian: bool) -> None:
    if largest > (GAUSSIAN_SIGNAL_LIMIT if is_gaussian else SIGNAL_LIMIT):
        warn(
            f"the forward SDE ends with signal left: along one direction {largest:.0%} of the "
            f"variance of x_T is signal (α={alpha:.3g}, σ={sigma:.3g}); for a prior that is not "
            "Gaussian use a larger T or more noise (a larger beta_max, sigma_max), or standardise x_0",
            SignalLeftWarning,
            stacklevel=4,
        )
