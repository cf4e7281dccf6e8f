"""Itô and Stratonovich: SDEs from callables, and the conversion between the two."""

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from .base import NOISE_CLASSES, SDE, NoiseClass

Field = Callable[[Any, float], Any]


class ItoSDE(SDE):
    """dx = f(x, t) dt + g(x, t) dW from callables, in Itô's sense.

    drift: (x (..., dim), t) ↦ (..., dim). diffusion: (x, t) ↦ g, shaped as `noise` says (see `SDE`):
    'additive', 'scalar', 'diagonal' or 'general'. wiener_dim: the number of Wiener processes where g
    is a matrix. diffusion_jvp: (x, t, v) ↦ (∂g/∂x) v, of g's shape; by default the backend
    differentiates g: torch exactly, others by central differences of order 4.

    Raises: ValueError for an unknown noise class, or a general one without wiener_dim.
    """

    def __init__(
        self,
        drift: Field,
        diffusion: Field,
        noise: NoiseClass = "diagonal",
        wiener_dim: int | None = None,
        diffusion_jvp: Callable[[Any, float, Any], Any] | None = None,
    ) -> None:
        _check_noise(type(self).__name__, noise, wiener_dim)
        self._drift, self._diffusion, self._jvp = drift, diffusion, diffusion_jvp
        self.noise = noise
        self.wiener_dim = wiener_dim

    def drift(self, x: Any, t: float) -> Any:
        return self._drift(x, t)

    def diffusion(self, x: Any, t: float) -> Any:
        return self._diffusion(x, t)

    def diffusion_jvp(self, x: Any, t: float, v: Any) -> Any:
        return super().diffusion_jvp(x, t, v) if self._jvp is None else self._jvp(x, t, v)


class StratonovichSDE(ItoSDE):
    """dx = f(x, t) dt + g(x, t) ∘ dW from callables, in Stratonovich's sense; else as `ItoSDE`."""

    calculus = "stratonovich"


def _check_noise(name: str, noise: str, wiener_dim: int | None) -> None:
    if noise not in NOISE_CLASSES:
        raise ValueError(f"{name}: noise={noise!r} is unknown; use one of {', '.join(NOISE_CLASSES)}")
    if noise == "general" and wiener_dim is None:
        raise ValueError(f"{name}: general noise needs wiener_dim, the number of columns of g")
    if noise in ("scalar", "diagonal") and wiener_dim is not None:
        raise ValueError(f"{name}: {noise} noise takes no wiener_dim; for a matrix g say noise='general'")
    if wiener_dim is not None and (not isinstance(wiener_dim, int) or wiener_dim < 1):
        raise ValueError(f"{name}: wiener_dim must be a whole number, at least 1; got {wiener_dim!r}")


def noise_correction(sde: SDE, x: Any, t: float) -> Any:
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
    return sum(sde.diffusion_jvp(x, t, g[..., k])[..., k] for k in columns)


class _Converted(ItoSDE):
    """An SDE read in the other calculus: the same process."""

    def __init__(self, sde: SDE, sign: float) -> None:
        # with time running down the step is -f |dt| + g dW, so that the correction changes sign in f
        self.original, self.sign = sde, -sign if sde.falling else sign
        self.noise, self.wiener_dim = sde.noise, sde.wiener_dim
        self.falling = sde.falling  # type: ignore[misc]

    def drift(self, x: Any, t: float) -> Any:
        return self.original.drift(x, t) + 0.5 * self.sign * noise_correction(self.original, x, t)

    def diffusion(self, x: Any, t: float) -> Any:
        return self.original.diffusion(x, t)

    def diffusion_jvp(self, x: Any, t: float, v: Any) -> Any:
        return self.original.diffusion_jvp(x, t, v)

    def deterministic(self, s: float, t: float) -> bool:
        return self.original.deterministic(s, t)


class _AsIto(_Converted):
    calculus = "ito"


class _AsStratonovich(_Converted):
    calculus = "stratonovich"


def to_ito(sde: SDE) -> SDE:
    """The same process as an Itô SDE: f + ½ Σ_k (∂g_k/∂x) g_k; itself if it is one, or additive."""
    if sde.calculus == "ito" or sde.noise == "additive":
        return sde
    return sde.original if isinstance(sde, _Converted) else _AsIto(sde, 1.0)


def to_stratonovich(sde: SDE) -> SDE:
    """The same process as a Stratonovich SDE: f - ½ Σ_k (∂g_k/∂x) g_k; itself if it is one, or additive."""
    if sde.calculus == "stratonovich" or sde.noise == "additive":
        return sde
    return sde.original if isinstance(sde, _Converted) else _AsStratonovich(sde, -1.0)
