"""Number grids."""

import math

from scipy.optimize import brentq

from ..backend import real_parameter, whole_number
from ..backend.words import told_apart
from .affine import IsotropicSDE, require_isotropic

MOST = 10_000_000  # steps, which a list holds


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
