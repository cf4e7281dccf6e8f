"""Log-density through the probability-flow ODE."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backend import Array, array_namespace, real_parameter, require_arrays, require_same, whole_number
from ..backend.arguments import count_of
from ..denoisers import Denoiser
from ..linalg import LinearOperator
from ..sde import SDE, IsotropicSDE, ReverseSDE, check_noise_class
from ..sde.grids import time_of_half_log_snr
from ..solvers import (
    AugmentedFlow,
    PIController,
    ProbabilityFlow,
    Solver,
    Tsitouras54,
    divergence,
    rademacher,
    solve,
    trace,
)
from .start import start_moments


class DenoisingFlow(AugmentedFlow):
    """The probability-flow ODE and its divergence on states (z, ℓ), (batch, dim + n), in u for time.

    With η = σ/α, v = η² and y = (x - m(t))/α = x_0 + η ε: z = (y - μ)/√(λ + v), u = ½ ln(1 + v/λ),

        dz/du = √(λ + v) (y - E[x_0 given x_t])/v - z,
        dℓ/du = (λ + v) (dim - tr Cov[x_0 given x_t]/v)/v - dim,

    both zero for x_0 ~ N(μ, λ I), and smooth down to u = 0, which is t = 0. Below v = `floor` a
    denoiser is 0/0: there (y - E)/v, minus the score of y, is taken at `floor`, an error of order
    floor² in the end. ℓ has one column for the exact trace, or one for each of `probes` (n, batch, dim).

    μ and λ are the denoiser's mean and mean variance at T: a choice of coordinates, no approximation.
    The divergence comes from Tweedie's formula, or from the mean's Jacobian where a denoiser's
    covariance is not its slope. Raises: ValueError where no signal is left at T.
    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 39; Karras et al.
    2022, eq. 4.
    """

    def __init__(self, denoiser: Denoiser, x: Array, t: float, T: float, probes: Array | None = None) -> None:
        self.denoiser, self.probes, self.numbers = denoiser, probes, denoiser.dim
        if denoiser.sde.alpha(denoiser.sde.T) <= 0:
            raise ValueError(
                f"no signal is left at T={denoiser.sde.T:.6g}, where α = 0: use a smaller T or β"
            )
        self.last_level = denoiser.sde.half_log_snr(T)
        largest = math.exp(-2 * self.last_level)
        start = 0 * x[:1, :] + denoiser.sde.shift(T)
        moments = denoiser(start, T)
        first = None if probes is None else probes[:, :1, :]
        spread = float(array_namespace(x).mean(_trace(moments.covariance, start, first))) / self.numbers
        self.mean, self.variance = moments.mean, max(spread, 1e-12 * largest)
        self.floor, trials = self._floor(x, t, 0.25 * largest)
        self.evaluations = 1 + trials

    def _floor(self, x: Array, t: float, largest: float) -> tuple[float, int]:
        """The smallest v used from x at t on, and the evaluations that it took to find.

        1 - tr C/(v dim) measures v against x_0's own scales. It is made less than eps^{1/3} by
        smaller v, but v stays above eps^{2/3} λ for the sake of rounding in y - E.
        """
        xp, sde = array_namespace(x), self.denoiser.sde
        eps = float(xp.finfo(x.dtype).eps)
        floor, least = (min(eps**power * self.variance, largest) for power in (1 / 3, 2 / 3))
        if t > 0 and math.exp(-2 * sde.half_log_snr(t)) >= floor:
            return 0.0, 0
        y, trials = (sde.centre(x, t) if t > 0 else x) / sde.alpha(t), 0
        while True:
            trials, time = trials + 1, self._time(floor)
            _, curvature = self._moments(y, time)
            if floor <= least or float(xp.max(xp.abs(curvature))) < eps ** (1 / 3) * self.numbers:
                return floor, trials
            floor = max(floor / 16, least)

    def level(self, t: float) -> float:
        """u at t."""
        return 0.5 * math.log1p(math.exp(-2 * self.denoiser.sde.half_log_snr(t)) / self.variance)

    def scale(self, t: float) -> float:
        """√(α² λ + σ²), by which z is multiplied to give x."""
        sde = self.denoiser.sde
        return math.sqrt(sde.alpha(t) ** 2 * self.variance + sde.sigma(t) ** 2)

    def enter(self, x: Array, t: float) -> Array:
        """z of x at t."""
        sde = self.denoiser.sde
        return (sde.centre(x, t) - sde.alpha(t) * self.mean) / self.scale(t)

    def leave(self, z: Array, t: float) -> Array:
        """x of z at t."""
        sde = self.denoiser.sde
        return sde.alpha(t) * self.mean + self.scale(t) * z + sde.shift(t)

    def drift(self, x: Array, t: float) -> Array:
        z = x[..., : self.numbers]
        noise = self.variance * math.expm1(2 * t)
        root = math.sqrt(self.variance + noise)
        y = self.mean + root * z
        noise = max(noise, self.floor)
        mean, curvature = self._moments(y, self._time(noise))
        velocity = (root / noise) * (y - mean) - z
        return array_namespace(z).concat([velocity, (root**2 / noise) * curvature - self.numbers], axis=-1)

    def _moments(self, y: Array, t: float) -> tuple[Array, Array]:
        """E[x_0 given x_t] and dim - tr Cov[x_0 given x_t]/v, or its estimates, at y; of the order of v."""
        sde, denoiser = self.denoiser.sde, self.denoiser
        alpha, x = sde.alpha(t), sde.alpha(t) * y + sde.shift(t)
        if denoiser.covariance_is_slope:
            moments = denoiser(x, t)
            ratio = (alpha / sde.sigma(t)) ** 2
            return moments.mean, self.numbers - ratio * _trace(moments.covariance, x, self.probes)
        slopes = divergence(lambda x: denoiser.mean(x, t), x, self.probes)
        return denoiser.mean(x, t), self.numbers - alpha * slopes

    def _time(self, noise: float) -> float:
        """The time at which η² = noise; T for more noise than there is then, by rounding."""
        return time_of_half_log_snr(self.denoiser.sde, max(-0.5 * math.log(noise), self.last_level))


def _trace(covariance: LinearOperator, x: Array, probes: Array | None) -> Array:
    """tr C for each row of x: (batch, 1), or (batch, n) by probes."""
    if probes is not None or not covariance.materialised:
        return trace(covariance.matvec, x, probes)
    xp = array_namespace(x)
    return xp.broadcast_to(xp.linalg.trace(covariance.dense())[..., None], (x.shape[0], 1))


Terminal = Callable[[Array], Array]


@dataclass(frozen=True)
class LogDensity:
    """value: ln p_t(x) for each row, (batch,). standard_error: of Hutchinson's estimate, (batch,), or
    None where the trace is exact. evaluations: of the score with its divergence, on the whole batch.
    """

    value: Array
    standard_error: Array | None
    evaluations: int

    def __repr__(self) -> str:
        return f"LogDensity({count_of(self.value)} values from {self.evaluations} evaluations)"


def log_density(
    source: Denoiser | ReverseSDE,
    x: Array,
    *,
    t: float = 0.0,
    T: float | None = None,
    terminal: Terminal | None = None,
    probes: int | None = None,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    solver: Solver | None = None,
) -> LogDensity:
    """ln p_t(x) = ln p_T(x_T) + ∫_t^T ∇·F dr along dx/dr = F(x, r), the probability-flow ODE, from x.

    source: a denoiser, whose covariance gives the divergence (the mean's Jacobian, for a guided one), or
    a `ReverseSDE` of any forward SDE, whose drift's Jacobian does, and whose score must hold from t on.
    Of an approximate score this is the density of what the ODE makes of p_T.
    x (batch, dim), at time t. T: where p_T is known, by default the forward SDE's. terminal: x_T ↦
    ln p_T(x_T), (batch,); by default the source's own `log_density(x, T)` where it has one, else
    for a denoiser the Gaussian at which `Posterior` starts, which is as good as x_T is Gaussian.

    probes: None for the exact trace, dim products an evaluation; or the number of Hutchinson's random
    signs for each row, at least 2, from `seed`. rtol, atol: of each step, the latter rtol by default;
    1e-6, or 1e-4 in float32; the steps are shared by the batch. solver: `Tsitouras54()` by default.

    Raises: ValueError for shapes, times and probes that do not fit, and where g is not what its noise
    class says; TypeError for another source; NonFiniteState. Source: Song et al. 2021, eq. 39;
    Grathwohl et al. 2019 (FFJORD).
    """
    denoiser, forward = _parts(source)
    t, T = _checked_times(forward, t, T)
    _check_rows(denoiser, x, probes)
    for time in (t, 0.5 * (t + T)):
        check_noise_class(forward, x, time)
    last = terminal or _terminal(denoiser, T)
    signs = None if probes is None else rademacher(seed, probes, x)
    flow = _flow(denoiser, forward, x, t, T, signs)
    xp, dim = array_namespace(x), x.shape[1]
    start = xp.concat(
        [flow.enter(x, t), xp.zeros_like(x[:, :1] if signs is None else signs[:, :, 0].T)], axis=-1
    )
    relative = rtol if rtol is not None else max(1e-6, 1e3 * float(xp.finfo(x.dtype).eps))
    path = solve(
        flow,
        start,
        [flow.level(t), flow.level(T)],
        solver=solver or Tsitouras54(),
        control=PIController(rtol=relative, atol=relative if atol is None else atol),
        keep="last",
    )
    end = path.states[-1, ...]
    stretch = dim * (math.log(flow.scale(T)) - math.log(flow.scale(t)))
    known = last(flow.leave(end[:, :dim], T)) + stretch
    evaluations = path.stats["evaluations"] + flow.evaluations
    estimates = known[:, None] + end[:, dim:]
    if probes is None:
        return LogDensity(estimates[:, 0], None, evaluations)
    error = xp.std(estimates, axis=-1, correction=1) / math.sqrt(probes)
    return LogDensity(xp.mean(estimates, axis=-1), error, evaluations)


def _parts(source: Denoiser | ReverseSDE) -> tuple[Any, SDE]:
    """What gives the score, and the forward SDE."""
    if isinstance(source, ReverseSDE):
        return source.denoiser, source.forward
    if isinstance(source, Denoiser):
        return source, source.sde
    raise TypeError(
        f"log_density takes a Denoiser or a ReverseSDE, which holds a score; got {type(source).__name__}"
    )


def _flow(denoiser: Any, forward: SDE, x: Array, t: float, T: float, probes: Array | None) -> AugmentedFlow:
    """In coordinates made for a denoiser, where it is one; a `ReverseSDE` has checked that its SDE fits."""
    if isinstance(denoiser, Denoiser) and isinstance(forward, IsotropicSDE):
        return DenoisingFlow(denoiser, x, t, T, probes)
    return ProbabilityFlow(ReverseSDE(forward, denoiser), x.shape[1], probes)


def _checked_times(forward: SDE, t: float, T: float | None) -> tuple[float, float]:
    last = getattr(forward, "T", None) if T is None else T
    if last is None:
        raise ValueError(f"{type(forward).__name__} has no T: give the time T at which p_T is known")
    t, last = real_parameter("t", t), real_parameter("T", last)
    if not 0 <= t < last < math.inf or (isinstance(forward, IsotropicSDE) and last > forward.T):
        raise ValueError(
            f"need 0 <= t < T, and T no later than the forward SDE's; got t={t}, T={last} and {forward}"
        )
    return float(t), float(last)


def _check_rows(denoiser: Any, x: Array, probes: int | None) -> None:
    require_arrays("log_density", x=x)
    dim = getattr(denoiser, "dim", x.shape[-1] if x.ndim else 0)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"x must be (batch, {dim or 'dim'}); got {tuple(x.shape)}")
    if isinstance(denoiser, Denoiser):
        require_same(denoiser.backend, x=x)
    xp = array_namespace(x)
    if not bool(xp.all(xp.isfinite(x))):
        raise ValueError("x has NaN or infinity; give log_density finite rows")
    if probes is not None:
        whole_number("probes", probes, 2)  # which a standard error takes


def _terminal(denoiser: Any, T: float) -> Terminal:
    """ln p_T of what gives the score: its own where it knows it, else that of the Gaussian start."""
    if hasattr(denoiser, "log_density"):
        return lambda x: denoiser.log_density(x, T)
    if not isinstance(denoiser, Denoiser) or denoiser.sde.T != T:
        raise ValueError(
            f"{type(denoiser).__name__} does not know its density at T={T:.6g}: give terminal, a "
            "function x_T ↦ ln p_T(x_T)"
        )
    start = start_moments(denoiser, getattr(denoiser, "prior", None))
    xp, dim = denoiser.backend.xp, denoiser.dim
    constant = 0.5 * dim * math.log(2 * math.pi) + start.root.logdet()

    def gaussian(x: Array) -> Array:
        white = start.root.solve(x - start.mean)
        return -0.5 * xp.sum(white * white, axis=-1) - constant

    return gaussian
