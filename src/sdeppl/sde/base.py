"""What a stochastic differential equation is; Itô and Stratonovich."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from array_api_compat import array_namespace

from ..backend import Array, Number, jvp, whole_number
from ..backend.sharing import warn

NoiseClass = Literal["additive", "scalar", "diagonal", "general"]
NOISE_CLASSES = ("additive", "scalar", "diagonal", "general")
Field = Callable[[Array, float], Array]


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


class ItoSDE(SDE):
    """dx = f(x, t) dt + g(x, t) dW from callables, in Itô's sense.

    drift: (x (..., dim), t) ↦ (..., dim). diffusion: (x, t) ↦ g, shaped as `noise` says (see `SDE`), or
    None for an ordinary differential equation, solved up or down in time. noise: 'additive', 'scalar',
    'diagonal' or 'general'. wiener_dim: the number of Wiener processes where g is a matrix.
    diffusion_jvp: (x, t, v) ↦ (∂g/∂x) v, of g's shape; by default the backend differentiates g: torch
    exactly, others by central differences of order 4 with steps of 7e-4 (1 + |x|) (float32: 4e-2), so
    give it there for states far smaller than 1.

    Raises: TypeError for a drift or diffusion that is no function; ValueError for an unknown noise class,
    or a general one without wiener_dim.
    """

    def __init__(
        self,
        drift: Field,
        diffusion: Field | None,
        noise: NoiseClass = "diagonal",
        wiener_dim: int | None = None,
        diffusion_jvp: Callable[[Array, float, Array], Array] | None = None,
    ) -> None:
        for name, field in (("drift", drift), ("diffusion", diffusion)):
            if not callable(field) and not (field is None and name == "diffusion"):
                raise TypeError(
                    f"{type(self).__name__}: {name} must be a function (x, t) ↦ array; got {field!r}"
                )
        self.wiener_dim = _checked_noise(type(self).__name__, noise, wiener_dim)
        self._drift, self._diffusion, self._jvp = drift, diffusion, diffusion_jvp
        self.noise = "additive" if diffusion is None else noise

    def __repr__(self) -> str:
        columns = "" if self.wiener_dim is None else f", wiener_dim={self.wiener_dim}"
        return f"{type(self).__name__}(noise={self.noise!r}{columns})"

    def drift(self, x: Array, t: float) -> Array:
        f = self._drift(x, t)
        if getattr(f, "ndim", 0) and f.shape != x.shape:  # it would be spread over the rows, unseen
            raise ValueError(
                f"{type(self).__name__}: the drift must return an array like x, {tuple(x.shape)}; got shape "
                f"{tuple(f.shape)}"
            )
        return f

    def diffusion(self, x: Array, t: float) -> Number:
        return 0.0 if self._diffusion is None else self._diffusion(x, t)

    def deterministic(self, s: float, t: float) -> bool:
        return self._diffusion is None

    def diffusion_jvp(self, x: Array, t: float, v: Array) -> Array:
        return super().diffusion_jvp(x, t, v) if self._jvp is None else self._jvp(x, t, v)


class StratonovichSDE(ItoSDE):
    """dx = f(x, t) dt + g(x, t) ∘ dW from callables, in Stratonovich's sense; else as `ItoSDE`."""

    calculus = "stratonovich"


def _checked_noise(name: str, noise: str, wiener_dim: int | None) -> int | None:
    """The columns of g. Raises: ValueError."""
    if not isinstance(noise, str) or noise not in NOISE_CLASSES:
        raise ValueError(f"{name}: noise={noise!r} is unknown; use one of {', '.join(NOISE_CLASSES)}")
    if noise == "general" and wiener_dim is None:
        raise ValueError(f"{name}: general noise needs wiener_dim, the number of columns of g")
    if noise in ("scalar", "diagonal") and wiener_dim is not None:
        raise ValueError(f"{name}: {noise} noise takes no wiener_dim; for a matrix g say noise='general'")
    return None if wiener_dim is None else whole_number(f"{name}: wiener_dim", wiener_dim, 1)


def _require_sde(sde: object, what: str) -> None:
    if not isinstance(sde, SDE):
        got = f"the class {sde.__name__}" if isinstance(sde, type) else type(sde).__name__
        raise TypeError(f"{what} takes an SDE, such as ItoSDE(drift, diffusion); got {got}")


def noise_correction(sde: SDE, x: Array, t: float) -> Array:
    """Σ_k (∂g_k/∂x) g_k over the columns g_k of g, like x; half of it separates Itô and Stratonovich.

    Source: Kloeden & Platen 1992, eq. 4.9.11.
    """
    xp = array_namespace(x)
    if sde.noise == "additive":
        return xp.zeros_like(x)
    g = sde.diffusion(x, t)
    if sde.noise in ("scalar", "diagonal"):
        return sde.diffusion_jvp(x, t, g)
    columns = range(g.shape[-1])
    total: Array = sum(sde.diffusion_jvp(x, t, g[..., k])[..., k] for k in columns)  # type: ignore[assignment]
    return total


class _Converted(ItoSDE):
    """An SDE read in the other calculus: the same process."""

    def __init__(self, sde: SDE, sign: float) -> None:
        # with time running down the step is -f |dt| + g dW, so that the correction changes sign in f
        self.original, self.sign = sde, -sign if sde.falling else sign
        self.noise, self.wiener_dim = sde.noise, sde.wiener_dim
        self.falling = sde.falling  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"to_{self.calculus}({self.original!r})"

    def drift(self, x: Array, t: float) -> Array:
        return self.original.drift(x, t) + 0.5 * self.sign * noise_correction(self.original, x, t)

    def diffusion(self, x: Array, t: float) -> Number:
        return self.original.diffusion(x, t)

    def diffusion_jvp(self, x: Array, t: float, v: Array) -> Array:
        return self.original.diffusion_jvp(x, t, v)

    def deterministic(self, s: float, t: float) -> bool:
        return self.original.deterministic(s, t)


class _AsIto(_Converted):
    calculus = "ito"


class _AsStratonovich(_Converted):
    calculus = "stratonovich"


def to_ito(sde: SDE) -> SDE:
    """The same process as an Itô SDE: f + ½ Σ_k (∂g_k/∂x) g_k; itself if it is one, or additive."""
    _require_sde(sde, "to_ito")
    if sde.calculus == "ito" or sde.noise == "additive":
        return sde
    return sde.original if isinstance(sde, _Converted) else _AsIto(sde, 1.0)


def to_stratonovich(sde: SDE) -> SDE:
    """The same process as a Stratonovich SDE: f - ½ Σ_k (∂g_k/∂x) g_k; itself if it is one, or additive."""
    _require_sde(sde, "to_stratonovich")
    if sde.calculus == "stratonovich" or sde.noise == "additive":
        return sde
    return sde.original if isinstance(sde, _Converted) else _AsStratonovich(sde, -1.0)
