"""Conditioning a guide on many data sets at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..backend import resolve
from ..backend.sharing import sent_state
from ..denoisers import Denoiser
from ..distributions.typing import Args, Kwargs, Model
from ..likelihood import joint_observation
from ..posterior import Posterior, Posteriors
from ..query import (
    GaussianPart,
    ModelDensity,
    SitePosteriors,
    doubt_of,
    many_observation,
    observation_of,
)
from ..tracing import ModelError, ObservedSite, data_tensor, no_data, observed_values

if TYPE_CHECKING:
    from .guide import ScoreGuide

READ = 3  # data sets with which the model is read, to see that they enter by their values alone


def condition_many(
    guide: "ScoreGuide",
    data: Mapping[str, Any],
    *,
    given: Mapping[str, Any] | None = None,
    args: Args | None = None,
    kwargs: Kwargs | None = None,
    model: Model | None = None,
    backend: Any = None,
    likelihood: str = "auto",
    steps: int = 100,
    correction: Any = "auto",
) -> SitePosteriors:
    """`ScoreGuide.condition` for data {site: (data sets, *shape)}; see `ScoreGuide.condition_many`.

    given: data of one more experiment, {site: (*shape)}, which every posterior is given too.
    """
    model, args, kwargs = guide.asked(model, args, kwargs)
    observable, _ = guide.check_latents(model, args, kwargs)
    rows, sets = _rows(data, observed_values(model, args, kwargs, observable), observable)
    chosen = resolve(backend)
    gaussian, denoiser = guide.fitted(), guide.denoiser(chosen)
    fixed: list[ObservedSite] = []
    if given is not None:
        once = {name: data_tensor(name, value, torch.float64) for name, value in given.items()}
        # a residual of the model's own is part of it once, and read with the data of each
        fixed = [site for site in guide.read_near(model, once, args, kwargs) if site.name in given]
        rows_given = {name: value.expand(sets, *value.shape) for name, value in once.items()}

    how = gaussian, denoiser, likelihood, steps, correction, doubt_of(guide.fit_check)
    one = _One(guide, model, args, kwargs, rows, tuple(fixed), *how)
    numbers = sorted({0, sets // 2, sets - 1})[:READ]
    latents = guide.prior_batch(16, 1)
    readings = [one.read(n) for n in numbers]
    own = {s.name: s.y.expand(sets, *s.y.shape) for s in readings[0] if s.name not in rows}
    found = many_observation(readings, {**rows, **own}, latents, gaussian, chosen)
    also = many_observation([fixed], rows_given, latents, gaussian, chosen) if fixed else None
    settings: Any = {"likelihood": likelihood, "steps": steps, "correction": correction, "one": one}
    if one.on_density:
        why = f"each on the model's own density, for {one.doubt}"
        posteriors = Posteriors(denoiser, None, None, sets=sets, why=why, **settings)
        return SitePosteriors(guide.space, gaussian, posteriors, guide.fit_check)
    if found is None or (fixed and also is None):
        posteriors = Posteriors(denoiser, None, None, sets=sets, **settings)
        return SitePosteriors(guide.space, gaussian, posteriors, guide.fit_check)
    observation, y = found
    if also is not None:
        observation = joint_observation([observation, also[0]])
        y = chosen.xp.concat([y, also[1]], axis=-1)
    posteriors = Posteriors(denoiser, observation, y, **settings)
    return SitePosteriors(guide.space, gaussian, posteriors, guide.fit_check)


@dataclass(frozen=True)
class _One:
    """The number of a data set ↦ its posterior, compiled when it is first asked for."""

    guide: "ScoreGuide"
    model: Model
    args: Args
    kwargs: Kwargs
    rows: Mapping[str, torch.Tensor]
    fixed: Sequence[ObservedSite]
    gaussian: GaussianPart
    denoiser: Denoiser
    likelihood: str
    steps: int
    correction: Any
    doubt: str = ""
    made: dict[int, Posterior] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return sent_state(self, model="model") | {"made": {}}

    @property
    def on_density(self) -> bool:
        """Whether what was learned of the prior is doubted, and the first data set's own density makes up for
        it."""
        if not self.doubt or self.likelihood != "auto" or self.correction != "auto" or self.fixed:
            return False
        choice = self(0).choice
        return choice.known or choice.name == "density"

    def read(self, number: int) -> list[ObservedSite]:
        """The sites of one data set."""
        row = {name: value[number] for name, value in self.rows.items()}
        return self.guide.read_near(self.model, row, self.args, self.kwargs)

    def _density(self, number: int, sites: Sequence[ObservedSite]) -> ModelDensity | None:
        """The model's own; None where data of one more experiment are given."""
        if self.fixed:
            return None
        row = {name: value[number] for name, value in self.rows.items()}
        backend = self.denoiser.backend
        return self.guide.density_of(self.model, row, self.args, self.kwargs, sites, backend)

    def __call__(self, number: int) -> Posterior:
        if number not in self.made:
            sites = [*self.read(number), *self.fixed]
            observation = observation_of(sites, self.gaussian, self.denoiser.backend)
            density = self._density(number, sites)
            settings: Any = {"correction": self.correction, "density": density, "doubt": self.doubt}
            self.made[number] = Posterior(self.denoiser, observation, self.likelihood, self.steps, **settings)
        return self.made[number]


def _rows(
    data: Mapping[str, Any], own: Mapping[str, torch.Tensor], observable: Sequence[str]
) -> tuple[dict[str, torch.Tensor], int]:
    """All data as (data sets, *shape), what the model observes by itself repeated; and how many sets."""
    rows = {name: data_tensor(name, value, torch.float64).detach().cpu() for name, value in data.items()}
    if not rows:
        raise no_data(observable)
    stray = [name for name in rows if name not in observable]
    if stray:
        raise ModelError(f"the model has no observable site '{stray[0]}'; it has {list(observable)}")
    sizes = {name: value.shape[0] if value.dim() else 0 for name, value in rows.items()}
    sets = next(iter(sizes.values()))
    if not sets or any(size != sets for size in sizes.values()):
        raise ModelError(
            f"the data must be (data sets, *shape) at each site, with as many data sets; got {sizes}"
        )
    for name, value in own.items():
        if name not in rows:
            rows[name] = value.to(torch.float64).expand(sets, *value.shape)
    return rows, sets
