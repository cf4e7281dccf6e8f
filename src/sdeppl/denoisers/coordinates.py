"""How a network sees x_t, and in which units it answers: one code for denoisers and their training."""

from abc import ABC, abstractmethod

from ..backend import Array, Number, array_namespace
from ..backend.sharing import cached_property
from .gaussian import GaussianDenoiser


class Coordinates(ABC):
    """Of a network beside the best linear denoiser at one noise level, or at one for each row.

    E[x_0 given x_t] = linear mean + U (spread · reach · net(`inputs`)): U turns the network's coordinates
    into those of x_0, spread is the linear part's conditional standard deviation, and reach = ρ², with ρ the
    correlation of x_t's best linear prediction with x_0. A network learns the `target`, of unit variance, by
    reach times its output.

    gaussian: the linear part; t: a float, or an array (batch, 1).
    """

    reach: Array
    spread: Array

    def __init__(self, gaussian: GaussianDenoiser, t: Number) -> None:
        self.gaussian, self.t = gaussian, t

    @abstractmethod
    def inputs(self, x: Array) -> Array:
        """What the network sees of x_t (batch, dim)."""

    @abstractmethod
    def inputs_adjoint(self, u: Array, scale: float = 1.0) -> Array:
        """The transpose of the derivative of `inputs`, times `scale`: to (..., batch, dim)."""

    @abstractmethod
    def outputs(self, output: Array) -> Array:
        """What an output adds to the linear mean, (..., batch, dim)."""

    @abstractmethod
    def outputs_adjoint(self, v: Array) -> Array:
        """Its transpose."""

    @abstractmethod
    def directions(self, V: Array, W: Array) -> tuple[Array, Array]:
        """Of columns V (batch, dim, k) the `outputs_adjoint`, and of V W what `inputs` makes of steps along
        them, again as columns; W: (batch, k, k)."""

    @abstractmethod
    def target(self, residual: Array) -> Array:
        """What the network is to find of x_0 - linear mean, (batch, dim), up to reach."""


class Eigenbasis(Coordinates):
    """Along the eigenvectors of the prior's covariance, for vectors: x_t scaled to unit variance."""

    def __init__(self, gaussian: GaussianDenoiser, t: Number) -> None:
        super().__init__(gaussian, t)
        self.spread, self.reach = gaussian.posterior_scale(t), gaussian.explained(t)

    def inputs(self, x: Array) -> Array:
        return self.gaussian.whiten(x, self.t)

    @cached_property
    def shrink(self) -> Array:
        """One over the standard deviations of x_t."""
        root = array_namespace(self.spread).sqrt(self.gaussian.eigenvalues)
        return self.spread / root / self.gaussian.sde.sigma(self.t)

    def inputs_adjoint(self, u: Array, scale: float = 1.0) -> Array:
        return (scale * (u * self.shrink)) @ self.gaussian.basis.T

    def outputs(self, output: Array) -> Array:
        return (self.spread * self.reach * output) @ self.gaussian.basis.T

    def outputs_adjoint(self, v: Array) -> Array:
        return (v @ self.gaussian.basis) * (self.spread * self.reach)

    def directions(self, V: Array, W: Array) -> tuple[Array, Array]:
        columns = self.gaussian.basis.T @ V
        return (self.spread * self.reach)[:, None] * columns, self.shrink[:, None] * (columns @ W)

    def target(self, residual: Array) -> Array:
        return residual @ self.gaussian.basis / self.spread


class OnGrid(Coordinates):
    """Where the numbers are, as a convolution needs them: 2 dim inputs, (α² C + σ² I)^{-1/2} (x_t - α m) by
    the symmetric root and x_t itself; spread and reach are of each number by itself.

    A product with the root costs as much as one with C; the standard deviations are those of a diagonal.
    Where a number does not vary, its target is 0.
    """

    def __init__(self, gaussian: GaussianDenoiser, t: Number) -> None:
        super().__init__(gaussian, t)
        alpha, sigma = gaussian.sde.alpha_sigma(t)
        C, xp = gaussian.prior_covariance, gaussian.backend.xp
        self.root = C.map(lambda values: (alpha * alpha * values + sigma**2) ** -0.5)
        left = C.gain(alpha, sigma, sigma**2).diagonal()
        explained = C.map(lambda v: alpha * alpha * v * v / (alpha * alpha * v + sigma**2)).diagonal()
        self.spread = xp.sqrt(xp.clip(left, min=0.0))
        total = left + explained
        self.reach = xp.where(total > 0, explained / xp.where(total > 0, total, 1.0 + 0 * total), 0 * total)

    def inputs(self, x: Array) -> Array:
        centred = self.gaussian.sde.centre(x, self.t)
        alpha, xp = self.gaussian.sde.alpha(self.t), self.gaussian.backend.xp
        white = self.root.matvec(centred - alpha * self.gaussian.location)
        return xp.concat([white, centred], axis=-1)

    def inputs_adjoint(self, u: Array, scale: float = 1.0) -> Array:
        dim = self.gaussian.dim
        return scale * (self.root.matvec(u[..., :dim]) + u[..., dim:])

    def outputs(self, output: Array) -> Array:
        return self.spread * self.reach * output

    def outputs_adjoint(self, v: Array) -> Array:
        return self.spread * self.reach * v

    def directions(self, V: Array, W: Array) -> tuple[Array, Array]:
        xp, steps = self.gaussian.backend.xp, V @ W
        return (self.spread * self.reach)[:, None] * V, xp.concat([self.root.matmat(steps), steps], axis=-2)

    def target(self, residual: Array) -> Array:
        varies = self.spread > 0
        xp = self.gaussian.backend.xp
        scale = xp.where(varies, self.spread, 1.0 + 0 * self.spread)
        return xp.where(varies, residual / scale, 0 * residual)
