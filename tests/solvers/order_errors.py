"""The errors of a solver on the problems with known solutions, and its measured orders.

Strong errors are measured on coupled Brownian paths: every number of steps sees the same path,
whose increments and time integrals are summed from a fine grid. Weak errors are measured without
Monte Carlo: for a linear SDE a step is x ↦ T x with T a polynomial in the normals, so that E T ⊗ T,
by Gauss–Hermite nodes, carries the second moments exactly.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from checks import array, host
from order_problems import Driven, Linear, Paths, Transformed

import sdeppl as sp

FINE = 2048  # steps of a piecewise linear path
# Nodes for each normal: second moments are exact where a step is of degree 3 in z and 1 in the others.
EXACT_FOR_LINEAR = {"wiener": 4, "area": 2, "levy": 2}


@functools.cache
def _along_paths(problem: Any, steps: int, paths: int, seed: int) -> tuple[Paths, Any]:
    """Fine paths and the solution at t = 1 along them."""
    m = problem.matrices[1].shape[1] if isinstance(problem, Transformed) else 2
    drawn = Paths.draw(steps, paths, m, seed, linear=isinstance(problem, Driven))
    return drawn, problem.solution(drawn)


@functools.cache
def _coarse(problem: Any, fine: int, paths: int, seed: int, n: int) -> Paths:
    return _along_paths(problem, fine, paths, seed)[0].coarse(n)


def strong_errors(
    make: Callable[[int], Any], problem: Any, sizes: Sequence[int], backend: Any, paths: int, seed: int = 7
) -> Any:
    """Root mean square distance at t = 1 from the solution on the same path, for numbers of steps."""
    key = problem, FINE if isinstance(problem, Driven) else max(sizes), paths, seed
    drawn, solution = _along_paths(*key)
    x_init, found = np.broadcast_to(problem.start(), solution.shape), []
    for n in sizes:
        solver, x = make(n), array(x_init, backend)
        sde = solver.prepare(problem.sde(backend), x, 0.0, False)
        given = _given(solver, sde, drawn, _coarse(*key, n), x.shape, backend)
        memory = solver.init(sde, x, 0.0)
        for k in range(n):
            x, memory = solver.step(sde, x, k / n, (k + 1) / n, given(k), memory)
        found.append(np.sqrt(np.mean((host(x) - solution) ** 2)))
    return np.array(found)


def _given(
    solver: Any, sde: Any, drawn: Paths, coarse: Paths, shape: Any, backend: Any
) -> Callable[[int], Any]:
    """Step number ↦ z."""
    n, kinds = len(coarse.z), {}
    for kind, of_step in zip(solver.draws, solver.draw_shapes(sde, shape), strict=True):
        if kind == "levy" and isinstance(solver, sp.MilsteinLevy):
            kinds[kind] = drawn.fourier(n, solver.terms)
        elif kind == "levy":
            kinds[kind] = np.random.default_rng(n).standard_normal((n, *of_step))
        else:
            kinds[kind] = {"wiener": coarse.z, "area": coarse.u}[kind]
    if len(kinds) == 1:
        return lambda k: array(kinds["wiener"][k], backend)
    return lambda k: tuple(array(kinds[kind][k], backend) for kind in solver.draws)


def weak_errors(solver: Any, problem: Linear, sizes: Sequence[int], backend: Any) -> Any:
    """Errors of the first and second moments at t = 1, for numbers of steps; no Monte Carlo."""
    exact, found = problem.second_moments(), []
    for n in sizes:
        moments = problem.start()
        none = problem.noise == "none"
        sde = solver.prepare(problem.sde(backend), array(np.ones((1, 2)), backend), 0.0, none)
        z, weights = (None, np.ones(1)) if none else _nodes(solver, sde)
        for k in range(n):
            T = _step_matrices(solver, sde, z, len(weights), k / n, (k + 1) / n, backend)
            moments = np.einsum("q,qij,qkl->ikjl", weights, T, T).reshape(9, 9) @ moments
        found.append(np.linalg.norm(moments - exact))
    return np.array(found)


def _nodes(solver: Any, sde: Any, counts_of: Any = EXACT_FOR_LINEAR) -> tuple[Any, Any]:
    """Nodes for each draw, (nodes, *shape), and weights; two nodes have the law of a sign."""
    shapes = [shape[1:] for shape in solver.draw_shapes(sde, (1, 2))]
    counts = [counts_of[kind] for kind in solver.draws]
    rules = [np.polynomial.hermite_e.hermegauss(count) for count in counts]
    each = [[rule] * math.prod(shape) for rule, shape in zip(rules, shapes, strict=True)]
    flat = list(itertools.chain(*each))
    nodes = np.stack([g.ravel() for g in np.meshgrid(*(rule[0] for rule in flat), indexing="ij")], axis=-1)
    weights = functools.reduce(np.multiply.outer, [rule[1] for rule in flat]).ravel()
    parts = np.split(nodes, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
    z = [part.reshape(len(nodes), *shape) for part, shape in zip(parts, shapes, strict=True)]
    return z, weights / weights.sum()


def _step_matrices(solver: Any, sde: Any, z: Any, count: int, s: float, t: float, backend: Any) -> Any:
    """The step as (x, 1) ↦ T (x, 1), (nodes, 3, 3): from zero and from the basis vectors."""
    x = array(np.tile([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], (count, 1)), backend)
    given = None
    if z is not None:
        given = tuple(array(np.repeat(part, 3, axis=0), backend) for part in z)
        given = given[0] if len(given) == 1 else given
    stepped = host(solver.step(sde, x, s, t, given, solver.init(sde, x, s))[0]).reshape(count, 3, 2)
    T = np.zeros((count, 3, 3))
    T[:, :2, 2] = stepped[:, 0]
    T[:, :2, :2] = np.moveaxis(stepped[:, 1:] - stepped[:, :1], 1, 2)
    T[:, 2, 2] = 1
    return T


def local_errors(solver: Any, problem: Transformed, sizes: Sequence[float], backend: Any) -> Any:
    """Errors of E x and E x xᵀ after one step of each size from the start; no Monte Carlo.

    A scheme of weak order p has local errors of order p + 1, for SDEs that are not linear too.
    """
    start, found = problem.start(), []
    sde = solver.prepare(problem.sde(backend), array(start[None], backend), 0.0, False)
    z, weights = _nodes(solver, sde, {"wiener": 12, "area": 8, "levy": 2})
    exact_z, exact_weights = _nodes(sp.EulerMaruyama(), sde, {"wiener": 40})
    for h in sizes:
        x = array(np.broadcast_to(start, (len(weights), 2)), backend)
        given = tuple(array(part, backend) for part in z)
        stepped = host(solver.step(sde, x, 0.0, h, given[0] if len(given) == 1 else given)[0])
        exact = problem.at(h, math.sqrt(h) * exact_z[0])
        found.append(np.linalg.norm(_moments(stepped, weights) - _moments(exact, exact_weights)))
    return np.array(found)


def _moments(x: Any, weights: Any) -> Any:
    v = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    return np.einsum("q,qi,qj->ij", weights, v, v)
