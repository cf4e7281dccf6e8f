"""The guided reverse SDE for many data sets at once, uncorrected: each row belongs to one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import Noise, Progress
from ..denoisers import Denoiser
from ..likelihood import MeanLikelihood, MixtureRows
from ..sde import ReverseSDE
from ..solvers import ExponentialHeun, Solver, solve
from .divergence import named
from .start import RowStarts, start_rows

ROWS = 2**14  # solved at once
LARGEST = 2**22  # numbers in one array of a mixture's components
FEWER = "fewer draws, steps or data sets take less"
SPREAD = 0x9E3779B97F4A7C15  # between the seeds of blocks: odd, so that none comes twice


@dataclass(frozen=True)
class RowSolve:
    """denoiser: of x_0 given x_t and y, of as many data sets as `sets`; start: x_T given y."""

    denoiser: MixtureRows | MeanLikelihood
    start: MixtureRows | RowStarts
    sets: int

    @classmethod
    def of(cls, denoiser: MixtureRows | MeanLikelihood, prior: Denoiser, sets: int) -> "RowSolve":
        """A mixture's x_T is drawn exactly, that of others from its Gaussian."""
        exact = isinstance(denoiser, MixtureRows)
        return cls(denoiser, denoiser if exact else start_rows(denoiser, prior, sets), sets)  # type: ignore[arg-type]

    def draw(
        self,
        draws: int,
        times: list[float],
        seed: int,
        c: Any,
        solver: Solver | None,
        noise: Any,
        progress: bool | None,
    ) -> Any:
        """(data sets, draws, dim): as many data sets at a time as keep the arrays small."""
        xp, most, dim = self.denoiser.backend.xp, ROWS, self.denoiser.dim
        if isinstance(self.denoiser, MixtureRows):
            most = min(ROWS, max(LARGEST // (self.denoiser.means.shape[1] * dim), 1))
        at_once, parts = max(most // draws, 1), []
        firsts, what = range(0, self.sets, at_once), f"{draws} draws for each of {self.sets} data sets"
        for number, first in enumerate(
            Progress(len(firsts), progress, "sampling", "block", what, FEWER).over(firsts)
        ):
            last = min(first + at_once, self.sets)
            places = xp.arange(first, last, dtype=xp.int64, device=self.denoiser.backend.device)
            index = xp.reshape(xp.broadcast_to(places[:, None], (last - first, draws)), (-1,))
            parts.append(self._block(index, times, seed_of(seed, number), c, solver, noise))
        return xp.reshape(xp.concat(parts, axis=0), (self.sets, draws, dim))

    def _block(
        self, index: Any, times: list[float], seed: int, c: Any, solver: Solver | None, noise: Any
    ) -> Any:
        """x_0 (rows, dim), row i of data set index[i]."""
        bound, shape = self.denoiser.of_sets(index), (index.shape[0], self.denoiser.dim)
        # one stream for the start and the steps: opened twice, a native one would repeat itself
        stream = Noise(seed, noise).stream(bound.backend)
        if isinstance(bound, MixtureRows):
            start = bound.end(stream.uniform(0, shape[0]), stream.normal(0, shape))
        else:
            assert isinstance(self.start, RowStarts)
            start = self.start.draw(stream.normal(0, shape), index)
        with named(bound):
            path = solve(
                ReverseSDE(bound.sde, bound, c),
                start,
                times,
                solver=solver or ExponentialHeun(),
                noise=stream,
                keep="last",
                progress=False,
            )
        return path.states[-1, ...]


def seed_of(seed: int, number: int) -> int:
    """One for each block and data set; number 0: the seed itself."""
    return (seed + SPREAD * number) % 2**64


def put(x: Any, rows: Any, numbers: Sequence[int]) -> Any:
    """x with `rows` at these numbers of the first axis."""
    places = {number: place for place, number in enumerate(numbers)}
    parts = [rows[places[n], ...] if n in places else x[n, ...] for n in range(x.shape[0])]
    return array_namespace(x).stack(parts)
