"""What a mean likelihood is: l(y given x_t) = ∫ p(y given x_0) p(x_0 given x_t) dx_0, as a denoiser."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from ..backend import BackendMismatch, cholesky, in_chunks, rows_at_once, solve_lower
from ..backend.arguments import kind
from ..backend.sharing import cached_property, warn
from ..denoisers import Denoiser, Moments
from ..linalg import Dense
from .observation import Observation, SiteApproximation
from .positive import clipped

SMALLER = "use likelihood='sda' or 'dps', which need no covariance, fewer observed numbers, or fewer latents"


@dataclass(frozen=True)
class PseudoObservation:
    """A Gaussian observation H x_0 + N(0, R): H (n, dim) or (batch, n, dim); noise: its R."""

    H: Any
    noise: SiteApproximation

    def reduction(self, cross: Any) -> Any:
        """U = C Hᵀ L⁻ᵀ with L Lᵀ = H C Hᵀ + R, for cross = C Hᵀ: C - U Uᵀ is the covariance given y."""
        xp = array_namespace(cross)
        projected = self.H @ cross
        projected = 0.5 * (projected + xp.matrix_transpose(projected))
        root = cholesky(self.noise.add_noise(projected))
        transposed = xp.matrix_transpose(cross)
        return xp.matrix_transpose(solve_lower(root, transposed))


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
    mean: Any
    log_likelihood: Any
    pseudo_observation: PseudoObservation | None = None
    covariance: Any | None = None


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
    covariance_is_slope = False  # but for a Gaussian x_0 and a linear observation

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.prior!r}, {self.observation!r})"

    def __init__(self, prior: Denoiser, observation: Observation) -> None:
        require_fit(prior, observation)
        self.sde, self.dim, self.backend = prior.sde, prior.dim, prior.backend
        self.prior = prior
        self.observation = observation

    @abstractmethod
    def guided(self, x: Any, t: float) -> Guided:
        """Everything about x_0 given x_t = x and y, from one evaluation of the prior."""

    def guide(self, x: Any, t: float) -> Guided:
        """The former name of `guided`."""
        warn("MeanLikelihood.guide is called guided now", DeprecationWarning, stacklevel=2)
        return self.guided(x, t)

    def log_likelihood(self, x: Any, t: float) -> Any:
        """ln l(y given x_t = x), (batch,)."""
        return self.guided(x, t).log_likelihood

    def mean(self, x: Any, t: float) -> Any:
        """E[x_0 given x_t = x, y], (batch, dim), in as many rows at a time as fit in memory.

        Raises: OutOfMemory where not even one does.
        """
        if self.observation.count == 0:
            return self.prior.mean(x, t)
        if self.backend.adapter.traced():
            return self._mean(x, t)
        batch = x.shape[0]
        return in_chunks(lambda rows, part: self._of_rows(part, batch)._mean(rows, t), x, self.rows_at_once)

    def _mean(self, x: Any, t: float) -> Any:
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

    @property
    def end(self) -> Any:
        """The middle of x_T, (1, dim): where one asks what kind of operators there are."""
        xp, sde, backend = self.backend.xp, self.sde, self.backend
        return xp.zeros((1, self.dim), dtype=backend.dtype, device=backend.device) + sde.shift(sde.T)

    def __call__(self, x: Any, t: float) -> Moments:
        """Mean and covariance; where the method knows no covariance, the prior's stands for it."""
        guided = self.guided(x, t)
        if guided.covariance is not None:
            return Moments(guided.mean, Dense(guided.covariance))
        if guided.pseudo_observation is None:
            return Moments(guided.mean, guided.prior.covariance)
        xp, covariance = self.backend.xp, guided.prior.covariance.dense()
        if guided.prior.covariance.may_be_indefinite:
            covariance = clipped(covariance)  # near T little trains the slope of a network
        reduction = guided.pseudo_observation.reduction(
            covariance @ xp.matrix_transpose(guided.pseudo_observation.H)
        )
        reduced = covariance - reduction @ xp.matrix_transpose(reduction)
        return Moments(guided.mean, Dense(reduced))

    def of_sets(self, index: Any) -> "MeanLikelihood":
        """The same where row i of x_t belongs to data set index[i]; see `Observation.with_data`."""
        chosen = copy.copy(self)
        chosen.observation = self.observation.of_sets(index)
        return chosen

    def unguided(self, x: Any, t: float) -> Guided:
        """What `guide` gives where nothing was observed."""
        xp, moments = self.backend.xp, self.prior(x, t)
        return Guided(moments, moments.mean, xp.zeros_like(moments.mean[:, 0]))


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
