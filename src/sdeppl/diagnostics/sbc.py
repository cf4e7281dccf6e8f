"""Simulation-based calibration: truths rank uniformly among draws of their posteriors."""

from typing import Any

import numpy as np

from ..backend import seed_number
from .calibration import Calibration
from .ranks import RankTest, ranks_of
from .simulations import Simulations, simulate_posteriors

LOG_LIKELIHOOD = "ln p(y given ·)"


def sbc(
    posterior: Any, sets: int = 1_000, draws: int = 99, *, seed: int = 0, kind: str = "SBC", **arguments: Any
) -> Calibration:
    """Rank each truth among its posterior's draws; the ranks are uniform where the posterior is right.

    Number by number of all sites, and of ln p(y given ·) where it is known: its rank depends on data and
    latents together, and so sees a posterior that is the prior, which no rank of a number does. Five tests
    of each (`RankTest`), corrected for how many there are.

    posterior: `Simulations`, or what `simulate_posteriors` takes, with its arguments: a guide, or a function
    with prior= and simulate=. Costs one solve of sets × draws rows (times particles/kept where it is
    corrected). draws: 99 or another number one below a multiple of 20 makes even bins.

    Returns: `Calibration`. Raises: as `simulate_posteriors`. Source: Talts et al. 2018, algorithm 1;
    Säilynoja et al. 2022; Modrák et al. 2023 for quantities that depend on the data.
    """
    seed = seed_number(seed)
    found = simulations_of(posterior, sets, draws, seed, arguments)
    generator = np.random.default_rng((seed, 1))
    truths, drawn, names = found.numbers()
    tests = [
        RankTest.of(name, ranks_of(truths[:, k], drawn[:, :, k], generator), found.count, generator)
        for k, name in enumerate(names)
    ]
    if found.log_likelihood is not None:
        ranks = ranks_of(*found.log_likelihood, generator)
        tests.append(RankTest.of(LOG_LIKELIHOOD, ranks, found.count, generator))
    return Calibration(kind, tuple(tests), found.sets, found.count, found.untrusted, found.how)


def simulations_of(
    posterior: Any, sets: int, draws: int, seed: int, arguments: dict[str, Any]
) -> Simulations:
    """As they are, or made. Raises: TypeError for arguments of simulations that have been made."""
    if not isinstance(posterior, Simulations):
        return simulate_posteriors(posterior, sets, draws, seed=seed, **arguments)
    if arguments:
        raise TypeError(f"{sorted(arguments)} are for making simulations, and these are made")
    return posterior
