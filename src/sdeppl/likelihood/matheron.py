"""A Gaussian seen linearly, of any number of numbers: mean, draws and ln p(y) by operators."""

import math
from typing import TypeGuard

from ..backend import Array
from ..backend.sharing import cached_property
from ..denoisers import Denoiser, GaussianDenoiser
from ..linalg import DENSE, LinearOperator, ObservedCovariance, Selection, Spectral, largest_eigenvalue
from .base import require_fit
from .linear_gaussian import LinearGaussian
from .observation import Observation, matched
from .tweedie import TweedieDenoiser


class GaussianPosterior:
    """p(x_0 given y) for x_0 ~ N(m, C) and y = H x_0 + N(0, R), exactly, without a matrix of dim numbers.

    All of it goes by S = H C Hᵀ + R (`linalg.ObservedCovariance`), factored where that is cheap, else by
    conjugate gradients. observation: linear, of one data set or many, which share S; None for the prior
    itself. `denoiser`: of x_0 given x_t and y, for a reverse SDE that has this posterior; `count`: of the
    numbers observed.

    Raises: as `MeanLikelihood`.
    """

    def __init__(self, prior: GaussianDenoiser, observation: Observation | None) -> None:
        xp, backend = prior.backend.xp, prior.backend
        if observation is None:
            nothing = xp.zeros((0,), dtype=backend.dtype, device=backend.device)
            nowhere = xp.zeros((0,), dtype=xp.int64, device=backend.device)
            observation = LinearGaussian(Selection(nowhere, prior.dim, prior.location), nothing, nothing)
        require_fit(prior, observation)
        self.prior, self.observation, self.count = prior, observation, observation.count
        linear = observation.linearise(prior.location[None, :])
        self.H: LinearOperator = linear.jacobian
        first = xp.zeros((1,), dtype=xp.int64, device=backend.device)
        noise = observation.of_sets(first).site_approximation(linear, 0 * linear.predicted).noise
        self.S = ObservedCovariance(self.H, prior.prior_covariance, noise)

    @property
    def denoiser(self) -> Denoiser:
        """The guided one, exact for a Gaussian."""
        return TweedieDenoiser(self.prior, self.observation) if self.count else self.prior

    @property
    def is_closed(self) -> bool:
        """Whether ln p(y) is exact, and takes nothing beyond what was computed for the draws."""
        return self.S.has_factor

    @cached_property
    def information(self) -> float:
        """The largest eigenvalue of Hᵀ R⁻¹ H, nearly: 20 steps of the power method; 0 without noise."""
        if not self.count or self.observation.hard:
            return 0.0
        return largest_eigenvalue(
            lambda v: self.H.rmatvec(self.S.R.solve(self.H.matvec(v))), self.prior.dim, self.prior.backend
        )

    @cached_property
    def mean(self) -> Array:
        """m + C Hᵀ S⁻¹ (y - H m), (dim,), or of many data sets (data sets, dim)."""
        return self._moved(self.prior.location[None, :], self._residual)[0 if self._one else ..., :]

    @cached_property
    def log_evidence(self) -> Array:
        """ln p(y), () or (data sets,)."""
        xp, residual = self.prior.backend.xp, self._residual
        squares = xp.sum(residual * self.S.solve(residual), axis=-1)
        constant = self.S.log_determinant.value + self.observation.count * math.log(2 * math.pi)
        return (-0.5 * (squares + constant))[0 if self._one else ...]

    @property
    def log_evidence_error(self) -> float:
        """Its standard error, 0 where S has a closed form."""
        return 0.5 * self.S.log_determinant.error

    def draws(self, z: Array, noise: Array, numbers: Array | None = None) -> Array:
        """Draws (rows, dim), each from standard normals z (rows, dim) and noise (rows, observations).

        numbers: of many data sets, that of each row. Raises: FloatingPointError where S cannot be solved.
        """
        x = self.prior.location + self.prior.prior_covariance.sqrt().matvec(z)
        return self.moved(x, noise, numbers) if self.count else x

    def moved(self, x: Array, noise: Array, numbers: Array | None = None) -> Array:
        """Draws x (rows, dim) of the prior as draws of the posterior; noise, numbers: as of `draws`.

        Matheron's rule: x + C Hᵀ S⁻¹ (y - H x - e), with e from the noise. Source: Wilson et al. 2021,
        Pathwise conditioning of Gaussian processes.
        """
        observation = self.observation if numbers is None else self.observation.of_sets(numbers)
        predicted = observation.linearise(x).predicted + self.S.R.root.matvec(noise)
        return self._moved(x, matched(observation.y, x.shape[0]) - predicted)

    def _moved(self, x: Array, residual: Array) -> Array:
        shift = self.prior.prior_covariance.matvec(self.H.rmatvec(self.S.solve(residual)))
        return x + shift

    @property
    def _one(self) -> bool:
        return self.observation.sets is None

    @cached_property
    def _residual(self) -> Array:
        """y - H m, (1 or data sets, observations)."""
        predicted = self.H.matvec(self.prior.location[None, :])
        return self.observation.y[None if self._one else ..., :] - predicted


def is_drawn_directly(prior: Denoiser, observation: Observation | None) -> TypeGuard[GaussianDenoiser]:
    """Whether `GaussianPosterior` is what such a posterior is drawn by: a Gaussian that is held by another
    structure than all its eigenvectors, or of more than 2,048 numbers, seen linearly or not at all."""
    if not isinstance(prior, GaussianDenoiser) or not (observation is None or observation.is_linear):
        return False
    C = prior.prior_covariance
    return prior.dim > DENSE or not (isinstance(C, Spectral) and C.across is None)
