"""Explicit Runge–Kutta schemes, for SDEs that no noise enters; their tableaux are data."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ..backend import Array
from ..sde import SDE
from .base import Memory, Normals, Solver, Stepped


@dataclass(frozen=True)
class Tableau:
    """x_t = x_s + h Σ b_i k_i with k_i = f(x_s + h Σ_{j<i} a_ij k_j, s + c_i h).

    a: the rows below the first, of 1, 2, … numbers. b: as many as stages, or one more where the last
    stage is the first of the next step ('first same as last'; b is then also the last row of a).
    error: weights of the embedded error estimate h Σ error_i k_i, or ().
    """

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] = ()

    @property
    def first_same_as_last(self) -> bool:
        return self.a[-1] == self.b[: len(self.a[-1])] and not any(self.b[len(self.a[-1]) :])


CLASSICAL = Tableau(
    c=(0.0, 0.5, 0.5, 1.0),
    a=((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
DORMAND_PRINCE_LAST = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
DORMAND_PRINCE = Tableau(
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    a=(
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        DORMAND_PRINCE_LAST,
    ),
    b=(*DORMAND_PRINCE_LAST, 0.0),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
)
TSITOURAS_LAST = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
TSITOURAS = Tableau(
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    a=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
        TSITOURAS_LAST,
    ),
    b=(*TSITOURAS_LAST, 0.0),
    error=(
        0.00178001105222577714,
        0.0008164344596567469,
        -0.007880878010261995,
        0.1447110071732629,
        -0.5823571654525552,
        0.45808210592918697,
        -1 / 66,
    ),
)


class RungeKutta(Solver):
    """A scheme given by `tableau`: takes any SDE that no noise enters, such as a ReverseSDE with c = 0.

    What is remembered is f(x_t, t) where the last stage gives it; it holds for the very x that the step
    returned.
    """

    tableau: ClassVar[Tableau]
    error_order: ClassVar[float] = math.nan
    strong_order = {}

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        x_next, stages = self._stages(sde, x, s, t, memory)
        return x_next, self._remembered(stages)

    def step_with_error(
        self, sde: SDE, x: Array, s: float, t: float, memory: Memory
    ) -> tuple[Array, Array, Array]:
        """(x_t, memory, estimate of the step's error), for a tableau that has one."""
        x_next, stages = self._stages(sde, x, s, t, memory)
        return x_next, self._remembered(stages), _combination(t - s, self.tableau.error, stages)

    def _remembered(self, stages: list[Array]) -> Memory:
        return stages[-1] if self.tableau.first_same_as_last else None

    def _stages(self, sde: SDE, x: Array, s: float, t: float, memory: Memory) -> tuple[Array, list[Array]]:
        tableau, h = self.tableau, t - s
        stages = [sde.drift(x, s) if memory is None else memory]
        y = x
        for c, row in zip(tableau.c[1:], tableau.a, strict=True):
            y = x + _combination(h, row, stages)
            stages.append(sde.drift(y, t if c == 1.0 else s + c * h))
        if tableau.first_same_as_last:  # the last stage was taken at x_t itself
            return y, stages
        return x + _combination(h, tableau.b, stages), stages


def _combination(h: float, weights: tuple[float, ...], stages: list[Array]) -> Array:
    """h Σ w_i k_i over the weights that are not zero."""
    terms = [(h * w) * k for w, k in zip(weights, stages, strict=True) if w]
    total = terms[0]
    for term in terms[1:]:
        total += term
    return total


class RungeKutta4(RungeKutta):
    """The classical scheme of order 4; no noise; four evaluations. Source: Kutta 1901."""

    tableau = CLASSICAL
    weak_order = order = 4.0
    evaluations = 4


class DormandPrince54(RungeKutta):
    """Order 5 with an embedded error estimate of order 5 in h; no noise; six evaluations, and one to start.

    Source: Dormand & Prince 1980; Hairer, Nørsett & Wanner 1993, table II.5.2.
    """

    tableau = DORMAND_PRINCE
    weak_order = order = 5.0
    error_order = 5.0
    evaluations = 6


class Tsitouras54(RungeKutta):
    """Order 5 with an embedded error estimate of order 5 in h; no noise; six evaluations, and one to start.

    Source: Tsitouras 2011, Computers & Mathematics with Applications 62, table 1.
    """

    tableau = TSITOURAS
    weak_order = order = 5.0
    error_order = 5.0
    evaluations = 6
