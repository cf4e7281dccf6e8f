"""Draws by site name, from the posterior of a vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar

from ..backend import Backend
from ..backend.sharing import warn
from ..solvers import Solver
from .diagnosis import UntrustedWarning
from .fit_check import FitCheck
from .many import PosteriorRuns
from .posterior import PosteriorRun

Run = TypeVar("Run", PosteriorRun, PosteriorRuns)


class PosteriorBySite(ABC, Generic[Run]):
    """`arrays`, the posterior of the standardised vector of latents, and what makes sites of its draws.

    arrays: a `Posterior`, or `Posteriors` of many data sets, whose draws have one more axis in front; fit:
    what held-out draws say of the learned prior; given: the model given the data, where a run takes it along.
    """

    arrays: Any
    fit: FitCheck | None
    given: Any = None

    @property
    def backend(self) -> Backend:
        """Where the reverse SDE is solved and whose arrays come back."""
        found: Backend = self.arrays.prior.backend
        return found

    def sample(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool | None = None,
    ) -> dict[str, Any]:
        """{site name: ([data sets,] draws, *shape)}, as arrays of the backend in the site's dtype.

        Arguments, errors and warnings as in `Posterior.sample`, `Posteriors.sample`. Warns: UntrustedWarning
        where the learned prior is not the model's, and the draws do not follow the model's own density.
        """
        found = self.arrays.drawn(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress)
        if self.fit is not None and self.fit.state == "do not trust":
            judged = getattr(found, "diagnosis", found)  # None, of one data set, where nothing was measured
            if judged is None or judged.state != "do not trust" == judged.with_fit(self.fit).state:
                warn(self.fit.verdict, UntrustedWarning, stacklevel=2)
        return self._in_units(found.draws)

    def run(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool | None = None,
    ) -> Run:
        """As `sample`, with a diagnosis, or one of each data set: what was chosen and why, effective share,
        ln p(y), how well the prior is learned, in words. Warns: UntrustedWarning where it is not."""
        before = self._asked()
        found = self.arrays.run(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress)
        judged: Run = self._noted(found, before).with_fit(self.fit)
        if judged.state == "do not trust" != found.state:
            warn(str(judged), UntrustedWarning, stacklevel=2)
        changes: dict[str, Any] = {"draws": self._in_units(found.draws)}
        if self.given is not None:
            changes["given"] = self.given
        return replace(judged, **changes)

    def _asked(self) -> Any:
        """How often densities were asked until now, where that is counted."""
        return None

    def _noted(self, found: Run, before: Any) -> Run:
        """A run, with what was found since about densities that are no number."""
        return found

    @abstractmethod
    def _in_units(self, x: Any) -> dict[str, Any]:
        """Draws ([data sets,] draws, dim) of the standardised vector, by site and in its shape."""
