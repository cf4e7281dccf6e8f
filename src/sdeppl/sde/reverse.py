"""The reverse SDE, with free noise amplitude."""

import math
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import device

from ..backend import Array, Number, array_namespace, real_number
from .base import SDE, IsotropicSDE, NoiseClass, StepCoefficients, to_ito

LARGEST = 1e100  # of c, whose square is to be a number still


@dataclass(frozen=True)
class ReverseSDE(SDE):
    """dx = [f - ½ (∇·G + G s) - ½ (∇·C + C s)] dt + γ dW, with time running from T down to 0.

    G = g gᵀ of the forward SDE, s the score of its marginal p_t, γ the noise amplitude and C = γ γᵀ.
    `c` counts in units of g: γ = c g for a number c ≥ 0, γ = g c for a matrix (wiener_dim, m), or a
    function of t that gives either; every c has the same marginals; 0 is the probability-flow ODE, 1
    Anderson's reverse SDE. For a forward SDE dx = -a x dt + b dW and a number c this is
    [a x + (1 + c²) b²/2 s] dt_R + c b dW, with dt_R = -dt (docs/architecture.md). A forward SDE in
    Stratonovich's sense is converted.

    denoiser: gives the score, by `.score(x, t)`, by `.mean(x, t)` = E[x_0 given x_t = x] and Tweedie's
    formula, or as a function (x, t) ↦ score. m: the columns of a matrix c that is a function of t.
    Raises: ValueError for c < 0, or a denoiser of another forward SDE; TypeError for a forward SDE that is
    none, or a denoiser that gives no score. Source: Anderson 1982,
    eq. 5; Song et al. 2021, eq. 6, 13 and appendix D.1; Karras et al. 2022, eq. 6.
    """

    forward: SDE
    denoiser: Any
    c: Number = 1.0
    m: int | None = None
    falling: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.forward, SDE) or self.forward.falling:
            raise TypeError(
                "ReverseSDE(forward, denoiser): forward must be a forward SDE such as VPSDE(); got "
                f"{self.forward!r:.80}"
            )
        number = real_number(self.c)
        if number is not None:
            object.__setattr__(self, "c", number)
        known = callable(self.c) or hasattr(self.c, "shape") if number is None else 0 <= number < LARGEST
        if not known:
            raise ValueError(
                f"ReverseSDE: c must be a number >= 0, a matrix or a function of t; got {self.c!r}"
            )
        if not (callable(self.denoiser) or hasattr(self.denoiser, "score") or hasattr(self.denoiser, "mean")):
            raise TypeError(
                "ReverseSDE: denoiser must be a Denoiser, or a function (x, t) ↦ score; got "
                f"{type(self.denoiser).__name__}"
            )
        if self.m is None and getattr(self.c, "ndim", 0) == 2:
            object.__setattr__(self, "m", self.c.shape[1])
        object.__setattr__(self, "forward", to_ito(self.forward))
        _check_marginals(self.forward, getattr(self.denoiser, "sde", None))

    @property
    def noise(self) -> NoiseClass:  # type: ignore[override]
        if self.m is None:
            return self.forward.noise
        return "additive" if self.forward.noise == "additive" else "general"

    @property
    def wiener_dim(self) -> int | None:  # type: ignore[override]
        return self.forward.wiener_dim if self.m is None else self.m

    def noise_ratio(self, t: float) -> Number:
        """c at t, in units of g(t): a float or a matrix."""
        c = self.c(t) if callable(self.c) else self.c
        if self.m is not None:
            return c
        if getattr(c, "requires_grad", False):
            raise TypeError(
                "ReverseSDE: no gradient flows through a number c, which becomes a float; give float(c), or "
                "a matrix c"
            )
        return float(c)  # a float, lest a NumPy scalar raise float32 arrays to float64

    def deterministic(self, s: float, t: float) -> bool:
        return self.m is None and self.noise_ratio(s) == 0 == self.noise_ratio(0.5 * (s + t))

    def score(self, x: Array, t: float) -> Array:
        """∂ ln p(x_t), like x."""
        if hasattr(self.denoiser, "score"):
            return self.denoiser.score(x, t)
        if not hasattr(self.denoiser, "mean"):
            return self.denoiser(x, t)
        alpha, sigma = self.isotropic.alpha(t), self.isotropic.sigma(t)
        return (alpha * self.denoiser.mean(x, t) - self.isotropic.centre(x, t)) / sigma**2

    def drift(self, x: Array, t: float) -> Array:
        forward, score = self.forward, self.score(x, t)
        g = forward.diffusion(x, t)
        drift = forward.drift(x, t)
        if self.m is None:
            weight = 0.5 * (1 + self.noise_ratio(t) ** 2)
            if isinstance(g, (int, float)):
                return drift - weight * g**2 * score
            pushed = forward.diffusion_product(g, forward.diffusion_adjoint(g, score))
            if forward.noise != "additive":
                pushed = pushed + divergence_of_square(forward, x, t)
            return drift - weight * pushed
        gamma = self.diffusion(x, t)
        pushed = forward.diffusion_product(g, forward.diffusion_adjoint(g, score))
        pushed = pushed + self.diffusion_product(gamma, self.diffusion_adjoint(gamma, score))
        if forward.noise != "additive":
            pushed = pushed + divergence_of_square(forward, x, t) + divergence_of_square(self, x, t)
        return drift - 0.5 * pushed

    def diffusion(self, x: Array, t: float) -> Number:
        c, g = self.noise_ratio(t), self.forward.diffusion(x, t)
        if self.m is None:
            return c * g
        if isinstance(g, (int, float)):
            return g * c
        if self.forward.wiener_dim is not None:
            return g @ c
        return g[..., None] * c

    def diffusion_jvp(self, x: Array, t: float, v: Array) -> Array:
        c, slope = self.noise_ratio(t), self.forward.diffusion_jvp(x, t, v)
        if self.m is None:
            return c * slope
        return slope @ c if self.forward.wiener_dim is not None else slope[..., None] * c

    def coefficients(self, s: float, t: float) -> StepCoefficients:
        """Exact integrals over [t, s] for a denoiser that is linear in h = ln(α/σ) along the step.

        With r = e^{-h} and k = c² (at the step's middle): decay σ_t/σ_s r^k, first α_t (1 - r^{1+k}),
        second α_t (1 - (1 - r^{1+k})/((1+k) h)), noise σ_t √(1 - r^{2k}). At t = 0 the second is
        taken as 0, since the denoiser there is the identity. Source: Lu et al. 2022
        (DPM-Solver++), here for any c. Raises: ValueError for t ≥ s; TypeError for a matrix c, or a
        forward SDE whose α and σ are not numbers.
        """
        require_falling(s, t)
        forward = self.isotropic
        if self.m is not None:
            raise TypeError("an exponential step needs a number c; got a matrix, so use EulerMaruyama")
        (alpha_s, sigma_s), (alpha_t, sigma_t) = forward.alpha_sigma(s), forward.alpha_sigma(t)
        k = self.noise_ratio(0.5 * (s + t)) ** 2
        shift_t = forward.shift(t) if forward.shifted else None
        if sigma_t == 0:
            return StepCoefficients(0.0, alpha_t, 0.0, 0.0, shift_t)
        r = max((alpha_s * sigma_t) / (sigma_s * alpha_t), sys.float_info.min)  # α_s may underflow
        log_r = math.log(r)
        decay = sigma_t / sigma_s * r**k if log_r < 0 else sigma_t / sigma_s
        shift = None if shift_t is None else shift_t - decay * forward.shift(s)
        if log_r >= 0:  # α/σ has the same value at both ends, to rounding
            return StepCoefficients(decay, 0.0, 0.0, 0.0, shift)
        first = -math.expm1((1 + k) * log_r)
        return StepCoefficients(
            decay=decay,
            first=alpha_t * first,
            second=alpha_t * (1 + first / ((1 + k) * log_r)),
            noise=sigma_t * math.sqrt(-math.expm1(2 * k * log_r)),
            shift=shift,
        )

    def nonlinear(self, x: Array, t: float) -> Array:
        """E[x_0 given x_t = x]."""
        if hasattr(self.denoiser, "mean"):
            return self.denoiser.mean(x, t)
        forward = self.isotropic
        return (forward.centre(x, t) + forward.sigma(t) ** 2 * self.score(x, t)) / forward.alpha(t)

    @property
    def isotropic(self) -> IsotropicSDE:
        """The forward SDE, of numbers α and σ. Raises: TypeError for another."""
        if not isinstance(self.forward, IsotropicSDE):
            raise TypeError(
                "this needs a forward SDE with x_t = α x_0 + σ ε for numbers α and σ, as VPSDE has; got "
                f"{type(self.forward).__name__}; use EulerMaruyama, or a denoiser with .score(x, t)"
            )
        return self.forward


