"""Posteriors of simulated data sets, beside the truths that these were simulated from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyro import poutine

from ..backend import Progress, host_numbers, seed_number, whole_number
from ..backend.arguments import sites_in_words
from ..guide import ScoreGuide, SiteData
from ..query import SitePosteriors
from ..tracing import ModelError, prior_draws

TRUTHS = 5  # of a guide's random streams: draws that neither its moments nor its training have seen
MOST = 10**8  # data sets, or draws of each
ALONE = "x"  # the site of truths that are one array

Sites = Mapping[str, Any]


@dataclass(frozen=True)
class Simulations:
    """truths {site: (sets, *shape)}, draws {site: (sets, draws, *shape)}: of each data set's posterior.

    Under the right posterior a truth and its draws are exchangeable. log_likelihood: ln p(y given ·) of the
    truths (sets,) and of the draws (sets, draws), or None; data: {site: (sets, *shape)}, or None. untrusted:
    how many data sets have a diagnosis that says not to trust their draws; how: they were made, in words.
    Arrays are NumPy's, in float64; those of any backend are taken.

    Raises: ValueError, naming the site, for other sites or shapes, NaN, fewer than 2 draws or 10 data sets,
    and numbers that never vary.
    """

    truths: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]
    log_likelihood: tuple[np.ndarray, np.ndarray] | None = None
    data: Mapping[str, np.ndarray] | None = None
    untrusted: int = 0
    how: str = "draws as given"

    def __repr__(self) -> str:
        words = sites_in_words(self.truths, 1)
        return f"Simulations({self.sets} data sets with {self.count} draws of {words}; {self.how})"

    def __post_init__(self) -> None:
        truths, draws = by_site(self.truths), by_site(self.draws)
        if set(truths) != set(draws):
            raise ValueError(f"the sites differ: truths of {sorted(truths)}, draws of {sorted(draws)}")
        for name, value in truths.items():
            _check(name, value, draws[name])
        sizes = {name: draws[name].shape[:2] for name in truths}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the sites have other numbers of data sets and draws: {sizes}")
        object.__setattr__(self, "truths", truths)
        object.__setattr__(self, "draws", {name: draws[name] for name in truths})
        if self.data is not None:
            object.__setattr__(self, "data", by_site(self.data))
        if self.log_likelihood is not None:
            pair = tuple(_host(part) for part in self.log_likelihood)
            expected, shapes = ((self.sets,), (self.sets, self.count)), tuple(part.shape for part in pair)
            if shapes != expected:
                raise ValueError(f"log_likelihood must be of shapes {expected}; got {shapes}")
            if any(np.isnan(part).any() for part in pair):
                raise ValueError("log_likelihood holds NaN; leave it out, or look at the model's log_prob")
            object.__setattr__(self, "log_likelihood", pair)

    @property
    def sets(self) -> int:
        """Number of data sets."""
        return next(iter(self.truths.values())).shape[0]

    @property
    def count(self) -> int:
        """Draws of each."""
        return next(iter(self.draws.values())).shape[1]

    def numbers(self, sites: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """All numbers of these sites, or of all: truths (sets, n), draws (sets, draws, n), and names."""
        chosen = list(self.truths) if sites is None else list(sites)
        unknown = [name for name in chosen if name not in self.truths]
        if unknown:
            raise ValueError(f"there is no site '{unknown[0]}'; there are {list(self.truths)}")
        truths = [self.truths[name].reshape(self.sets, -1) for name in chosen]
        draws = [self.draws[name].reshape(self.sets, self.count, -1) for name in chosen]
        names = [
            name + ("" if self.truths[name].ndim == 1 else str(list(index)).replace(" ", ""))
            for name in chosen
            for index in np.ndindex(self.truths[name].shape[1:])
        ]
        return np.concatenate(truths, axis=1), np.concatenate(draws, axis=2), names


def simulate_posteriors(
    posterior: ScoreGuide | Callable[..., Any],
    sets: int = 1_000,
    draws: int = 99,
    *,
    prior: Callable[..., Any] | None = None,
    simulate: Callable[..., Any] | None = None,
    log_likelihood: Callable[[Any, Any], Any] | None = None,
    one_by_one: bool = False,
    sites: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **settings: object,
) -> Simulations:
    """Truths from the prior, a data set from each, and `draws` draws of each data set's posterior.

    posterior: a guide, whose model gives truths and data, and which is conditioned on all data sets in one
    solve (`ScoreGuide.condition_many`); sites: which of its observed sites are observed, all by default;
    settings: backend, likelihood, steps, correction, as for `condition`, and c. Or a function:
    posterior(data, draws, seed=) ↦ (sets, draws, *shape), of all data sets at once, or where `one_by_one`
    (draws, *shape) of one; with prior(sets, seed=) ↦ truths (sets, *shape), simulate(truths, seed=) ↦ data
    (sets, *shape), and log_likelihood(truths, data) ↦ (n,), row by row, where it is known. Truths, draws and
    data are arrays, or mappings from site to array.

    Raises: as `Simulations`; TypeError where prior or simulate is missing; ModelError for a guide without
    observed sites; what the posterior raises.
    """
    sets, draws = whole_number("sets", sets, 1, MOST), whole_number("draws", draws, 1, MOST)
    seed = seed_number(seed)
    if isinstance(posterior, ScoreGuide):
        return _of_guide(posterior, sets, draws, sites, seed, progress, settings)
    if prior is None or simulate is None or settings:
        raise TypeError(
            "simulate_posteriors takes a guide, or a function posterior(data, draws, seed=) with prior= and "
            f"simulate=; got {type(posterior).__name__}, prior={prior!r}, simulate={simulate!r}, and "
            f"{sorted(settings)}"
        )
    truths = prior(sets, seed=seed)
    data = simulate(truths, seed=seed + 1)
    if one_by_one:
        what = f"{sets} posteriors of {draws} draws, one by one"
        bar = Progress(sets, progress, "posteriors", "set", what, "fewer data sets take less").over(
            range(sets)
        )
        found = [by_site(posterior(_row(data, i), draws, seed=seed + 2 + i)) for i in bar]
        made: Any = {name: np.stack([one[name] for one in found]) for name in found[0]}
    else:
        made = posterior(data, draws, seed=seed + 2)
    pair = None
    if log_likelihood is not None:
        flat = _map(made, lambda value: value.reshape(-1, *value.shape[2:]))
        repeated = _map(data, lambda value: np.repeat(_host(value), draws, axis=0))
        at_draws = _host(log_likelihood(flat, repeated)).reshape(sets, draws)
        pair = _host(log_likelihood(truths, data)), at_draws
    how = f"{sets} data sets, {'one by one' if one_by_one else 'all at once'}"
    return Simulations(by_site(truths), by_site(made), pair, by_site(data), 0, how)


def _of_guide(
    guide: ScoreGuide,
    sets: int,
    draws: int,
    sites: Sequence[str] | None,
    seed: int,
    progress: bool | None,
    settings: dict[str, Any],
) -> Simulations:
    observed = list(guide.observable) if sites is None else list(sites)
    unknown = [name for name in observed if name not in guide.observable]
    if unknown or isinstance(sites, str):
        raise ModelError(
            f"sites={sites!r}: give a list of names from the observed sites {list(guide.observable)}"
        )
    if not observed:
        raise ModelError("the model has no observed site, so there is nothing to calibrate")
    if guide.moving:
        raise ModelError(
            f"site '{guide.moving[0]}' is observed at a value that depends on the latents, so truths drawn "
            "from the prior and data simulated from them are not what its posterior is calibrated for; "
            "write what it says as the distribution of a site that is given data"
        )
    names = [*guide.space.names, *observed]
    model = poutine.uncondition(guide.model)
    joint = prior_draws(model, names, sets, (guide.seed, TRUTHS, seed), guide.args, guide.kwargs)
    truths = {name: joint[name] for name in guide.space.names}
    data = {name: joint[name] for name in observed}
    c = settings.pop("c", None)
    return of_posteriors(
        guide.condition_many(SiteData(data), **settings), truths, data, draws, seed, c, progress
    )


def of_posteriors(
    posteriors: SitePosteriors,
    truths: Sites,
    data: Sites,
    draws: int,
    seed: int,
    c: float | Callable[[float], float] | None,
    progress: bool | None,
) -> Simulations:
    """Draws of compiled posteriors beside the truths, with log-likelihoods where there is a density."""
    run = posteriors.run(draws, seed=seed, c=c, progress=progress)
    single = {name: _host(value)[:, None, ...] for name, value in truths.items()}
    at_truths = posteriors.log_likelihood(single)
    pair = None
    if at_truths is not None:
        pair = _host(at_truths)[:, 0], _host(posteriors.log_likelihood(run.draws))
    bad = sum(not found.trusted for found in run.diagnoses)
    return Simulations(by_site(truths), by_site(run.draws), pair, by_site(data), bad, run.text)


def by_site(values: object) -> dict[str, np.ndarray]:
    """A mapping of NumPy arrays in float64; one array is the site 'x'."""
    if isinstance(values, Mapping):
        return {str(name): _host(value, f"site '{name}': the numbers") for name, value in values.items()}
    return {ALONE: _host(values)}


def _check(name: str, truths: np.ndarray, draws: np.ndarray) -> None:
    """Raises: ValueError, naming the site."""
    if draws.ndim != truths.ndim + 1 or truths.shape != draws.shape[:1] + draws.shape[2:]:
        raise ValueError(
            f"site '{name}': expected truths (sets, *shape) and draws (sets, draws, *shape); got "
            f"{truths.shape} and {draws.shape}"
        )
    if len(truths) < 10 or draws.shape[1] < 2:
        raise ValueError(
            f"site '{name}': at least 10 data sets and 2 draws of each are needed; got {len(truths)} and "
            f"{draws.shape[1]}"
        )
    for what, values in (("truths", truths), ("draws", draws)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"site '{name}': {bad} numbers of the {what} are NaN or infinite")
    flat, flat_draws = truths.reshape(len(truths), -1), draws.reshape(-1, truths[0].size)
    constant = (flat == flat[0]).all(axis=0) & (flat_draws == flat[0]).all(axis=0)
    if constant.any():
        raise ValueError(
            f"site '{name}': {int(constant.sum())} of {constant.size} numbers never vary, number "
            f"{int(np.argmax(constant))} the first; leave them out"
        )


def _host(value: object, what: str = "the numbers") -> np.ndarray:
    return host_numbers(value, what).astype(np.float64, copy=False)


def _map(values: object, function: Callable[[Any], Any]) -> Any:
    if isinstance(values, Mapping):
        return {name: function(value) for name, value in values.items()}
    return function(values)


def _row(values: object, number: int) -> Any:
    return _map(values, lambda value: value[number, ...])
