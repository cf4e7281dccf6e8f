"""What a solver is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from ..backend import Array
from ..sde import SDE, AffineSDE, ReverseSDE, check_noise_class, check_square, to_ito, to_stratonovich

# What a step is given in z. 'wiener': the increment over its interval divided by √|t - s|.
# 'area': standard normals u, independent of it, such that ∫_s^t (W_r - W_s) dr is
# |t - s|^{3/2} (z/2 + u/√12). 'levy': standard normals for pairs of Wiener processes,
# (..., m (m - 1)/2). 'extra': standard normals like x that belong to no path. The first three are
# given only where noise enters, 'extra' always.
Draw = Literal["wiener", "area", "levy", "extra"]
Normals: TypeAlias = Any  # an array for one draw, a tuple of them for several, None for none
Memory: TypeAlias = Any  # what a scheme keeps from one step to the next, of a kind of its own
Stepped: TypeAlias = tuple[Array, Memory]  # the state after a step, and what is kept for the next

FITTING = {  # noise class ↦ solvers of a higher order than Euler–Maruyama's
    "additive": "SRA1",
    "scalar": "Milstein or SRIW1",
    "diagonal": "Milstein or SRIW1",
    "general": "MilsteinLevy or StochasticHeun",
}


class Solver(ABC):
    """One step of a scheme; noise, step sizes and the drift come from outside.

    Class attributes:

    - `strong_order`: noise class ('additive', 'scalar', 'diagonal', 'general') ↦ order of the root
      mean square error on a given Brownian path, nan where the scheme has none. Its keys are the
      noise classes that the solver takes; it takes SDEs without noise whatever they are.
    - `weak_order`: the order of the error of moments; without noise the order is `order`, which is
      the weak one unless the solver says otherwise.
    - `evaluations`: of the drift or denoiser, a step.
    - `calculus`: which SDEs it takes as they are; others are converted, exactly.
    - `any_diffusion`: whether the scheme is right whatever components of x an entry of g depends on.
    - `draws`: what z holds: an array for one draw, a tuple for several.
    - `error_order`: for an embedded error estimate, the order of the error that it estimates.
    """

    strong_order: ClassVar[Mapping[str, float]]
    weak_order: ClassVar[float]
    order: ClassVar[float | None] = None
    evaluations: ClassVar[float]
    calculus: ClassVar[Literal["ito", "stratonovich"]] = "ito"
    any_diffusion: ClassVar[bool] = False
    draws: ClassVar[tuple[Draw, ...]] = ("wiener",)

    def __repr__(self) -> str:  # of solvers without parameters; the others are dataclasses
        return f"{type(self).__name__}()"

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        """The SDE in the form that the steps take: in the solver's calculus, checked.

        Raises: TypeError for an SDE or a noise class that the solver does not take; ValueError where
        g is not what its noise class says, and a conversion, a reverse drift or the scheme needs it.
        """
        if not deterministic and sde.noise not in self.strong_order:
            raise TypeError(
                f"{type(self).__name__} takes {' or '.join(self.strong_order) or 'no'} noise; "
                f"{type(sde).__name__} has {sde.noise} noise; use {FITTING[sde.noise]}, or EulerMaruyama, "
                "which takes any"
            )
        converted = to_ito(sde) if self.calculus == "ito" else to_stratonovich(sde)
        derived = sde.calculus != self.calculus or isinstance(sde, ReverseSDE)
        if derived or not (deterministic or self.any_diffusion):
            check_noise_class(sde, x, t)
        elif not (deterministic or isinstance(sde, AffineSDE)):
            check_square(sde, x, sde.diffusion(x, t))
        return converted

    def on_grid(self, grid: list[float]) -> "Solver":
        """The solver for these times: itself, unless it must know how many steps there are."""
        return self

    def init(self, sde: Any, x: Array, t: float) -> Memory:
        """What the first step remembers of the steps before it: None for one-step schemes."""
        return None

    @abstractmethod
    def step(self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        """(x_t, memory) from x_s (..., dim); z is None where no noise enters and none is drawn."""

    def draw_shapes(self, sde: SDE, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The shape of each of `draws` for states of `shape`."""
        wiener = sde.wiener_shape(shape)
        pairs = (*wiener[:-1], wiener[-1] * (wiener[-1] - 1) // 2)
        shapes = {"wiener": wiener, "area": wiener, "levy": pairs, "extra": tuple(shape)}
        return tuple(shapes[draw] for draw in self.draws)
