"""What a stochastic differential equation is; affine ones, and what they know in closed form."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from array_api_compat import device

from ..backend import Array, Number, array_namespace, elementary, jvp, whole_number
from ..backend.arguments import refuse_former
from ..backend.sharing import warn
from ..linalg import matvec, rmatvec

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
        return g * z if self.wiener_dim is None else matvec(g, z)

    def __init_subclass__(cls) -> None:
        refuse_former(cls, spread="diffusion_product")

    def spread(self, g: Number, z: Array) -> Array:
        """The former name of `diffusion_product`."""
        warn("SDE.spread is called diffusion_product now", DeprecationWarning, stacklevel=2)
        return self.diffusion_product(g, z)

    def diffusion_adjoint(self, g: Number, v: Array) -> Array:
        """gᵀ v for v like x: of `wiener_shape`."""
        if self.noise == "scalar":
            return array_namespace(v).sum(g * v, axis=-1, keepdims=True)
        return g * v if self.wiener_dim is None else rmatvec(g, v)


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


class Transition(NamedTuple):
    """x_t given x_s ~ N(map x_s + shift, covariance).

    For an `IsotropicSDE` map and covariance are numbers (times the identity), and shift is a number
    or (dim,); for a matrix SDE they are (dim, dim), (dim,) and (dim, dim).
    """

    map: Any
    shift: Any
    covariance: Any


class StepCoefficients(NamedTuple):
    """Numbers of one exponential step from s to t of a semilinear SDE, dx = (L x + N) dt + noise.

    x_t ≈ decay x_s + first N(x_s, s) + second (N(x_t, t) - N(x_s, s)) + noise z + shift, with
    z ~ N(0, I); shift is None where there is none.
    """

    decay: float
    first: float
    second: float
    noise: float
    shift: Number | None = None


class AffineSDE(SDE):
    """dx = (A(t) x + u(t)) dt + B(t) dW: Gaussian transitions between any two times, in closed form.

    `T` is where the noising ends.
    """

    noise = "additive"
    T: float = 1.0

    @abstractmethod
    def transition(self, s: Number, t: Number) -> Transition:
        """Of x_t given x_s, for s ≤ t; exact."""

    @abstractmethod
    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        """Mean (..., dim) and covariance (..., dim, dim) of x_t for those of x_s."""

    @abstractmethod
    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """x_t given x_s = x, exactly in law, from standard normals z like x."""

    @abstractmethod
    def snr(self, t: Number) -> Number:
        """Signal-to-noise ratio of x_t: α²/σ², or its matrix Φᵀ Q⁻¹ Φ; infinite at t = 0."""


class IsotropicSDE(AffineSDE):
    """dx = (f(t) x + u(t)) dt + g(t) dW with numbers f and g, so x_t = α(t) x_0 + m(t) + σ(t) ε.

    A subclass gives `transition`, `rate` (f) and `amplitude` (g), and where u is not zero `shift`
    (m) and `push` (u). Times are Python floats, or arrays where the marginal of many times is
    wanted at once.
    """

    shifted: bool = False  # whether m(t) may differ from zero

    @abstractmethod
    def rate(self, t: float) -> float:
        """f(t) = d ln α/dt."""

    @abstractmethod
    def amplitude(self, t: float) -> float:
        """g(t)."""

    def push(self, t: float) -> Number:
        """u(t): a number or (dim,)."""
        return 0.0

    def shift(self, t: Number) -> Number:
        """m(t): mean of x_t for x_0 = 0; a number or (dim,)."""
        return self.transition(0.0, t).shift if self.shifted else 0.0

    def centre(self, x: Array, t: Number) -> Array:
        """x - m(t), which follows the same SDE without u."""
        return x - self.shift(t) if self.shifted else x

    def alpha_sigma(self, t: Number) -> tuple[Number, Number]:
        """α(t) and σ(t), from one evaluation."""
        found = self.transition(0.0, t)
        return found.map, elementary(t).sqrt(found.covariance)

    def levels(self, t: Number) -> tuple[Number, Number]:
        """The former name of `alpha_sigma`."""
        warn("levels is called alpha_sigma now", DeprecationWarning, stacklevel=2)
        return self.alpha_sigma(t)

    def alpha(self, t: Number) -> Number:
        """α(t): what is left of x_0 at t."""
        return self.transition(0.0, t).map

    def sigma(self, t: Number) -> Number:
        """σ(t): standard deviation of the noise at t; σ(0) = 0."""
        return elementary(t).sqrt(self.transition(0.0, t).covariance)

    def snr(self, t: Number) -> Number:
        """α²/σ²; +∞ where σ = 0, as at t = 0."""
        alpha, sigma = self.alpha_sigma(t)
        if isinstance(t, (int, float)) and sigma == 0:
            return math.inf
        return (alpha / sigma) ** 2

    def log_snr(self, t: Number) -> Number:
        """ln(α²/σ²); it falls with t. +∞ where σ = 0."""
        return 2 * self.half_log_snr(t)

    def half_log_snr(self, t: Number) -> Number:
        """ln(α/σ), the λ of Lu et al. 2022 (DPM-Solver)."""
        alpha, sigma = self.alpha_sigma(t)
        if isinstance(t, (int, float)) and sigma == 0:
            return math.inf
        functions = elementary(t)
        return functions.log(alpha) - functions.log(sigma)

    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        """α m + shift and α² C + σ² I, of the step from s to t."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        xp = array_namespace(mean, covariance)
        identity = xp.eye(mean.shape[-1], dtype=covariance.dtype, device=device(covariance))
        return phi * mean + shift, phi * phi * covariance + q * identity

    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """φ x + shift + √q z."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        return phi * x + shift + math.sqrt(q) * z

    def drift(self, x: Array, t: float) -> Array:
        return self.rate(t) * x + self.push(t) if self.shifted else self.rate(t) * x

    def diffusion(self, x: Array, t: float) -> float:
        return self.amplitude(t)

    def coefficients(self, s: float, t: float) -> StepCoefficients:
        """The exact transition as a step; nothing is left for N. Raises: ValueError for t < s."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        return StepCoefficients(phi, 0.0, 0.0, math.sqrt(q), shift if self.shifted else None)

    def nonlinear(self, x: Array, t: float) -> None:
        """The part that an exponential step cannot solve exactly: nothing."""
        return None


def require_forward(s: float, t: float) -> None:
    """Raises: ValueError for a step back in time."""
    if t < s:
        raise ValueError(f"a forward SDE runs forward: got a step from t={s} to t={t}; use ReverseSDE")


def require_isotropic(
    sde: object,
    what: str,
    otherwise: str = "for Gaussian mixtures under other affine SDEs use AffineMarginals",
) -> None:
    """Raises: TypeError, naming `what`, for an SDE whose α and σ are not numbers; `otherwise`: what to do."""
    if not isinstance(sde, IsotropicSDE):
        got = f"the class {sde.__name__}" if isinstance(sde, type) else type(sde).__name__
        raise TypeError(
            f"{what} needs a forward SDE with x_t = α x_0 + σ ε for numbers α and σ, as VPSDE() has; got "
            f"{got}; {otherwise}"
        )
