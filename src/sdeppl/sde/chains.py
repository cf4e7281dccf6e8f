"""Discrete noising chains as the time grids at which a forward SDE takes exactly their steps."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from scipy.optimize import brentq

from ..backend import host_numbers
from ..backend.words import told_apart
from .edm import EDMSDE
from .ve import VESDE, CallableVESDE
from .vp import VPSDE

ROUNDING = 1e-12  # relative distance from the level at T that counts as reaching T


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


def _require_row(name: str, values: Any) -> None:
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
