"""The rows of the table of orders: a solver, a noise class, what is stated, and how it is measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from checks import fitted_slope
from order_errors import strong_errors, weak_errors
from order_problems import Driven, Linear, Transformed

import sdeppl as sp

SOLVERS = (
    sp.EulerMaruyama,
    sp.Milstein,
    sp.MilsteinLevy,
    sp.SRA1,
    sp.SRIW1,
    sp.PlatenWeak2,
    sp.StochasticHeun,
)
# Noise class of the table ↦ that of `strong_order`. General noise is in the table twice.
CLASSES = {
    "none": None,
    "additive": "additive",
    "scalar": "scalar",
    "diagonal": "diagonal",
    "commutative": "general",
    "non-commutative": "general",
}
# Where the docstring of a solver states more than its attributes, which hold for the whole class.
STRONG = {
    ("PlatenWeak2", "commutative"): 1.0,
    ("StochasticHeun", "commutative"): 1.0,
    ("Milstein", "non-commutative"): None,  # refused
}
WEAK = {
    ("StochasticHeun", "additive"): 2.0,
    ("SRIW1", "additive"): 2.0,
}


@dataclass(frozen=True)
class Row:
    """strong, weak: the orders stated; nan where there is none. make: the solver for a number of steps;
    for the weak order, where what it leaves out of the Lévy areas does not count, `make(0)`.
    """

    solver: type
    noise: str
    strong: float
    weak: float
    make: Callable[[int], Any]
    strong_problem: Any
    weak_problem: Any
    strong_sizes: tuple[int, ...] = (8, 16, 32, 64)
    weak_sizes: tuple[int, ...] = (8, 16, 32)
    paths: int = 1_000

    @property
    def name(self) -> str:
        return f"{self.solver.__name__}, {self.noise}"

    def measured_strong(self, backend: Any) -> float:
        """The slope of the root mean square error on given paths."""
        if math.isnan(self.strong):
            return math.nan
        errors = strong_errors(self.make, self.strong_problem, self.strong_sizes, backend, self.paths)
        return fitted_slope(1 / np.array(self.strong_sizes), errors)

    def measured_weak(self, backend: Any) -> float:
        """The slope of the error of the first and second moments."""
        errors = weak_errors(self.make(0), self.weak_problem, self.weak_sizes, backend)
        return fitted_slope(1 / np.array(self.weak_sizes), errors)


def rows() -> list[Row]:
    """A row for each solver and each noise class that it takes; more can be appended."""
    return [
        _row(solver, noise)
        for solver in SOLVERS
        for noise, of_sde in CLASSES.items()
        if (of_sde is None or of_sde in solver.strong_order) and STRONG.get((solver.__name__, noise), 1)
    ]


def _row(solver: Any, noise: str) -> Row:
    weak_problem = Linear("general" if noise == "commutative" else noise)
    levy = solver is sp.MilsteinLevy
    late = solver is sp.SRIW1 and noise != "additive"  # 1.5 in both: seen at smaller steps
    if noise == "none":
        order = solver.weak_order if solver.order is None else solver.order
        return Row(solver, noise, math.nan, order, _make(solver), None, weak_problem)
    key = solver.__name__, noise
    driven = noise in ("additive", "non-commutative")
    problem = Driven(noise) if driven else Transformed("general" if noise == "commutative" else noise)
    return Row(
        solver,
        noise,
        STRONG.get(key, solver.strong_order[CLASSES[noise]]),
        WEAK.get(key, solver.weak_order),
        _make(solver),
        problem,
        weak_problem,
        (4, 8, 16, 32) if levy else (16, 32, 64, 128) if late else (8, 16, 32, 64),
        (32, 64, 128) if late else (8, 16, 32),
        4_000 if late else 1_000,
    )


def _make(solver: Any) -> Callable[[int], Any]:
    return (lambda n: sp.MilsteinLevy(terms=n)) if solver is sp.MilsteinLevy else (lambda n: solver())
