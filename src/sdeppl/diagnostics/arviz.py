"""Draws, references and data as ArviZ keeps them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import host_numbers
from ..posterior import PosteriorRun


def to_arviz(
    draws: Any,
    *,
    observed: Mapping[str, Any] | None = None,
    prior: Mapping[str, Any] | None = None,
    log_likelihood: Mapping[str, Any] | None = None,
) -> Any:
    """An `InferenceData` (ArviZ 0.23), or a `DataTree` (ArviZ 1), of posterior draws by site name.

    draws: {site: (draws, *shape)}, arrays of any backend; what `posterior.run` returns, whose diagnosis
    becomes attributes of the group 'posterior' (text, effective_share, log_evidence and its error,
    trusted); or what `reference.nuts` or `reference.hmc` returns, chain by chain, of `hmc` with the group
    'sample_stats'. Draws that are not of chains are one chain, independent but within a run. observed: the
    data by site name; prior: draws of the prior; log_likelihood: {observed site: (draws, *shape)}, ln p of
    each number for each draw, which ArviZ's `loo` takes.

    Raises: ImportError, with what to install; TypeError for draws without site names; ValueError, naming the
    site, for another number of draws than the other sites have.
    """
    try:
        import arviz
    except ImportError as error:
        raise ImportError(f"to_arviz needs ArviZ: pip install 'sdeppl[arviz]' ({error})") from error
    chains = 1
    attributes: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    if isinstance(draws, PosteriorRun):
        found = draws.diagnosis
        attributes = {
            "diagnosis": found.text,
            "effective_share": found.ess,
            "log_evidence": found.log_evidence,
            "log_evidence_error": found.log_evidence_error,
            "trusted": int(found.trusted),  # NetCDF has no booleans
        }
        draws = draws.draws
    elif hasattr(draws, "chains"):
        attributes = {"verdict": draws.verdict, "divergences": draws.divergences}
        if draws.stats:
            groups["sample_stats"] = _by_chain(draws.stats, draws.chains)
        draws, chains = draws.draws, draws.chains
    groups["posterior"] = _by_chain(draws, chains)
    if prior is not None:
        groups["prior"] = _by_chain(prior, 1)
    if log_likelihood is not None:
        groups["log_likelihood"] = _by_chain(log_likelihood, chains, len(next(iter(draws.values()))))
    if observed is not None:
        groups["observed_data"] = {
            name: host_numbers(value, f"site '{name}': the data") for name, value in observed.items()
        }
    is_old = int(arviz.__version__.split(".")[0]) < 1
    tree = arviz.from_dict(**groups) if is_old else arviz.from_dict(groups)
    tree["posterior"].attrs.update(attributes)
    return tree


def _by_chain(draws: Any, chains: int, count: int | None = None) -> dict[str, np.ndarray]:
    """{site: (chains, draws, *shape)}; count: of all draws, where others have said."""
    if not isinstance(draws, Mapping):
        raise TypeError(f"to_arviz takes draws by site name; got {type(draws).__name__}")
    found = {name: host_numbers(value, f"site '{name}': the draws") for name, value in draws.items()}
    counts = {name: value.shape[0] if value.ndim else 0 for name, value in found.items()}
    wanted = next(iter(counts.values())) if count is None else count
    for name, number in counts.items():
        if number != wanted or not number:
            raise ValueError(
                f"site '{name}' has {number} draws, not {wanted}; the numbers by site are {counts}"
            )
    return {name: value.reshape(chains, -1, *value.shape[1:]) for name, value in found.items()}
