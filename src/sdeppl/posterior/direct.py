"""Draws of a Gaussian posterior in the time of one solve, by Matheron's rule."""

from dataclasses import dataclass
from typing import ClassVar

from ..backend import Noise, NoiseStream, Progress, rows_at_once
from ..backend.typing import Array
from ..likelihood import GaussianPosterior
from .diagnosis import Diagnosis
from .guided import FEWER, gaussian_diagnosis, seed_of
from .problem import Correction, Drawn, Problem

ARRAYS = 12  # like a draw, that a transform and a solve hold at once
ROWS = 256  # draws at once, at most: more are no faster


@dataclass(frozen=True)
class Direct(Correction):
    """Exact draws of a Gaussian posterior, without a reverse SDE: x + C Hᵀ S⁻¹ (y - H x - e), x from the
    prior, e from the noise, S = H C Hᵀ + R.

    Each draw has normals of its own, from the seed and its number: the first n are the same for any batch.
    ln p(y) is exact where S is factored or diagonal; else `run` estimates it, at the cost of some draws, and
    the diagnosis has its standard error.
    """

    batched: ClassVar[bool] = True
    own_steps: ClassVar[bool] = False

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """In batches, of which each holds about 12 arrays like its draws beside one factor of S. Raises:
        FloatingPointError where S cannot be solved."""
        posterior, backend, sets = problem.choice.exact, problem.prior.backend, problem.sets
        assert isinstance(posterior, GaussianPosterior)
        xp, count = backend.xp, 1 if sets is None else sets.shape[0]
        numbers = list(problem.numbers or range(count))
        rows = [(number, draw) for number in numbers for draw in range(draws)]
        at_once = problem.batch or self._rows(problem)
        firsts = range(0, len(rows), at_once)
        what = f"{len(rows)} draws of {problem.prior.dim} numbers given {posterior.count}"
        bar, parts = Progress(len(firsts), problem.progress, "sampling", "batch", what, FEWER), []
        for first in bar.over(firsts):
            parts.append(self._batch(posterior, rows[first : first + at_once], stream, sets is not None))
        x = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        how = (
            f"drawn directly (Matheron's rule), {posterior.S.words}" if posterior.count else "drawn directly"
        )
        found: list[Diagnosis | None] = []
        found += [gaussian_diagnosis(problem, posterior, number, how) for number in numbers]
        return xp.reshape(x, (count, draws, problem.prior.dim)), found

    def _batch(
        self, posterior: GaussianPosterior, rows: list[tuple[int, int]], stream: NoiseStream, many: bool
    ) -> Array:
        """Of data set and number of a draw, (rows, dim)."""
        xp, dim, count = stream.backend.xp, posterior.prior.dim, posterior.count
        normals: list[Array] = []
        for index, size in enumerate((dim, count)):
            if stream.mode == "native":
                normals.append(stream.normal(0, (len(rows), size), index))
                continue
            own = [_of_set(stream, number).normal(draw, (size,), index) for number, draw in rows]
            normals.append(xp.stack(own))
        numbers = None
        if many:
            device = stream.backend.device
            numbers = xp.asarray([number for number, _ in rows], dtype=xp.int64, device=device)
        z, noise = normals
        return posterior.draws(z, noise, numbers)

    def _rows(self, problem: Problem) -> int:
        dim = problem.prior.dim + (0 if problem.observation is None else problem.observation.count)
        size = ARRAYS * dim * problem.prior.backend.itemsize
        return min(rows_at_once(size, problem.prior.backend, f"one draw of {dim} numbers", FEWER), ROWS)


def _of_set(stream: NoiseStream, number: int) -> NoiseStream:
    """The stream of a data set; of the first, and where there is one alone, the stream itself."""
    return Noise(seed_of(stream.seed, number), stream.mode).stream(stream.backend) if number else stream
