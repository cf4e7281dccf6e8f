"""Splitting of Langevin dynamics, and of the reverse of critically damped Langevin diffusion."""

import math
from typing import Any

from ..backend import Array, array_namespace, place, resolve
from ..sde import SDE, CriticallyDampedSDE, LangevinSDE, ReverseSDE, act, cholesky, halves, linear_transition
from .base import Memory, Normals, Solver, Stepped


class BAOAB(Solver):
    """Kick, drift, friction and noise, drift, kick: each solved exactly, for `LangevinSDE`.

    v += h/2 F(q)/m; q += h/2 v; v = e^{-γh} v + √((1 - e^{-2γh}) kT/m) z; q += h/2 v; v += h/2 F(q)/m.
    Weak order 2, and strong order 1 on a given Brownian path; without noise it is velocity Verlet,
    order 2. In equilibrium under a linear force the covariance of q has no error at any stable step
    (h² K/m < 4), while <v²> is kT/m (1 - h² K/4m). One evaluation of the force; the first step
    needs one more. Source: Leimkuhler & Matthews 2013, Rational construction of stochastic
    numerical methods for molecular sampling.
    """

    strong_order = {"additive": 1.0}
    weak_order = 2.0
    evaluations = 1

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        """Raises: TypeError for an SDE other than `LangevinSDE`."""
        if not isinstance(sde, LangevinSDE):
            raise TypeError(
                f"BAOAB splits LangevinSDE, dq = v dt, dv = (F(q)/m - γ v) dt + noise; got "
                f"{type(sde).__name__}; use EulerMaruyama"
            )
        return super().prepare(sde, x, t, deterministic)

    def step(
        self, sde: LangevinSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        h = t - s
        q, v = halves(x, "BAOAB")
        kick = 0.5 * h / sde.mass
        v = v + kick * (sde.force(q) if memory is None else memory)
        q = q + 0.5 * h * v
        v = math.exp(-sde.friction * h) * v
        if z is not None:
            variance = -math.expm1(-2 * sde.friction * h) * sde.temperature / sde.mass
            v = v + math.sqrt(variance) * halves(z, "BAOAB")[1]
        q = q + 0.5 * h * v
        force = sde.force(q)
        return array_namespace(x).concat([q, v + kick * force], axis=-1), force


class SSCS(Solver):
    """Half a step of the linear part, exactly; a full Euler step of the score; half a step again.

    For `ReverseSDE` of `CriticallyDampedSDE` with a number or function c. In reversed time the linear
    part is dx = -v/M β dt, dv = (x - c² Γ v/M) β dt + c √(2Γβ) dW, which leaves N(0, I) × N(0, M I)
    as it is, and the rest dv = (1 + c²) Γ β (s_v + v/M) dt. c is taken in the middle of the step.
    Weak order 1, for the Euler step is of order 1 in v (`MidpointSSCS` has order 2); no strong order;
    one evaluation of the score. Source: Dockhorn, Vahdat & Kreis 2022 (Score-based generative
    modeling with critically-damped Langevin diffusion), section 4 and algorithm 1, there for c = 1.
    """

    strong_order = {"additive": float("nan")}
    weak_order = 1.0
    evaluations = 1
    draws = ("extra",)

    def draw_shapes(self, sde: SDE, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Normals for both halves: (..., 4 n) for states (..., 2 n)."""
        return ((*shape[:-1], 2 * shape[-1]),)

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        """Raises: TypeError for another SDE, or a matrix c."""
        if not (isinstance(sde, ReverseSDE) and isinstance(sde.forward, CriticallyDampedSDE)):
            got = f"ReverseSDE of {type(sde.forward).__name__}" if isinstance(sde, ReverseSDE) else None
            raise TypeError(
                f"{type(self).__name__} splits the ReverseSDE of CriticallyDampedSDE; got "
                f"{got or type(sde).__name__}; use EulerMaruyama"
            )
        if sde.m is not None:
            raise TypeError(
                f"{type(self).__name__} needs a number c, or a function of t that gives one; got a matrix; "
                "use EulerMaruyama"
            )
        return super().prepare(sde, x, t, deterministic)

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        middle, size = 0.5 * (s + t), x.shape[-1]
        c = sde.noise_ratio(middle)
        first, second = (None, None) if z is None else (z[..., :size], z[..., size:])
        x = self._linear(sde.forward, x, c, s, middle, first)
        x = self._push(sde, x, c, s, t)
        return self._linear(sde.forward, x, c, middle, t, second), None

    def _linear(self, forward: Any, x: Array, c: float, s: float, t: float, z: Array | None) -> Array:
        """The linear part from s down to t, with normals z like x."""
        span = forward.schedule.between(t, s)
        mass, rate = forward.mass, c * c * forward.friction
        host = resolve("numpy")
        pull, square, rest = (
            place(numbers, host)
            for numbers in ([[0, -1 / mass], [1, -rate / mass]], [[0, 0], [0, 2 * rate]], [0, 0])
        )
        parts: Any = linear_transition(pull, square, rest, span)
        phi, _, q = (part.tolist() for part in parts)  # array-lint: on the host
        moved = act(phi, x)
        return moved if c == 0 or z is None else moved + act(cholesky(q), z)

    def _push(self, sde: ReverseSDE, x: Array, c: float, s: float, t: float) -> Array:
        """v + (s - t) (1 + c²) Γ β (s_v + v/M), at s."""
        return _kicked(sde, x, x, c, s, s - t)


class MidpointSSCS(SSCS):
    """`SSCS` with a midpoint step of the score, at the middle of the step, in place of Euler's.

    Both parts are then of order 2 and the splitting is symmetric: weak order 2; no strong order; two
    evaluations of the score. Source: Dockhorn et al. 2022, section 4, and Strang 1968, combined.
    """

    weak_order = 2.0
    evaluations = 2

    def _push(self, sde: ReverseSDE, x: Array, c: float, s: float, t: float) -> Array:
        middle = 0.5 * (s + t)
        half = _kicked(sde, x, x, c, middle, 0.5 * (s - t))
        return _kicked(sde, x, half, c, middle, s - t)


def _kicked(sde: ReverseSDE, x: Array, at: Array, c: float, t: float, span: float) -> Array:
    """x with v + span (1 + c²) Γ β (s_v + v/M), the bracket taken at the state `at` and at t."""
    forward: Any = sde.forward
    q, v = halves(x, "SSCS")
    _, score = halves(sde.score(at, t), "SSCS")
    weight = span * (1 + c * c) * forward.friction * forward.schedule.beta(t)
    pushed = v + weight * (score + halves(at, "SSCS")[1] / forward.mass)
    return array_namespace(x).concat([q, pushed], axis=-1)
