"""Times for a twisted solve, from a small one: short steps where the weights become uneven."""

import bisect
import itertools
import math
from typing import Any

from ..backend import Noise, to_host
from ..sde import IsotropicSDE, log_snr_grid
from ..sde.grids import time_of_half_log_snr
from .diagnosis import RunEvidences

RUNS, PARTICLES, STEPS = 16, 32, 50
SHARE = 0.3  # of the steps spread evenly, whatever the pilot says
SMOOTH = 0.3  # roughness of a whole solve that is not worth a grid of its own
SEED = 0x70696C6F74  # of the pilot, so that a seed of draws does not change the grid


def pilot_stream(backend: Any) -> Any:
    """Noise of its own."""
    return Noise(SEED).stream(backend)


def ess_fraction(log_evidences: Any, particles: int) -> float:
    """1/(1 + particles × relative variance of the runs' p(y)): effective share; -1 where none is possible."""
    runs = RunEvidences.of(log_evidences)
    return 1 / (1 + particles * runs.relative_variance) if runs.possible else -1.0


def adapted_grid(
    sde: IsotropicSDE, times: list[float], roughness: Any, steps: int, level: float
) -> list[float]:
    """steps + 1 times from T to 0, dense in ln(α/σ) where `roughness` per unit of it is large.

    times: of the pilot, steps + 1 of them; roughness: (pilot steps,), spread of the log weights'
    increments in the step that ends at each of times[:-1]; level: σ/α before the last step. A share of the
    steps is spread evenly.
    """
    spreads = [float(v) for v in to_host(roughness)][1:]
    levels = [sde.half_log_snr(t) for t in times[:-1]]
    lengths = [b - a for a, b in itertools.pairwise(levels)]
    total, span = sum(spreads), levels[-1] - levels[0]
    if not math.isfinite(total):
        return log_snr_grid(sde, steps, level)
    even = max(SHARE / (1 - SHARE) * total, SMOOTH)
    weights = [r + even * h / span for r, h in zip(spreads, lengths, strict=True)]
    reached = [0.0]
    for weight in weights:
        reached.append(reached[-1] + weight)
    places = []
    for k in range(1, steps - 1):
        goal = k / (steps - 1) * reached[-1]
        i = min(max(bisect.bisect_right(reached, goal) - 1, 0), len(weights) - 1)
        places.append(levels[i] + lengths[i] * (goal - reached[i]) / weights[i])
    last = -math.log(level)
    inner = [time_of_half_log_snr(sde, place) for place in places if place < last]
    return [sde.T, *inner, time_of_half_log_snr(sde, last), 0.0]
