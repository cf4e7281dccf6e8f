"""The Fokker–Planck equation on a grid in one and two dimensions."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..backend import (
    Array,
    Backend,
    place,
    real_number,
    real_times,
    require_same,
    resolve,
    whole_number,
)
from ..backend.arguments import told_apart
from .base import SDE, to_ito
from .markov_chain import Jumps, expm_action, jumps
from .noise_check import check_noise_class

SUBSTEPS = 200  # of the whole span of time, where the coefficients depend on t


class FokkerPlanckGrid:
    """∂p/∂t = -∇·(f p) + ½ Σ_ij ∂_i ∂_j ((g gᵀ)_ij p) of any SDE in one or two dimensions.

    The cells of a box are the states of a Markov chain in continuous time whose jumps have the SDE's
    drift and covariance; no jump leaves the box. So densities stay ≥ 0 and keep their mass to
    rounding, on any backend. The error is of order 2 in the cells' width h where h < g²/|f|. Wider
    cells act as if g² were h |f|, an error of order 1 that remains where there is no noise; where g
    has one oblique direction alone, positivity too adds noise of order 1. In time the chain is exact
    where the coefficients do not depend on t, else of order 2 in the substep.

    sde: forward, reverse (solved with time running down), Itô or Stratonovich (converted). lower,
    upper: ends of the box, in units of x, a number or one for each dimension; cells: how many, the
    same. Densities are arrays (*cells), per unit of volume, on `backend`; in float64 unless it is a
    `Backend` that says otherwise.

    Raises: ValueError for other dimensions, an empty box or less than 3 cells. Source: Kushner & Dupuis
    2001 (Numerical Methods for Stochastic Control Problems in Continuous Time), sections 4.1 and 5.1;
    Bonnans, Ottenwaelter & Zidani 2004 for two dimensions; Jensen 1953 (uniformisation).
    """

    def __init__(
        self,
        sde: SDE,
        lower: float | Sequence[float],
        upper: float | Sequence[float],
        cells: int | Sequence[int],
        backend: str | Backend | None = None,
    ) -> None:
        self.sde = to_ito(sde)
        self._given = sde
        self.backend = resolve(backend)
        listed: Any = cells if hasattr(cells, "__len__") and getattr(cells, "shape", None) != () else (cells,)
        self.cells = tuple(whole_number("FokkerPlanckGrid: cells", count, 3) for count in listed)
        self.dim = len(self.cells)
        self.lower, self.upper = _per_axis(lower, self.dim, "lower"), _per_axis(upper, self.dim, "upper")
        if self.dim not in (1, 2):
            raise ValueError(f"FokkerPlanckGrid has 1 or 2 dimensions; got cells={self.cells}")
        if not all(-math.inf < a < b < math.inf for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"FokkerPlanckGrid: need lower < upper; got {self.lower} and {self.upper}")
        if getattr(sde, "dim", self.dim) != self.dim:
            raise ValueError(
                f"FokkerPlanckGrid: {sde!r} has states of dim {sde.dim}, cells={self.cells} are of {self.dim}"  # type: ignore[attr-defined]
            )
        if hasattr(sde, "A"):
            require_same(self.backend, **{f"{type(sde).__name__}'s A": sde.A})
        ends = zip(self.lower, self.upper, self.cells, strict=True)
        self.spacing = tuple((b - a) / n for a, b, n in ends)
        self.volume = math.prod(self.spacing)
        axes = [
            [a + h * (k + 0.5) for k in range(n)]
            for a, h, n in zip(self.lower, self.spacing, self.cells, strict=True)
        ]
        self.axes = [place(axis, self.backend) for axis in axes]
        centres = self.backend.xp.meshgrid(*self.axes, indexing="ij")
        self.centres = self.backend.xp.stack(centres, axis=-1)

    def __repr__(self) -> str:
        box = f"lower={self.lower}, upper={self.upper}, cells={self.cells}"
        return f"FokkerPlanckGrid({self._given!r}, {box}, backend={str(self.backend)!r})"

    def density_of(self, function: Callable[[Array], Array]) -> Array:
        """function (n, dim) ↦ (n,) at the cells' centres, scaled to mass 1. Raises: ValueError."""
        values = function(self._flat())
        rows = math.prod(self.cells)
        if getattr(values, "shape", None) not in ((rows,), (rows, 1)):
            raise ValueError(
                f"density_of: the function gets centres ({rows}, {self.dim}) and must return ({rows},); got "
                f"{tuple(values.shape) if hasattr(values, 'shape') else type(values).__name__}"
            )
        require_same(self.backend, values=values)
        return self._scaled(self.backend.xp.reshape(values, self.cells))

    def histogram(self, x: Array) -> Array:
        """The density of states x (n, dim): their share of each cell over its volume; others are left out."""
        xp, index = self.backend.xp, 0
        require_same(self.backend, x=x)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"histogram: x must be (n, {self.dim}); got {tuple(x.shape)}")
        inside = xp.ones(x.shape[0], dtype=xp.bool, device=self.backend.device)
        for a in range(self.dim):
            k = xp.floor((x[:, a] - self.lower[a]) / self.spacing[a])
            inside = inside & (k >= 0) & (k < self.cells[a])
            index = index * self.cells[a] + k
        index = xp.astype(xp.where(inside, index, -xp.ones_like(index)), xp.int64)
        edges = xp.arange(math.prod(self.cells) + 1, dtype=xp.int64, device=self.backend.device)
        below = xp.searchsorted(xp.sort(index), edges)
        counts = xp.astype(below[1:] - below[:-1], self.backend.dtype)
        return xp.reshape(counts / (x.shape[0] * self.volume), self.cells)

    def mass(self, density: Array) -> float:
        """∫ p dx."""
        return float(self.backend.xp.sum(density)) * self.volume

    def mean(self, density: Array) -> Array:
        """∫ x p dx, (dim,), of the normalised density."""
        xp = self.backend.xp
        weights = xp.reshape(density / xp.sum(density), (-1, 1))
        return xp.sum(weights * self._flat(), axis=0)

    def covariance(self, density: Array) -> Array:
        """∫ (x - mean) (x - mean)ᵀ p dx, (dim, dim), of the normalised density."""
        xp = self.backend.xp
        centred = self._flat() - self.mean(density)
        return (xp.reshape(density / xp.sum(density), (-1, 1)) * centred).T @ centred

    def edge_mass(self, density: Array) -> float:
        """The mass in the outermost cells."""
        inner = density[(slice(1, -1),) * self.dim]
        return self.mass(density) - self.mass(inner)

    def solve(
        self,
        density: Array,
        times: Sequence[float],
        max_step: float | None = None,
        edge_mass: float = 1e-4,
    ) -> Array:
        """Densities (times, *cells) at `times`, the first of which belongs to `density`.

        max_step: the longest substep, over which coefficients stay as at its middle; by default one
        for each interval where they do not depend on t, else 1/200 of the whole span. edge_mass: the
        largest share of the mass that may lie in the outermost cells; 1 where the box is real.

        Raises: ValueError for a density that is negative, without mass or of another shape, for
        times that are not monotone or run the wrong way, and where the box is too small.
        """
        grid = self._checked_times(times)
        density = self._checked_density(density)
        if self._given.calculus != "ito" or self._given.falling:
            for t in (grid[0], 0.5 * (grid[0] + grid[-1])):
                check_noise_class(self._given, self._flat(), t)
        if max_step is None:
            moves = self._coefficients_move(grid)
            max_step = abs(grid[-1] - grid[0]) / SUBSTEPS if moves else math.inf
        if not max_step > 0:
            raise ValueError(f"max_step must be positive; got {max_step}")
        densities = [density]
        self._check_edge(density, grid[0], edge_mass)
        for s, t in itertools.pairwise(grid):
            substeps = max(1, math.ceil(abs(t - s) / max_step - 1e-9))
            for k in range(substeps):
                middle = s + (t - s) * (k + 0.5) / substeps
                density = expm_action(density, self.jumps(middle), abs(t - s) / substeps)
            self._check_edge(density, t, edge_mass)
            densities.append(density)
        return self.backend.xp.stack(densities)

    def jumps(self, t: float) -> list[Jumps]:
        """The chain's jumps at t, with rates (*cells)."""
        xp = self.backend.xp
        reach = max(3, math.isqrt(max(self.cells)))
        found = jumps(self.sde, self._flat(), t, self.spacing, reach)
        return [Jumps(o, xp.reshape(a, self.cells), xp.reshape(b, self.cells)) for o, a, b in found]

    def _flat(self) -> Array:
        """The cells' centres, (n, dim)."""
        return self.backend.xp.reshape(self.centres, (-1, self.dim))

    def _coefficients_move(self, grid: list[float]) -> bool:
        """Whether drift or noise differ between times of the span."""
        xp, x = self.backend.xp, self._flat()
        span = grid[-1] - grid[0]
        fields = []
        for share in (0.0, 0.131, 0.382, 0.5, 0.729, 0.802):
            t = grid[0] + share * span
            g = self.sde.diffusion(x, t)
            g = g if hasattr(g, "shape") else g + 0 * x
            fields.append((self.sde.drift(x, t), g))
        first = fields[0]
        return any(
            not bool(xp.all(a == b)) for other in fields[1:] for a, b in zip(first, other, strict=True)
        )

    def _scaled(self, density: Array) -> Array:
        density = self._checked_density(density)
        return density / self.mass(density)

    def _checked_density(self, density: Array) -> Array:
        xp = self.backend.xp
        require_same(self.backend, density=density)
        if tuple(density.shape) != self.cells:
            raise ValueError(
                f"the density must have the shape of the cells {self.cells}; got {tuple(density.shape)}"
            )
        if not bool(xp.all(density >= 0)):
            raise ValueError(
                f"the density must be at least 0; its smallest value is {float(xp.min(density))}"
            )
        if not 0 < self.mass(density) < math.inf:
            raise ValueError(
                f"the density's mass in the box must be positive and finite; got {self.mass(density)}"
            )
        return density

    def _check_edge(self, density: Array, t: float, allowed: float) -> None:
        share = self.edge_mass(density) / self.mass(density)
        if share > allowed:
            held, most = told_apart(share, allowed)
            raise ValueError(
                f"FokkerPlanckGrid: at t={t:.6g} the outermost cells hold {held} of the mass, more than "
                f"edge_mass={most}; the box from {self.lower} to {self.upper} is too small; widen it, "
                "or say edge_mass=1.0 where its walls are real"
            )

    def _checked_times(self, times: Sequence[float]) -> list[float]:
        grid = real_times("FokkerPlanckGrid: ", times)
        steps = [(b - a) * (-1 if self.sde.falling else 1) for a, b in itertools.pairwise(grid)]
        if not steps or not all(step > 0 for step in steps):
            way = "fall" if self.sde.falling else "rise"
            raise ValueError(f"times of {type(self._given).__name__} must strictly {way}; got {grid}")
        return grid


def _per_axis(value: float | Sequence[float], dim: int, name: str) -> tuple[float, ...]:
    """A number for each dimension, as floats. Raises: ValueError for another count."""
    number, values = real_number(value), cast(Sequence[float], value)
    found = tuple(float(v) for v in values) if number is None else (number,) * dim
    if len(found) != dim:
        raise ValueError(f"FokkerPlanckGrid: {name} must be a number or {dim} of them; got {value!r}")
    return found
