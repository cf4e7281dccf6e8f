"""What was observed: y = A(x_0) + noise, noise ~ N(0, R)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backend import Backend, backend_of, require_same


@dataclass(frozen=True)
class Linearisation:
    """A near a batch of x_0: A(x_0) as `predicted` (batch, observations) and its Jacobian H.

    H: (observations, dim) where it is the same for all rows, else (batch, observations, dim).
    """

    predicted: Any
    H: Any

    def forward(self, v: Any) -> Any:
        """H v row by row: (batch, dim) to (batch, observations)."""
        return v @ self.H.T if self.H.ndim == 2 else (self.H @ v[..., None])[..., 0]

    def adjoint(self, w: Any) -> Any:
        """Hᵀ w row by row: (batch, observations) to (batch, dim)."""
        return w @ self.H if self.H.ndim == 2 else (w[..., None, :] @ self.H)[..., 0, :]


class Observation(ABC):
    """Observed values y (observations,) with Gaussian noise of constant covariance R.

    R: a variance for all (a float), variances (observations,) or a covariance (observations,
    observations), positive definite. NaN in y means not observed: subclasses leave those rows out.
    """

    backend: Backend
    dim: int
    y: Any
    R: Any

    @abstractmethod
    def linearise(self, x0: Any) -> Linearisation:
        """A and its Jacobian at x0 (batch, dim)."""

    @property
    def count(self) -> int:
        """Number of observed values."""
        count: int = self.y.shape[0]
        return count

    def add_noise(self, matrix: Any) -> Any:
        """matrix (..., observations, observations) + R."""
        xp = self.backend.xp
        if self.R.ndim == 2:
            return matrix + self.R
        identity = xp.eye(self.count, dtype=self.R.dtype, device=self.backend.device)
        return matrix + self.R * identity

    def noise_product(self, v: Any) -> Any:
        """R v row by row: (batch, observations)."""
        return v @ self.R.T if self.R.ndim == 2 else v * self.R

    def _keep_observed(self, y: Any, R: Any) -> Any:
        """Set y and R without the rows that were not observed; returns the kept indices."""
        xp, count = self.backend.xp, y.shape[0]
        require_same(self.backend, y=y)
        if isinstance(R, (int, float)):
            R = xp.full(y.shape, float(R), dtype=y.dtype, device=self.backend.device)
        require_same(self.backend, y=y, R=R)
        if tuple(R.shape) not in ((count,), (count, count)):
            raise ValueError(f"expected R of shape ({count},) or ({count}, {count}); got {tuple(R.shape)}")
        if bool(xp.any(xp.isinf(y))):
            raise ValueError("the data hold infinity; mark what was not observed with NaN")
        observed = xp.nonzero(~xp.isnan(y))[0]
        self.y = xp.take(y, observed, axis=0)
        R = xp.take(R, observed, axis=0)
        self.R = xp.take(R, observed, axis=1) if R.ndim == 2 else R
        if self.count:
            self._check_noise()
        return observed

    def _check_noise(self) -> None:
        xp, R = self.backend.xp, self.R
        if not bool(xp.all(xp.isfinite(R))):
            raise ValueError("the noise covariance R holds NaN or infinity; mark what was not observed in y")
        if R.ndim == 2 and bool(xp.any(xp.abs(R - R.T) > 1e-6 * xp.max(xp.abs(R)))):
            raise ValueError("the noise covariance R must be symmetric")
        smallest = float(xp.min(xp.linalg.eigvalsh(R) if R.ndim == 2 else R))
        if not smallest > 0:
            raise ValueError(
                f"the noise covariance R must be positive definite; its smallest eigenvalue is {smallest:.3g}"
            )


class LinearGaussian(Observation):
    """y = H x_0 + noise, noise ~ N(0, R).

    H: (observations, dim); y: (observations,), where NaN means not observed, and the row is left
    out; R: a variance for all (a float), variances (observations,) or a covariance (observations,
    observations), positive definite. One backend.

    Raises: ValueError for shapes that do not fit, infinite data, H that is not finite or R that is not
    positive definite; BackendMismatch.
    """

    def __init__(self, H: Any, y: Any, R: Any) -> None:
        self.backend = backend_of(H)
        xp = self.backend.xp
        if H.ndim != 2 or tuple(y.shape) != (H.shape[0],):
            raise ValueError(
                f"expected H (observations, dim) and y (observations,); got {tuple(H.shape)} and "
                f"{tuple(y.shape)}"
            )
        if not bool(xp.all(xp.isfinite(H))):
            raise ValueError("the operator H holds NaN or infinity")
        self.dim = H.shape[1]
        self.H = xp.take(H, self._keep_observed(y, R), axis=0)

    def linearise(self, x0: Any) -> Linearisation:
        return Linearisation(x0 @ self.H.T, self.H)


class NonlinearGaussian(Observation):
    """y = A(x_0) + noise, noise ~ N(0, R), with A linearised where the mean likelihood needs it.

    function: x_0 (batch, dim) ↦ A(x_0) (batch, observations) and its Jacobian (batch, observations,
    dim), arrays of one backend; dim: numbers in x_0; y and R as for `LinearGaussian`.
    """

    def __init__(self, function: Callable[[Any], tuple[Any, Any]], dim: int, y: Any, R: Any) -> None:
        self.backend = backend_of(y)
        self.dim = dim
        self.function = function
        self.observed = self._keep_observed(y, R)

    def linearise(self, x0: Any) -> Linearisation:
        xp = self.backend.xp
        predicted, jacobian = self.function(x0)
        return Linearisation(
            xp.take(predicted, self.observed, axis=1), xp.take(jacobian, self.observed, axis=1)
        )
