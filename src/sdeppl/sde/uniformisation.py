"""The law of a Markov chain in continuous time, by uniformisation."""

import math

from array_api_compat import array_namespace

from ..backend import Array
from .fokker_planck_rates import Jumps

TAIL = 1e-17  # Poisson weights below it are left out


def expm_action(p: Array, jumps: list[Jumps], span: float) -> Array:
    """p e^{Q span} = Σ_k Poisson(q span; k) P^k p for constant rates, with P = 1 + Q/q ≥ 0.

    p: masses of the cells, any shape; q: the largest rate out of a cell. No number is negative, and
    the mass stays. Jumps out of the array are left out. Source: Jensen 1953.
    """
    xp = array_namespace(p)
    moves, leaving = [], xp.zeros_like(p)
    for jump in jumps:
        for sign, rate in ((1, jump.forward), (-1, jump.backward)):
            windows = _windows(tuple(sign * o for o in jump.offset), p.shape)
            if windows is not None:
                here, there = windows
                moves.append((here, there, rate[here]))
                leaving[here] += rate[here]
    fastest = float(xp.max(leaving))
    if not math.isfinite(fastest):
        raise ValueError(
            "the rates between cells are not finite: drift or diffusion is NaN or infinite in the box"
        )
    if fastest * span == 0:
        return p
    moves = [(here, there, rate / fastest) for here, there, rate in moves]
    stay = xp.ones_like(p)
    for here, _, share in moves:
        stay[here] -= share
    stay = xp.maximum(stay, xp.zeros_like(stay))
    first, weights = poisson_weights(fastest * span)
    total = xp.zeros_like(p)
    for k in range(first + len(weights)):
        if k > 0:
            after = stay * p
            for here, there, share in moves:
                after[there] += share * p[here]
            p = after
        if k >= first:
            total += weights[k - first] * p
    return total


def poisson_weights(mean: float) -> tuple[int, list[float]]:
    """(k_0, [e^{-m} m^k/k! for k = k_0, ...]) without the tails; they add up to 1."""
    mode = math.floor(mean)
    up, k, value = [], mode, 1.0
    while value > TAIL:
        up.append(value)
        k += 1
        value *= mean / k
    down, k, value = [], mode, mode / mean
    while k > 0 and value > TAIL:
        down.append(value)
        k -= 1
        value *= k / mean
    weights = [*reversed(down), *up]
    total = math.fsum(weights)
    return mode - len(down), [weight / total for weight in weights]


def _windows(
    offset: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Slices of the cells whose jump by offset stays inside, and of those they reach; None for none."""
    here, there = [], []
    for o, n in zip(offset, shape, strict=True):
        if abs(o) >= n:
            return None
        here.append(slice(max(0, -o), n - max(0, o)))
        there.append(slice(max(0, o), n - max(0, -o)))
    return tuple(here), tuple(there)
