"""What a stochastic differential equation is."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from array_api_compat import array_namespace

from ..backend import Array, Number, jvp
from ..backend.sharing import warn

NoiseClass = Literal["additive", "scalar", "diagonal", "general"]
NOISE_CLASSES = ("additive", "scalar", "diagonal", "general")


class SDE(ABC):
    """dx = f(x, t) dt + g(x, t) dW in Itô's sense, on states (..., dim).

    `noise`: how W enters.

    - 'additive': g does not depend on x; a number, (dim,), or a matrix (dim, wiener_dim).
    - 'scalar': one Wiener process moves all components; g is like x.
    - 'diagonal': one process for each component, and g_i depends on x_i alone; g is like x.
    - 'general': g is a matrix (..., dim, wiener_dim).

    `wiener_dim`: the number of Wiener processes where g is a matrix, else None. `falling`: whether
    the SDE is solved with time running down. `calculus`: 'ito' or 'stratonovich'; a class that means
    Stratonovich's derives from `StratonovichSDE`.
    """

    falling: ClassVar[bool] = False
    calculus: ClassVar[Literal["ito", "stratonovich"]] = "ito"
    noise: NoiseClass = "diagonal"
    wiener_dim: int | None = None

    @abstractmethod
    def drift(self, x: Array, t: float) -> Array:
        """f(x, t), with the shape of x."""

    @abstractmethod
    def diffusion(self, x: Array, t: float) -> Number:
        """g(x, t), of the shape that `noise` says."""

    def diffusion_jvp(self, x: Array, t: float, v: Array) -> Array:
        """(∂g/∂x) v for a direction v like x: of g's shape. From the backend unless overridden."""
        return jvp(lambda y: self.diffusion(y, t), x, v)

    def deterministic(self, s: float, t: float) -> bool:
        """Whether no noise enters between s and t."""
        return False

    def wiener_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of dW for states of `shape`."""
        if self.noise == "scalar":
            return (*shape[:-1], 1)
        return tuple(shape) if self.wiener_dim is None else (*shape[:-1], self.wiener_dim)

    def diffusion_product(self, g: Number, z: Array) -> Array:
        """g z for an increment z of `wiener_shape`: like x."""
        if self.wiener_dim is None:
            return g * z
        if g.ndim == 2:
            return z @ g.T
        return (g @ z[..., None])[..., 0]

    def spread(self, g: Number, z: Array) -> Array:
        """The former name of `diffusion_product`."""
        warn("SDE.spread is called diffusion_product now", DeprecationWarning, stacklevel=2)
        return self.diffusion_product(g, z)

    def diffusion_adjoint(self, g: Number, v: Array) -> Array:
        """gᵀ v for v like x: of `wiener_shape`."""
        if self.noise == "scalar":
            return array_namespace(v).sum(g * v, axis=-1, keepdims=True)
        if self.wiener_dim is None:
            return g * v
        if g.ndim == 2:
            return v @ g
        return (v[..., None, :] @ g)[..., 0, :]
