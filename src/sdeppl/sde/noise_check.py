"""Whether g is what its noise class says."""

import math

from ..backend import Array, Noise, Number, array_namespace, backend_of
from .base import SDE, AffineSDE
from .reverse import ReverseSDE

PROBES = 8  # rows at least; each finds a given dependence with probability 1/2 or more


def check_noise_class(sde: SDE, x: Array, t: float) -> None:
    """Evaluate g near the states x (..., dim) at t, and compare it with what `sde.noise` promises.

    'additive': g(x) must not change with x. 'diagonal': with x' near x and y taking some components
    from x' and the others from x, g_i(y) must equal g_i(x') for the former and g_i(x) for the latter.
    Both to rounding; values that are not finite are passed over. Shapes are checked for every class.
    For a `ReverseSDE` its forward SDE is checked. Three evaluations of g, more for less than 8
    rows, and one host synchronisation; nothing is evaluated for an `AffineSDE`.

    Raises: ValueError where g has another shape, or depends on x in another way.
    """
    if isinstance(sde, ReverseSDE):
        return check_noise_class(sde.forward, x, t)
    if isinstance(sde, AffineSDE):
        return None
    g = sde.diffusion(x, t)
    check_shape(sde, x, g)
    if sde.noise not in ("additive", "diagonal") or isinstance(g, (int, float)) or 0 in x.shape:
        return None
    rows = max(1, math.prod(x.shape[:-1]))
    for probe in range(-(-PROBES // rows)):
        first, second = (_normals(x, rows, probe, index) for index in range(2))
        there = _neighbour(x, first)
        if sde.noise == "additive":
            _compare(sde, t, g, sde.diffusion(there, t))
        else:
            moved = second > 0
            xp = array_namespace(x)
            g_there = sde.diffusion(there, t)
            mixed = sde.diffusion(xp.where(moved, there, x), t)
            _compare(sde, t, xp.where(moved, g_there, g), mixed)
    return None


def _normals(x: Array, rows: int, probe: int, index: int) -> Array:
    """Normals like x, the same ones again every 128 rows."""
    backend = backend_of(x)
    few = min(rows, 128)
    normals = Noise(seed=20).stream(backend).normal(probe, (few, x.shape[-1]), index)
    again = backend.xp.arange(rows, dtype=backend.xp.int64, device=backend.device) % few
    return backend.xp.reshape(backend.xp.take(normals, again, axis=0), x.shape)


def _neighbour(x: Array, u: Array) -> Array:
    """x times factors near 1; zeros become small positive numbers, in case g needs positive states."""
    xp = array_namespace(x)
    size = xp.mean(xp.abs(x), axis=-1, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    factor = 1 + 0.2 * u / (1 + xp.abs(u))
    return xp.where(x == 0, 0.1 * size * xp.abs(u), x * factor)


def _compare(sde: SDE, t: float, expected: Array, found: Array) -> None:
    """Raises: ValueError where `found` differs from `expected` by more than rounding."""
    xp = array_namespace(found)
    if found.ndim == 0:
        expected, found = xp.reshape(expected, (1,)), xp.reshape(found, (1,))
    finite = xp.isfinite(expected) & xp.isfinite(found)
    nothing = xp.zeros_like(found)
    difference = xp.abs(xp.where(finite, found - expected, nothing))
    scale = xp.max(xp.abs(xp.where(finite, expected, nothing)), axis=-1, keepdims=True)
    wrong = difference > 1e3 * float(xp.finfo(found.dtype).eps) * scale
    if not bool(xp.any(wrong)):
        return
    name = type(getattr(sde, "original", sde)).__name__
    if sde.noise == "additive":
        raise ValueError(
            f"{name} says noise='additive', but its diffusion changes with x, by "
            f"{float(xp.max(difference)):.3g} near x at t={t:.6g}; say noise='diagonal' where g_i "
            "depends on x_i alone, else noise='general' with a matrix and wiener_dim"
        )
    dim = found.shape[-1]
    by_component = xp.any(xp.reshape(wrong, (-1, dim)), axis=0)
    i = int(xp.argmax(xp.astype(by_component, xp.int64)))
    raise ValueError(
        f"{name} says noise='diagonal', but component {i} of its diffusion changes with components of x "
        f"other than component {i} (near x at t={t:.6g}), where the formulas of diagonal noise are wrong; "
        f"say noise='general' with wiener_dim={dim} and the diagonal matrix (..., {dim}, {dim}) as diffusion"
    )


def check_square(sde: SDE, x: Array, g: Number) -> None:
    """Raises: ValueError for an additive g (dim, dim) that is like the states, but may be a matrix."""
    dim = x.shape[-1]
    if sde.noise != "additive" or sde.wiener_dim is not None or dim == 1:
        return
    if tuple(getattr(g, "shape", ())) == tuple(x.shape) == (dim, dim):
        raise ValueError(
            f"{type(getattr(sde, 'original', sde)).__name__}: an additive g ({dim}, {dim}) for {dim} states "
            f"of {dim} components may be a matrix or like the states: say wiener_dim={dim} for a matrix, "
            "noise='diagonal' for a g of each state's own"
        )


def check_shape(sde: SDE, x: Array, g: Number) -> None:
    """Raises: ValueError where g has not the shape of its noise class."""
    check_square(sde, x, g)
    dim, shape = x.shape[-1], None if isinstance(g, (int, float)) else tuple(g.shape)
    name = f"{type(getattr(sde, 'original', sde)).__name__}: the diffusion of {sde.noise} noise must be"
    if sde.noise == "additive":
        allowed = (
            {(dim, sde.wiener_dim)}
            if sde.wiener_dim
            else {None, (), (1,), (dim,), tuple(x.shape), (*x.shape[:-1], 1)}
        )
        if shape not in allowed:
            what = f"({dim}, {sde.wiener_dim})" if sde.wiener_dim else f"a number or ({dim},)"
            raise ValueError(f"{name} {what} for states {tuple(x.shape)}; got shape {shape}")
        return
    if shape is None:
        raise ValueError(f"{name} an array like x {tuple(x.shape)}; got a number; say noise='additive'")
    if sde.noise == "general":
        expected = (*x.shape, sde.wiener_dim)
        if shape != expected:
            constant = "; say noise='additive'" if shape == expected[-2:] else ""
            raise ValueError(f"{name} {expected} for states {tuple(x.shape)}; got shape {shape}{constant}")
    elif shape != tuple(x.shape):
        raise ValueError(f"{name} like x, {tuple(x.shape)}; got shape {shape}")
