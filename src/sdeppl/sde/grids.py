"""Time grids."""

import math

from scipy.optimize import brentq

from .affine import IsotropicSDE


def uniform_grid(start: float, stop: float, steps: int) -> list[float]:
    """steps + 1 equally spaced times from start to stop. Raises: ValueError for steps < 1."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    return [start + (stop - start) * k / steps for k in range(steps)] + [stop]


def time_of_half_log_snr(sde: IsotropicSDE, value: float) -> float:
    """The time t in (0, T] at which ln(α/σ) = value. Raises: ValueError where there is none."""
    last = sde.half_log_snr(sde.T)
    if value < last:
        raise ValueError(f"ln(α/σ) = {value:.3g} lies beyond T = {sde.T}, where it is {last:.3g}")
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
    Raises: ValueError for steps < 2, or a level that is not reached between 0 and T.
    Source: Lu et al. 2022 (DPM-Solver), section 3.4.
    """
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps must be a whole number, at least 2; got {steps!r}")
    if not noise_to_signal > 0:
        raise ValueError(f"noise_to_signal must be positive; got {noise_to_signal}")
    levels = uniform_grid(sde.half_log_snr(sde.T), -math.log(noise_to_signal), steps - 1)
    if not levels[-1] > levels[0]:
        raise ValueError(
            f"noise_to_signal = {noise_to_signal} is more than σ/α at T, {math.exp(-levels[0]):.3g}"
        )
    return [sde.T, *(time_of_half_log_snr(sde, level) for level in levels[1:]), 0.0]
