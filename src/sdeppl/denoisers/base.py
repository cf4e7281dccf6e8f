"""What a denoiser is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import device

from ..backend import Array, Backend, array_namespace, jvp
from ..linalg import Diagonalisable, LinearOperator, MatrixFree, Symmetric
from ..sde import IsotropicSDE
from ..sde.marginals import GaussianMixture


@dataclass(frozen=True)
class Moments:
    """mean: E[x_0 given x_t], (batch, dim); covariance: Cov[x_0 given x_t], an operator."""

    mean: Array
    covariance: LinearOperator

    def __repr__(self) -> str:
        return f"Moments(mean of shape {tuple(self.mean.shape)}, {type(self.covariance).__name__})"


class Denoiser(ABC):
    """The first two moments of p(x_0 given x_t) under a forward SDE, x_t = α x_0 + σ ε.

    `denoiser(x, t)` gives both from one evaluation; `mean` alone may be cheaper. x: (batch, dim),
    an array of `backend`; t: a float in (0, T]. `sde`: the forward SDE; `dim`: numbers in x_0.
    `covariance_is_slope`: whether the covariance is σ²/α ∂mean/∂x, as of exact moments; `mixture`: p(x_0),
    where it is known to be a Gaussian or a mixture of them.
    """

    covariance_is_slope: ClassVar[bool] = True
    mixture: GaussianMixture[Diagonalisable] | None = None

    sde: IsotropicSDE
    dim: int
    backend: Backend

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sde}, dim={self.dim})"

    @abstractmethod
    def __call__(self, x: Array, t: float) -> Moments:
        """Mean and covariance of x_0 given x_t = x."""

    @abstractmethod
    def mean(self, x: Array, t: float) -> Array:
        """E[x_0 given x_t = x], (batch, dim)."""

    def of_sets(self, index: Array) -> "Denoiser":
        """The same where row i of x_t belongs to data set index[i]; itself where all rows share one."""
        return self

    @property
    def coarse(self) -> "Denoiser":
        """A cheaper one for where weights make up for what it gets wrong; here itself."""
        return self

    @property
    def end(self) -> Array:
        """The middle of x_T, (1, dim): where one asks what kind of operators there are."""
        xp, sde, backend = self.backend.xp, self.sde, self.backend
        return xp.zeros((1, self.dim), dtype=backend.dtype, device=backend.device) + sde.shift(sde.T)

    def score(self, x: Array, t: float) -> Array:
        """∂ ln p(x_t) = (α E[x_0 given x_t] - x)/σ² (Tweedie's formula), (batch, dim)."""
        return (self.sde.alpha(t) * self.mean(x, t) - self.sde.centre(x, t)) / self.sde.sigma(t) ** 2

    def eps(self, x: Array, t: float) -> Array:
        """ε̂ = E[ε given x_t] = -σ score, (batch, dim)."""
        return (self.sde.centre(x, t) - self.sde.alpha(t) * self.mean(x, t)) / self.sde.sigma(t)

    def covariance_slope(self, x: Array, t: float, V: Array, w: Array) -> Array:
        """∂/∂x Σ_ab w_ab v_aᵀ C(x) v_b, (batch, dim), with C = Cov[x_0 given x_t = x].

        V: columns v_a, (batch, dim, k), or (dim, k) for all rows; w: weights (batch, k) of v_a v_aᵀ, or a
        symmetric matrix (batch, k, k). Equal to α/σ² times the third central moment of x_0 given x_t,
        contracted with W = V w Vᵀ. That moment is symmetric, so here it is Σ_ab w_ab (∂C/∂x v_a) v_b, at
        k derivatives of a product with C; they are exact in torch, and differences of order 4 over
        steps of a small part of σ elsewhere.

        Raises: TypeError where the covariance is not the slope of the mean, for then it is not symmetric.
        """
        if not self.covariance_is_slope:
            raise TypeError(
                f"{type(self).__name__} approximates the covariance, so its slope does not follow from its "
                "products; ask the prior for its covariance_slope"
            )
        xp = array_namespace(x)
        V = xp.broadcast_to(V, (x.shape[0], *V.shape[-2:]))
        U = V @ weight_matrix(w)
        zeros, total = xp.zeros_like(x[:, :1]), xp.zeros_like(x)
        for a in range(V.shape[-1]):
            u, v = U[:, :, a], V[:, :, a]
            length = xp.sqrt(xp.sum(v * v, axis=-1, keepdims=True))
            step = self.sde.sigma(t) * v / xp.where(length > 0, length, xp.ones_like(length))

            # C varies over distances of σ, not of 1 + |x|, for which differences in x itself are meant
            def product(s: Array, u: Array = u, step: Array = step) -> Array:
                return self(x + s * step, t).covariance.matvec(u)

            total = total + length / self.sde.sigma(t) * jvp(product, zeros, xp.ones_like(zeros))
        return total


def tweedie_covariance(
    scale: float,
    pullback: Callable[[Array], Array],
    like: Array,
    several: bool = False,
    near: LinearOperator | None = None,
) -> MatrixFree:
    """Tweedie's covariance from vector–Jacobian products of the mean: C v = σ²/α (∂mean/∂x)ᵀ v.

    scale: σ²/α; pullback: v ↦ vᵀ ∂mean/∂x, (batch, dim) to (batch, dim), and where `several` is true also
    (k, batch, dim) to (k, batch, dim); like: x, (batch, dim). near: a covariance of which this one is a
    correction, and with which linear equations are easier to solve. An exact score has a symmetric Jacobian;
    a learned one nearly, and need not be positive.
    """
    batch, dim = like.shape
    return MatrixFree(
        lambda v: scale * pullback(v),
        None,
        (dim, dim),
        like,
        batch=batch,
        several=several,
        may_be_indefinite=True,
        near=near,
    )


def weight_matrix(w: Array) -> Array:
    """(batch, k, k) of weights: diagonal where they are (batch, k)."""
    if w.ndim == 3:
        return w
    xp = array_namespace(w)
    return w[..., None] * xp.eye(w.shape[-1], dtype=w.dtype, device=device(w))


class Covariance(Symmetric):
    """The former base class of covariances: a subclass gives `shared`, `product(v)` and `dense()`."""

    def __repr__(self) -> str:
        return type(self).__name__

    def matvec(self, v: Array) -> Array:
        product: Any = self.product
        return product(v)

    def matmat(self, M: Array) -> Array:
        xp = array_namespace(M)
        rows = M if M.ndim == 3 else M[None, ...]
        found = xp.stack([self.matvec(rows[:, :, i]) for i in range(M.shape[-1])], axis=-1)
        return found[0, ...] if self.shared and M.ndim == 2 else found

    def _take(self, index: Array | int) -> LinearOperator:
        raise TypeError("a covariance of the former interface belongs to its rows; make it a LinearOperator")
