"""The Gaussian mean likelihood with Tweedie's mean and exact covariance."""

from typing import Any, Literal

from ..backend import require_same
from ..denoisers import Denoiser, MatrixCovariance, Moments
from .conjugate_gradients import conjugate_gradients
from .observation import Linearisation, Observation

DENSE_LIMIT = 128


class TweedieDenoiser(Denoiser):
    """x_0 given x_t and y, with p(x_0 given x_t) taken as N(m, C), Tweedie's moments.

    l(y given x_t) = N(y; A(m), S), S = H C Hᵀ + R with H the Jacobian of A at m. Its gradient, H and C
    held fixed along x_t, is α/σ² C Hᵀ S⁻¹ (y - A(m)); added to the score it makes the mean
    m + C Hᵀ S⁻¹ (y - A(m)) and the covariance C - C Hᵀ S⁻¹ H C. Exact for a Gaussian x_0 and linear
    A; for others the Gaussian form is the approximation, best where p(x_0 given x_t) is narrow.

    prior: any denoiser; observation: on the prior's backend. method: 'dense' forms S and solves it
    directly; 'matrix-free' needs one product with C per iteration of conjugate gradients, run until
    the residual is below `tolerance` of |y - A(m)|; a row that has not converged after `iterations`
    (2 × observations by default) becomes NaN, which a solve reports. 'auto': dense where C is at
    hand or dim ≤ 128. A learned C is made positive semidefinite first where it is a matrix.

    Raises: ValueError for another dimension or dtype than the prior's; BackendMismatch.
    Source: Rozet et al. 2024 (MMPS), eq. 11-13; Boys et al. 2023 (TMPD).
    """

    covariance_is_slope = False  # but for a Gaussian x_0: ∂C/∂x is left out

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation,
        method: Literal["auto", "dense", "matrix-free"] = "auto",
        tolerance: float = 1e-6,
        iterations: int | None = None,
    ) -> None:
        if method not in ("auto", "dense", "matrix-free"):
            raise ValueError(f"method={method!r} is unknown; use 'auto', 'dense' or 'matrix-free'")
        if observation.dim != prior.dim:
            raise ValueError(
                f"the observation operator takes {observation.dim} values, the prior has {prior.dim}"
            )
        require_same(prior.backend, y=observation.y)
        if observation.y.dtype != prior.backend.dtype:
            raise ValueError(
                f"the observation is in {observation.y.dtype}, the prior in {prior.backend.dtype}; "
                "make both in one dtype"
            )
        self.sde, self.dim, self.backend = prior.sde, prior.dim, prior.backend
        self.prior = prior
        self.observation = observation
        self.method = method
        self.tolerance = tolerance
        self.iterations = iterations if iterations is not None else 2 * observation.count

    def mean(self, x: Any, t: float) -> Any:
        if self.observation.count == 0:
            return self.prior.mean(x, t)
        moments = self.prior(x, t)
        linear = self.observation.linearise(moments.mean)
        residual = self.observation.y - linear.predicted
        if not self._dense(moments):
            return moments.mean + self._matrix_free(moments, linear, residual)
        cross, innovation = self._innovation(self._covariance(moments), linear)
        xp = self.backend.xp
        if innovation.ndim == 2:
            return moments.mean + residual @ xp.linalg.solve(innovation, cross.T)
        return moments.mean + (cross @ xp.linalg.solve(innovation, residual[..., None]))[..., 0]

    def __call__(self, x: Any, t: float) -> Moments:
        moments = self.prior(x, t)
        if self.observation.count == 0:
            return moments
        xp, covariance = self.backend.xp, self._covariance(moments)
        linear = self.observation.linearise(moments.mean)
        cross, innovation = self._innovation(covariance, linear)
        gain = xp.matrix_transpose(xp.linalg.solve(innovation, xp.matrix_transpose(cross)))
        residual = self.observation.y - linear.predicted
        mean = moments.mean + (gain @ residual[..., None])[..., 0]
        reduced = covariance - gain @ xp.matrix_transpose(cross)
        return Moments(mean, MatrixCovariance(0.5 * (reduced + xp.matrix_transpose(reduced))))

    def _dense(self, moments: Moments) -> bool:
        if self.method == "auto":
            return moments.covariance.materialised or self.dim <= DENSE_LIMIT
        return self.method == "dense"

    def _covariance(self, moments: Moments) -> Any:
        """C as a matrix; of a learned one the positive part.

        Errors of a learned score can make C negative along some direction, S with it, and the gain
        then throws draws far away, silently; a true covariance has no such part.
        """
        covariance = moments.covariance.dense()
        if moments.covariance.materialised:
            return covariance
        xp = self.backend.xp
        variances, basis = xp.linalg.eigh(covariance)
        positive = xp.clip(variances, min=0.0)
        return (basis * positive[..., None, :]) @ xp.matrix_transpose(basis)

    def _innovation(self, covariance: Any, linear: Linearisation) -> tuple[Any, Any]:
        """C Hᵀ (..., dim, observations) and S = H C Hᵀ + R, one for all rows where C and H are."""
        cross = covariance @ self.backend.xp.matrix_transpose(linear.H)
        return cross, self.observation.add_noise(linear.H @ cross)

    def _matrix_free(self, moments: Moments, linear: Linearisation, residual: Any) -> Any:
        covariance = moments.covariance

        def product(v: Any) -> Any:
            return linear.forward(covariance @ linear.adjoint(v)) + self.observation.noise_product(v)

        weights = conjugate_gradients(product, residual, self.tolerance, self.iterations)
        return covariance @ linear.adjoint(weights)
