"""Time grids, those of discrete noising chains among them."""

import itertools
import math
from collections.abc import Sequence

from scipy.optimize import brentq

from ..backend import host_numbers, real_parameter, whole_number
from ..backend.arguments import told_apart
from .base import IsotropicSDE, require_isotropic
from .ve import EDMSDE, VESDE, CallableVESDE
from .vp import VPSDE

MOST = 10_000_000  # steps, which a list holds
ROUNDING = 1e-12  # relative distance from the level at T that counts as reaching T


def uniform_grid(start: float, stop: float, steps: int) -> list[float]:
    """steps + 1 equally spaced times from start to stop. Raises: ValueError for steps < 1."""
    steps, start, stop = (
        whole_number("steps", steps, 1, MOST),
        real_parameter("start", start),
        real_parameter("stop", stop),
    )
    return [start + (stop - start) * k / steps for k in range(steps)] + [stop]


def quadratic_grid(start: float, stop: float, steps: int) -> list[float]:
    """steps + 1 times from start to stop, equally spaced in √t: denser where t is small.

    Raises: ValueError for steps < 1 or negative times. Source: Song et al. 2021 (DDIM), appendix D.2.
    """
    start, stop = real_parameter("start", start), real_parameter("stop", stop)
    if start < 0 or stop < 0:
        raise ValueError(f"a quadratic grid needs times from 0 on; got {start} to {stop}")
    roots = uniform_grid(math.sqrt(start), math.sqrt(stop), steps)
    return [start, *(root * root for root in roots[1:-1]), stop]


def time_of_half_log_snr(sde: IsotropicSDE, value: float) -> float:
    """The time t in (0, T] at which ln(α/σ) = value. Raises: ValueError where there is none."""
    last = sde.half_log_snr(sde.T)
    if value < last:
        got, known = told_apart(value, last)
        raise ValueError(f"ln(α/σ) = {got} lies beyond T = {sde.T}, where it is {known}")
    if value - last < 1e-12:  # closer than the root below is found
        return sde.T
    low = sde.T
    while sde.half_log_snr(low) < value:
        low /= 16
        if low < 1e-280:
            raise ValueError(f"ln(α/σ) does not reach {value:.3g} before t = 0 in {sde}")
    logarithm = brentq(
        lambda u: sde.half_log_snr(math.exp(u)) - value,
        math.log(low),
        math.log(min(16 * low, sde.T)),
        xtol=1e-13,
    )
    return min(math.exp(logarithm), sde.T)


def log_snr_grid(sde: IsotropicSDE, steps: int, noise_to_signal: float = 1e-3) -> list[float]:
    """steps + 1 falling times from T to 0, uniform in ln(α/σ) but for the last step.

    The last step goes from the time at which σ/α = `noise_to_signal` (in the data's units) to 0.
    Raises: TypeError for an SDE whose α and σ are not numbers; ValueError for steps < 2, or a level
    that is not reached between 0 and T. Source: Lu et al. 2022 (DPM-Solver), section 3.4.
    """
    require_isotropic(sde, "log_snr_grid", "use uniform_grid")
    steps = whole_number("steps", steps, 2)
    noise_to_signal = real_parameter("noise_to_signal", noise_to_signal)
    if not noise_to_signal > 0:
        raise ValueError(f"noise_to_signal must be positive; got {noise_to_signal}")
    levels = uniform_grid(sde.half_log_snr(sde.T), -math.log(noise_to_signal), steps - 1)
    if not levels[-1] > levels[0]:
        _, known = told_apart(noise_to_signal, math.exp(-levels[0]))
        raise ValueError(f"noise_to_signal = {noise_to_signal!r} is more than σ/α at T, {known}")
    return [sde.T, *(time_of_half_log_snr(sde, level) for level in levels[1:]), 0.0]


def edm_grid(
    sde: IsotropicSDE,
    steps: int,
    rho: float = 7.0,
    sigma_min: float = 0.002,
    sigma_max: float | None = None,
) -> list[float]:
    """steps + 1 falling times to 0, equally spaced in (σ/α)^{1/ρ} but for the last step.

    The levels are (σ_max^{1/ρ} + k/(N - 1) (σ_min^{1/ρ} - σ_max^{1/ρ}))^ρ, k < N = steps, then 0; a level
    is σ/α of the SDE, in the data's units. sigma_max: by default what is reached at T, so that the
    grid falls from T; with a smaller one it starts later. rho: 7 puts most steps at small levels, 1 is
    uniform.

    Raises: TypeError as `log_snr_grid`; ValueError for steps < 2, ρ ≤ 0, or levels that are not
    0 < σ_min < σ_max ≤ σ/α at T. Source: Karras et al. 2022 (EDM), eq. 5.
    """
    require_isotropic(sde, "edm_grid", "use uniform_grid")
    steps, rho, sigma_min = (
        whole_number("steps", steps, 2, MOST),
        real_parameter("rho", rho),
        real_parameter("sigma_min", sigma_min),
    )
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be positive and finite; got {rho!r}")
    last = math.exp(-sde.half_log_snr(sde.T))
    highest = last if sigma_max is None else real_parameter("sigma_max", sigma_max)
    if not 0 < sigma_min < highest:
        _, high = told_apart(sigma_min, highest, digits=6)
        raise ValueError(f"an EDM grid needs 0 < sigma_min < sigma_max; got {sigma_min!r} and {high}")
    if highest > last * (1 + 1e-12):
        got, known = told_apart(highest, last, digits=6)
        raise ValueError(f"sigma_max = {got} is more than σ/α at T = {sde.T}, {known}")
    roots = uniform_grid(highest ** (1 / rho), sigma_min ** (1 / rho), steps - 1)
    times = [time_of_half_log_snr(sde, -rho * math.log(root)) for root in roots[1:]]
    first = sde.T if highest >= last else time_of_half_log_snr(sde, -math.log(highest))
    return [first, *times, 0.0]


