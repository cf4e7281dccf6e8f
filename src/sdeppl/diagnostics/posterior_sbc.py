"""Simulation-based calibration where one data set's posterior is: for that data set, not for the prior."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..backend import seed_number, whole_number
from ..guide import ScoreGuide, SiteData, names_apart
from ..guide.many import condition_many
from ..tracing import ModelError, data_tensor, replicates
from .calibration import Calibration
from .sbc import sbc
from .simulations import MOST, of_posteriors

REPLICATES = 6  # of a guide's random streams


@names_apart
def posterior_sbc(
    guide: ScoreGuide,
    data: Mapping[str, Any] | None = None,
    /,
    *,
    sets: int = 500,
    draws: int = 99,
    seed: int = 0,
    progress: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    **observed: Any,
) -> Calibration:
    """Whether the guide is right near the posterior given these data, where prior draws seldom are.

    θ from the posterior given y; y' from the model given θ; the posterior given y and y' together must rank θ
    uniformly, as `sbc` tests, if both posteriors are right. It sees errors that differ between the two: one
    that the same factor makes in both may cancel. y' is observed where y is: all of a site.

    data: by site name, in a mapping or by keyword; settings: backend, likelihood, steps, correction, c, as
    for `condition` and `sample`.

    Returns: `Calibration`. Raises: as `sbc` and `condition`; ModelError for data with gaps. Source: Säilynoja
    et al. 2025 (arXiv 2502.03279), section 3.
    """
    sets, draws, seed = (
        whole_number("sets", sets, 1, MOST),
        whole_number("draws", draws, 1, MOST),
        seed_number(seed),
    )
    values = {**(data or {}), **observed}
    chosen = dict(settings or {})
    c = chosen.pop("c", 1.0)
    found = guide.condition(SiteData(values), **chosen).sample(sets, seed=seed, c=c, progress=progress)
    truths = {name: data_tensor(name, value).detach().cpu() for name, value in found.items()}
    latents = {site.name: truths[site.name].to(site.dtype) for site in guide.space.sites}
    stream = guide.seed, REPLICATES, seed
    copies = replicates(guide.model, latents, list(values), stream, guide.args, guide.kwargs)
    _require_whole(values)
    posteriors = condition_many(guide, copies, given=values, **chosen)
    simulations = of_posteriors(posteriors, truths, copies, draws, seed + 1, c, progress)
    return sbc(simulations, seed=seed, kind="posterior SBC")


def _require_whole(values: Mapping[str, Any]) -> None:
    gaps = [name for name, value in values.items() if bool(torch.isnan(data_tensor(name, value)).any())]
    if gaps:
        raise ModelError(
            f"posterior_sbc needs complete data, and there are gaps (NaN) in {_listed(gaps)}; leave the site "
            "out, or write a model of what was observed"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
