"""The same solves by torchsde, diffrax, NumPyro and a plain `jax.lax.scan`; see loops.py."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from loops import AMPLITUDE, A, B, Problem, lorenz_drift


def torchsde(problem: Problem) -> Callable[[], Any]:
    import torch
    import torchsde as library

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, x: Any) -> Any:
            return -A * x if problem.name == "ou" else lorenz_drift(x, lambda c: torch.stack(c, -1))

        def g(self, t: Any, x: Any) -> Any:
            return torch.full_like(x, B if problem.name == "ou" else AMPLITUDE)

    begin, times = torch.from_numpy(problem.begin()), torch.tensor([0.0, 1.0])

    def run() -> Any:
        with torch.no_grad():
            return library.sdeint(Equation(), begin, times, method="euler", dt=problem.h)[-1]

    return run


def _jax_fields(problem: Problem) -> tuple[Callable[[Any], Any], float]:
    import jax.numpy as jnp

    if problem.name == "ou":
        return (lambda x: -A * x), B
    return (lambda x: lorenz_drift(x, lambda c: jnp.stack(c, -1))), AMPLITUDE


def _with_new_keys(solve: Callable[[Any, Any], Any], *arguments: Any) -> Callable[[], Any]:
    """Compiled, and another key at each call."""
    import jax

    compiled, count = jax.jit(solve), itertools.count()
    return lambda: compiled(jax.random.key(next(count)), *arguments).block_until_ready()


def jax_scan(problem: Problem) -> Callable[[], Any]:
    import jax

    f, _ = _jax_fields(problem)

    def solve(key: Any, begin: Any) -> Any:
        def step(x: Any, key: Any) -> tuple[Any, None]:
            return x + problem.h * f(x) + problem.noise * jax.random.normal(key, x.shape), None

        return jax.lax.scan(step, begin, jax.random.split(key, problem.steps))[0]

    return _with_new_keys(solve, problem.begin())


def numpyro(problem: Problem) -> Callable[[], Any]:
    import jax.numpy as jnp
    import numpyro.distributions as dist

    f, g = _jax_fields(problem)
    times = jnp.linspace(0.0, 1.0, problem.steps + 1)

    def solve(key: Any, start: Any) -> Any:
        begin = dist.Delta(start, event_dim=1)
        paths = dist.EulerMaruyama(times, lambda x, t: (f(x), g), begin).sample(key, (problem.paths,))
        return paths[:, -1]

    return _with_new_keys(solve, np.asarray(problem.start, np.float32))


def diffrax(refinable: bool) -> Callable[[Problem], Callable[[], Any]]:
    def make(problem: Problem) -> Callable[[], Any]:
        import diffrax as library
        import jax
        import jax.numpy as jnp

        warnings.simplefilter("ignore")  # WeaklyDiagonalControlTerm is deprecated, and fast for a batch
        f, g = _jax_fields(problem)

        def solve(key: Any, begin: Any) -> Any:
            shape = jax.ShapeDtypeStruct(problem.shape, jnp.float32)
            if refinable:
                path: Any = library.VirtualBrownianTree(0.0, 1.0, tol=problem.h / 2, shape=shape, key=key)
            else:
                path = library.UnsafeBrownianPath(shape=shape, key=key)
            terms = library.MultiTerm(
                library.ODETerm(lambda t, x, _: f(x)),
                library.WeaklyDiagonalControlTerm(lambda t, x, _: jnp.full(problem.shape, g), path),
            )
            # the grid is given: with dt0 alone, rounding of the time would add a step
            control = library.StepTo(ts=jnp.linspace(0.0, 1.0, problem.steps + 1))
            solution = library.diffeqsolve(
                terms,
                library.Euler(),
                0.0,
                1.0,
                None,
                begin,
                stepsize_controller=control,
                max_steps=problem.steps + 1,
                adjoint=library.ForwardMode(),
            )
            return solution.ys[-1]

        return _with_new_keys(solve, problem.begin())

    return make
