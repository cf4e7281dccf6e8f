"""Draws by site name, from the posterior of a vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from ..backend import Backend
from ..solvers import Solver
from .posterior import Posterior, PosteriorRun


class PosteriorBySite(ABC):
    """`arrays`, the posterior of the standardised vector of latents, and what makes sites of its draws."""

    arrays: Posterior

    @property
    def backend(self) -> Backend:
        """Where the reverse SDE is solved and whose arrays come back."""
        return self.arrays.denoiser.backend

    def sample(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool = False,
    ) -> dict[str, Any]:
        """{site name: (draws, *shape)}, as arrays of the backend in the site's dtype.

        Arguments, errors and warnings as in `Posterior.sample`.
        """
        x = self.arrays.sample(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress)
        return self._in_units(x)

    def run(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool = False,
    ) -> PosteriorRun:
        """As `sample`, with a diagnosis: what was chosen and why, effective share, ln p(y), in words."""
        found = self.arrays.run(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress)
        return PosteriorRun(self._in_units(found.draws), found.diagnosis)

    @abstractmethod
    def _in_units(self, x: Any) -> dict[str, Any]:
        """Draws (draws, dim) of the standardised vector as {site name: (draws, *shape)}."""
