"""Draws, references and data as ArviZ keeps them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import axes_of, host_numbers
from ..backend.arguments import listed
from ..posterior import PosteriorRun

LARGEST = 2**27  # numbers of a log-likelihood that is made unasked: a gigabyte


def to_arviz(
    draws: Any,
    *,
    observed: Mapping[str, object] | None = None,
    prior: Mapping[str, Any] | None = None,
    log_likelihood: Mapping[str, Any] | bool | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """An `InferenceData` (ArviZ 0.23), or a `DataTree` (ArviZ 1), of posterior draws by site name.

    draws: {site: (draws, *shape)}, arrays of any backend; what `posterior.run` returns, whose diagnosis
    becomes attributes of the group 'posterior' (text, ess_fraction, log_evidence and its error,
    trusted); or what `reference.nuts` or `reference.hmc` returns, chain by chain, of `hmc` with the group
    'sample_stats'. Draws that are not of chains are one chain, independent but within a run.

    observed: the data by site name; log_likelihood: {observed site: (draws, *shape)}, ln p of each number
    for each draw, which ArviZ's `loo` takes. Both are there by themselves for a run of a guide's posterior
    and for a reference, unless log_likelihood=False; what was not observed is left out of the latter, along
    an axis '<site>_seen'. prior: draws of the prior. dims: {site: names of its axes}, coords: {axis: labels};
    data that were a Series or a DataArray bring their own.

    Raises: ImportError, with what to install; TypeError for draws without site names; ValueError, naming the
    site, for another number of draws than the other sites have, or of names than it has axes.
    """
    try:
        import arviz
    except ImportError as error:
        raise ImportError(f"to_arviz needs ArviZ: pip install 'sdeppl[arviz]' ({error})") from error
    source, attributes, chains = draws, _attributes(draws), getattr(draws, "chains", 1)
    groups: dict[str, Any] = {}
    if getattr(draws, "stats", None):
        groups["sample_stats"] = _by_chain(draws.stats, chains)
    draws = getattr(draws, "draws", draws)
    groups["posterior"] = _by_chain(draws, chains)
    if prior is not None:
        groups["prior"] = _by_chain(prior, 1)
    given = getattr(source, "given", None)
    for name, value in (("coords", coords), ("dims", dims), ("observed", observed), ("prior", prior)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"to_arviz: {name} must be a mapping; got {type(value).__name__}")
    axes = _Axes(coords, dims)
    axes.take({site: _along_axes(found) for site, found in (getattr(source, "axes", None) or {}).items()})
    axes.take(given.axes if given is not None else {})
    if observed is None and given is not None:
        observed = {**given.own, **given.data}
    if observed is not None:
        axes.take({name: axes_of(value) for name, value in observed.items()})
        groups["observed_data"] = {
            name: host_numbers(value, f"site '{name}': the data") for name, value in observed.items()
        }
    if log_likelihood is None and given is not None:
        log_likelihood = _terms(given, draws)
    tree = _tree(arviz, groups, axes.checked(groups))
    if isinstance(log_likelihood, Mapping) and log_likelihood:
        terms, named = axes.of_terms(log_likelihood)
        found = {"log_likelihood": _by_chain(terms, chains, len(next(iter(draws.values()))))}
        other = _tree(arviz, found, named)
        if hasattr(tree, "extend"):
            tree.extend(other)
        else:
            tree["log_likelihood"] = other["log_likelihood"]
    tree["posterior"].attrs.update(attributes)
    return tree


def _along_axes(found: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of a prior's axes, and the labels that stand along one of them under its name."""
    return found[0], {name: labels for name, (along, labels) in found[1].items() if along == (name,)}