def ddpm_grid(sde: VPSDE, betas: Sequence[float]) -> list[float]:
    """The times t_N > … > t_1 > 0 at which α²(t_i) = Π_{j ≤ i} (1 - β_j), and 0 at the end.

    From t_{i-1} to t_i the exact transition of the VP SDE is DDPM's step: x_i = √(1 - β_i) x_{i-1} +
    √β_i ε. betas: β_1, …, β_N of the chain, each between 0 and 1. t_N is T only for an SDE that ends
    where the chain does; that of Ho et al., 1,000 steps of β from 1e-4 to 0.02, ends with a little more noise
    than VPSDE() and takes VPSDE(T=1.01), whose linear schedule goes on beyond 1.

    Raises: TypeError for another SDE; ValueError for no β, one outside (0, 1), or a chain that ends
    beyond T. Source: Ho et al. 2020 (DDPM), eq. 2 and 4; Song et al. 2021, appendix B.
    """
    if not isinstance(sde, VPSDE):
        raise TypeError(f"ddpm_grid needs a VPSDE, of which DDPM is a chain; got {type(sde).__name__}")
    _require_row("ddpm_grid: betas", betas)
    steps = [float(beta) for beta in betas]
    if not steps:
        raise ValueError("ddpm_grid: betas are empty; give β_1, …, β_N")
    for i, beta in enumerate(steps):
        if not 0 < beta < 1:
            raise ValueError(f"ddpm_grid: each β must be between 0 and 1; got betas[{i}] = {beta}")
    totals = list(itertools.accumulate(-math.log1p(-beta) for beta in steps))
    end = sde.schedule.integral(sde.T)
    if totals[-1] > end * (1 + ROUNDING):
        chain, own = told_apart(math.exp(-totals[-1]), math.exp(-end), digits=4)
        raise ValueError(
            f"ddpm_grid: the chain ends with α² = {chain}, the SDE with {own} at T = {sde.T}; use a larger "
            "T, or fewer steps"
        )
    times, low = [0.0], 0.0
    for total in totals:
        low = sde.T if total >= end * (1 - ROUNDING) else _time_of_integral(sde, total, low)
        times.append(low)
    return times[::-1]


def _require_row(name: str, values: object) -> None:
    row = values if hasattr(values, "__array__") or not hasattr(values, "__iter__") else list(values)
    if isinstance(values, (int, float)) or host_numbers(row, name).ndim != 1:
        raise TypeError(
            f"{name} must be all numbers of the chain, such as numpy.linspace gives; got {values!r}"
        )


def _time_of_integral(sde: VPSDE, total: float, low: float) -> float:
    """The time in [low, T] at which ∫_0^t β = total."""
    return brentq(lambda t: sde.schedule.integral(t) - total, low, sde.T, xtol=1e-300, rtol=1e-15)


def ncsn_grid(sde: VESDE | EDMSDE | CallableVESDE, sigmas: Sequence[float]) -> list[float]:
    """The times, falling to 0, at which the SDE's noise level is each of σ_N > … > σ_1.

    From t_{i-1} to t_i the exact transition is NCSN's step, x_i = x_{i-1} + √(σ_i² - σ_{i-1}²) ε.
    sigmas: rising or falling, in the data's units. Levels count what is there at t = 0, σ_min of a
    VESDE: a chain from σ_min to σ_max spaced geometrically is its uniform grid. A last time 0 is added
    where the lowest level is above that of t = 0.

    Raises: TypeError for another SDE; ValueError for no level, levels that are neither strictly
    rising nor strictly falling, or outside of those of [0, T]. Source: Song & Ermon 2019 (NCSN);
    Song et al. 2021, eq. 8 and appendix B.
    """
    if not isinstance(sde, (VESDE, EDMSDE, CallableVESDE)):
        raise TypeError(
            "ncsn_grid needs a VESDE, CallableVESDE or EDMSDE, of which NCSN is a chain; got "
            f"{type(sde).__name__}"
        )
    _require_row("ncsn_grid: sigmas", sigmas)
    levels = [float(sigma) for sigma in sigmas]
    if not levels:
        raise ValueError("ncsn_grid: sigmas are empty; give σ_1, …, σ_N")
    if levels[0] < levels[-1]:
        levels.reverse()
    for above, below in itertools.pairwise(levels):
        if not above > below:
            raise ValueError(f"ncsn_grid: sigmas must strictly rise or strictly fall; got {list(sigmas)}")
    lowest, highest = sde.level(0.0), sde.level(sde.T)
    if not (levels[-1] >= lowest * (1 - ROUNDING) and levels[0] <= highest * (1 + ROUNDING)):
        low, high, first, last = told_apart(lowest, highest, levels[-1], levels[0], digits=6)
        raise ValueError(
            f"ncsn_grid: the SDE's levels go from {low} at t = 0 to {high} at T; got sigmas from {first} to "
            f"{last}"
        )
    times = [_time_of_level(sde, level, lowest, highest) for level in levels]
    return times if times[-1] == 0.0 else [*times, 0.0]


def _time_of_level(sde: VESDE | EDMSDE | CallableVESDE, level: float, lowest: float, highest: float) -> float:
    if level >= highest * (1 - ROUNDING):
        return sde.T
    return 0.0 if level <= lowest * (1 + ROUNDING) else sde.time_of_level(level)
