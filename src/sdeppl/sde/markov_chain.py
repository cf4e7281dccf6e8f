"""The Markov chain on the cells of a grid that stands for an SDE: its jumps, and its law in time."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..backend import Array, array_namespace
from .base import SDE

Offset = tuple[int, ...]
SHARE = 0.02  # of the drift's rate, that the axes weigh in the fit below where there is no diffusion
TAIL = 1e-17  # Poisson weights below it are left out


class Jumps(NamedTuple):
    """Rates (n,) from each cell by +offset and by -offset, per unit of time."""

    offset: Offset
    forward: Any
    backward: Array


def jumps(sde: SDE, x: Array, t: float, spacing: Sequence[float], reach: int) -> list[Jumps]:
    """All jumps from cells with centres x (n, dim), dim 1 or 2, of an Itô SDE at t.

    Per unit of time the mean of the jumps is the drift, and their second moment is g gᵀ wherever the
    drift over one cell is small against the noise, else larger. For an SDE that is solved with time
    running down, time counts down.
    reach: the longest jump, in cells, that noise along an oblique direction may ask for.
    """
    sign = -1.0 if sde.falling else 1.0
    f = [sign * sde.drift(x, t)[:, a] / h for a, h in enumerate(spacing)]
    square = half_square(sde, x, t)
    if len(spacing) == 1:
        (drift,), weight = f, square[0] / spacing[0] ** 2
        return [Jumps((1,), *jump_rates(weight, drift))]
    (h_1, h_2), (m_11, m_12, m_22) = spacing, square
    return _planar_jumps(f, (m_11 / h_1**2, m_12 / (h_1 * h_2), m_22 / h_2**2), reach)


def half_square(sde: SDE, x: Array, t: float) -> tuple[Array, ...]:
    """½ g gᵀ at x (n, dim), each entry (n,): (M_11,) for dim 1 and (M_11, M_12, M_22) for dim 2."""
    xp, dim = array_namespace(x), x.shape[-1]
    g, zero = sde.diffusion(x, t), xp.zeros_like(x[:, 0])
    if sde.wiener_dim is not None:
        rows = [g[..., a, :] for a in range(dim)]
        pairs = {
            (a, b): 0.5 * xp.sum(rows[a] * rows[b], axis=-1) + zero for a in range(dim) for b in range(dim)
        }
    else:
        g = g + xp.zeros_like(x)
        pairs = {(a, b): 0.5 * g[:, a] * g[:, b] for a in range(dim) for b in range(dim)}
        if sde.noise != "scalar" and dim == 2:
            pairs[0, 1] = zero
    return (pairs[0, 0],) if dim == 1 else (pairs[0, 0], pairs[0, 1], pairs[1, 1])


def jump_rates(weight: Array, flow: Array) -> tuple[Array, Array]:
    """Rates max(w, |flow|/2) ± flow/2: their difference is `flow`, and none is negative.

    Half their sum is w, as central differences have it, where |flow| ≤ 2 w, and else |flow|/2, as
    upwind ones have it. Source: Spalding 1972 (hybrid differencing).
    """
    xp = array_namespace(weight)
    half_sum = xp.maximum(weight, 0.5 * xp.abs(flow))
    return half_sum + 0.5 * flow, half_sum - 0.5 * flow


def _planar_jumps(f: list[Array], m: tuple[Array, Array, Array], reach: int) -> list[Jumps]:
    """Along Selling's three directions, and along the axes too where noise is weak against drift.

    With weights w_e and W = Σ w_e e eᵀ, the flows w_e e·W⁻¹f along the directions e add up to f,
    and no other flows have a smaller Σ flow²/w.
    """
    xp = array_namespace(f[0])
    directions = selling(m, reach)
    xx, xy, yy = (sum(w * e[a] * e[b] for w, e in directions) for a, b in ((0, 0), (0, 1), (1, 1)))
    m = xx, xy, yy  # type: ignore[assignment]
    nothing = xp.zeros_like(f[0])
    slope, regular = _solved(m, f)
    steepest = [xp.abs(e[0] * slope[0] + e[1] * slope[1]) for _, e in directions]
    fits = regular & (xp.max(xp.stack(steepest), axis=0) <= 2)
    extra = xp.where(fits, nothing, SHARE * (xp.abs(f[0]) + xp.abs(f[1])))
    slope, _ = _solved((m[0] + extra, m[1], m[2] + extra), f)
    axes: tuple[Offset, Offset] = (1, 0), (0, 1)
    found = {e: Jumps(e, *jump_rates(nothing, extra * a)) for e, a in zip(axes, slope, strict=True)}
    for weight, e in directions:
        pair = jump_rates(weight, weight * (e[0] * slope[0] + e[1] * slope[1]))
        for offset in _offsets(e):
            here = (e[0] == offset[0]) & (e[1] == offset[1])
            rates = [xp.where(here, rate, nothing) for rate in pair]
            before = found.get(offset, Jumps(offset, nothing, nothing))
            found[offset] = Jumps(offset, before.forward + rates[0], before.backward + rates[1])
    return list(found.values())


def _solved(m: tuple[Array, Array, Array], f: list[Array]) -> tuple[tuple[Array, Array], Array]:
    """M⁻¹ f, and where M is not singular to rounding; 0 elsewhere."""
    xp = array_namespace(f[0])
    determinant = m[0] * m[2] - m[1] * m[1]
    regular = determinant > 10 * float(xp.finfo(f[0].dtype).eps) * m[0] * m[2]
    inverse = xp.where(regular, 1 / xp.where(regular, determinant, 1 + 0 * determinant), 0 * determinant)
    return (inverse * (m[2] * f[0] - m[1] * f[1]), inverse * (m[0] * f[1] - m[1] * f[0])), regular


def selling(m: tuple[Array, Array, Array], reach: int) -> list[tuple[Array, tuple[Array, Array]]]:
    """Weights ρ ≥ 0 and integer vectors e with Σ ρ e eᵀ = M = [[M_11, M_12], [M_12, M_22]]: three of them.

    Exact wherever no e has an entry beyond `reach`; elsewhere the smaller eigenvalue of M is first
    raised to about 1/reach² of the larger, which adds noise. The first nonzero entry of e is positive.
    Source: Selling 1874; Conway & Sloane 1992; Bonnans, Ottenwaelter & Zidani 2004.
    """
    xp = array_namespace(m[0])
    basis, fits = _obtuse_superbase(m, reach)
    if not bool(xp.all(fits)):
        more = xp.where(fits, xp.zeros_like(m[0]), (m[0] + m[2]) / reach**2)
        m = (m[0] + more, m[1], m[2] + more)
        basis, _ = _obtuse_superbase(m, 4 * reach)
    found = []
    for k in range(3):
        b, other, third = (basis[(k + i) % 3] for i in range(3))
        weight = xp.maximum(-_product(m, other, third), xp.zeros_like(m[0]))
        flip = xp.where((b[1] > 0) | ((b[1] == 0) & (b[0] < 0)), -xp.ones_like(weight), xp.ones_like(weight))
        found.append((weight, (-flip * b[1], flip * b[0])))
    return found


def _obtuse_superbase(m: tuple[Array, Array, Array], reach: int) -> tuple[list[tuple[Array, Array]], Array]:
    """Integer vectors b_1 + b_2 + b_3 = 0 with no product b_i·M b_j > 0, and where they were found."""
    xp = array_namespace(m[0])
    one, zero = xp.ones_like(m[0]), xp.zeros_like(m[0])
    basis = [(one, zero), (zero, one), (-one, -one)]
    rounding = 1e2 * float(xp.finfo(m[0].dtype).eps) * (m[0] + m[2])
    acute = xp.ones_like(m[0], dtype=xp.bool)
    for _ in range(4 * reach):
        acute = xp.zeros_like(acute)
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            turn = _product(m, basis[i], basis[j]) > rounding
            acute = acute | turn
            new = [
                tuple(-a for a in basis[i]),
                basis[j],
                tuple(a - b for a, b in zip(basis[i], basis[j], strict=True)),
            ]
            for index, vector in zip((i, j, k), new, strict=True):
                basis[index] = tuple(xp.where(turn, a, b) for a, b in zip(vector, basis[index], strict=True))
        if not bool(xp.any(acute)):
            break
    longest = xp.max(xp.stack([xp.abs(entry) for vector in basis for entry in vector]), axis=0)
    return basis, ~acute & (longest <= reach)


def _product(m: tuple[Array, Array, Array], a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    return m[0] * a[0] * b[0] + m[1] * (a[0] * b[1] + a[1] * b[0]) + m[2] * a[1] * b[1]


def _offsets(e: tuple[Array, Array]) -> list[Offset]:
    """The different integer vectors in e."""
    xp = array_namespace(e[0])
    width = 2 * int(xp.max(xp.abs(e[1]))) + 1
    codes = xp.unique_values(xp.astype(e[0] * width + e[1], xp.int64))
    pairs: list[Offset] = []
    for index in range(codes.shape[0]):
        first = math.floor(int(codes[index]) / width + 0.5)
        pairs.append((first, int(codes[index]) - first * width))
    return pairs


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