class _Axes:
    """Names of axes and the labels along them, the user's before those of the data."""

    def __init__(
        self, coords: Mapping[str, Sequence[Any]] | None, dims: Mapping[str, Sequence[str]] | None
    ) -> None:
        self.coords: dict[str, Any] = {name: np.asarray(labels) for name, labels in (coords or {}).items()}
        self.dims = {
            site: [str(n) for n in listed(f"dims: the axes of '{site}'", names, "a list of names")]
            for site, names in (dims or {}).items()
        }

    def take(self, axes: Mapping[str, Any]) -> None:
        """Those that data have; another axis of the same name goes by the site's."""
        for site, found in axes.items():
            if found is None or site in self.dims:
                continue
            names = []
            for name in found[0]:
                labels = found[1].get(name)
                if labels is not None:
                    known = self.coords.get(name)
                    name = name if known is None or np.array_equal(known, labels) else f"{site}_{name}"
                    self.coords[name] = labels
                names.append(name)
            self.dims[site] = names

    def of_terms(self, terms: Mapping[str, object]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Log-likelihoods (draws, *shape), or where some were not observed (draws, observed numbers) along an
        axis of its own; and their `coords` and `dims`."""
        found, dims, coords = {}, {}, dict(self.coords)
        for site, value in terms.items():
            host = host_numbers(value, f"site '{site}': the log-likelihood")
            names = self.dims.get(site, [])[: host.ndim - 1]
            missing = np.isnan(host[:1]).reshape(-1) if host.ndim > 1 else np.zeros(1, dtype=bool)
            if missing.any():
                labels = self.coords.get(names[0]) if host.ndim == 2 and names else None
                names = [f"{site}_seen"]
                coords[names[0]] = np.flatnonzero(~missing) if labels is None else labels[~missing]
                host = host.reshape(len(host), -1)[:, ~missing]
            found[site] = host
            if names:
                dims[site] = names
        return found, {"coords": coords, "dims": dims}

    def checked(self, groups: Mapping[str, Any]) -> dict[str, Any]:
        """`coords` and `dims` of ArviZ. Raises: ValueError for a site with another number of axes."""
        shapes: dict[str, tuple[int, ...]] = {}
        for group in ("posterior", "prior"):
            shapes |= {name: value.shape[2:] for name, value in groups.get(group, {}).items()}
        shapes |= {name: value.shape for name, value in groups.get("observed_data", {}).items()}
        for site, names in self.dims.items():
            if site in shapes and len(names) != len(shapes[site]):
                raise ValueError(f"site '{site}' has axes of {shapes[site]}, and dims names {names}")
            for name, size in zip(names, shapes.get(site, ()), strict=False):
                if name in self.coords and len(self.coords[name]) != size:
                    count = len(self.coords[name])
                    raise ValueError(f"site '{site}' has {size} numbers along '{name}', and coords {count}")
        return {"coords": self.coords, "dims": self.dims}


def _tree(arviz: Any, groups: dict[str, Any], named: dict[str, Any]) -> Any:
    is_old = int(arviz.__version__.split(".")[0]) < 1
    return arviz.from_dict(**groups, **named) if is_old else arviz.from_dict(groups, **named)


def _attributes(draws: Any) -> dict[str, Any]:
    if isinstance(draws, PosteriorRun):
        return draws.diagnosis.attributes
    if hasattr(draws, "chains"):
        return {"verdict": draws.verdict, "divergences": draws.divergences}
    return {}


def _terms(given: Any, draws: Mapping[str, Any]) -> dict[str, Any]:
    """ln p of each number for each draw, where that is not too much. Warns: UserWarning."""
    count = len(next(iter(draws.values())))
    numbers = sum(value.numel() for value in {**given.own, **given.data}.values())
    if numbers * count > LARGEST:
        warnings.warn(
            f"the log-likelihood of {numbers} numbers for {count} draws is left out for its size; give "
            "log_likelihood={site: ...} for some of them",
            stacklevel=3,
        )
        return {}
    found: dict[str, Any] = given.log_likelihood(draws)
    return found


def _by_chain(draws: object, chains: int, count: int | None = None) -> dict[str, np.ndarray]:
    """{site: (chains, draws, *shape)}; count: of all draws, where others have said."""
    if not isinstance(draws, Mapping) or not draws:
        got = "none" if isinstance(draws, Mapping) else type(draws).__name__
        raise TypeError(f"to_arviz takes draws by site name; got {got}")
    found = {name: host_numbers(value, f"site '{name}': the draws") for name, value in draws.items()}
    counts = {name: value.shape[0] if value.ndim else 0 for name, value in found.items()}
    wanted = next(iter(counts.values())) if count is None else count
    for name, number in counts.items():
        if number != wanted or not number:
            raise ValueError(
                f"site '{name}' has {number} draws, not {wanted}; the numbers by site are {counts}"
            )
    return {name: value.reshape(chains, -1, *value.shape[1:]) for name, value in found.items()}