def require_falling(s: float, t: float) -> None:
    """Raises: ValueError for a step that does not lead down in time."""
    if t >= s:
        raise ValueError(f"a reverse SDE runs from T down to 0: got a step from t={s} to t={t}")


def _check_marginals(forward: SDE, sde: object) -> None:
    """Raises: ValueError where the denoiser's SDE has other α, σ or shift, by those of three times."""
    if forward is sde or not (isinstance(forward, IsotropicSDE) and isinstance(sde, IsotropicSDE)):
        return
    for t in (forward.T, 0.5 * forward.T, 0.1 * forward.T):
        for ours, theirs in ((forward.alpha(t), sde.alpha(t)), (forward.sigma(t), sde.sigma(t))):
            if not math.isclose(ours, theirs, rel_tol=1e-6):
                raise ValueError(
                    f"ReverseSDE: the denoiser's SDE, {sde}, has other marginals than the forward SDE, "
                    f"{forward}; make the denoiser with that one"
                )
        if (forward.shifted or sde.shifted) and _largest(forward.shift(t) - sde.shift(t)) > 1e-6:
            raise ValueError(
                f"ReverseSDE: the denoiser's SDE, {sde}, shifts the mean otherwise than the forward SDE, "
                f"{forward}; make the denoiser with that one"
            )


def _largest(value: Array) -> float:
    """|value| of a number, or the largest in an array."""
    if isinstance(value, (int, float)):
        return abs(value)
    xp = array_namespace(value)
    return float(xp.max(xp.abs(value)))


def divergence_of_square(sde: SDE, x: Array, t: float) -> Array:
    """∇·(g gᵀ), i.e. Σ_j ∂_j (g gᵀ)_ij, like x: the term of Anderson's drift where g depends on x.

    Diagonal noise costs one Jacobian–vector product, other noise one for each dimension.
    """
    g = sde.diffusion(x, t)
    if sde.noise == "diagonal":
        return 2 * sde.diffusion_jvp(x, t, g)
    xp, dim = array_namespace(x), x.shape[-1]
    identity = xp.eye(dim, dtype=x.dtype, device=device(x))
    total = xp.zeros_like(x)
    columns = g[..., None] if sde.noise == "scalar" else g
    for j in range(dim):
        slope = sde.diffusion_jvp(x, t, xp.broadcast_to(identity[j, :], x.shape))
        slope = slope[..., None] if sde.noise == "scalar" else slope
        row, slope_row = columns[..., j : j + 1, :], slope[..., j : j + 1, :]
        total = total + xp.sum(slope * row + columns * slope_row, axis=-1)
    return total
