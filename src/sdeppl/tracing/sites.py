"""Which sites of a model are latent, which can be observed, and which is the forward SDE."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pyro import poutine

from ..distributions import Dataset, Diffusion, DrawsAlone, Part, SamplerError
from ..distributions.typing import Args, Kwargs, Model, Nodes
from ..sde import IsotropicSDE
from .errors import ModelError, no_data
from .latents import LatentSpace
from .running import check_call
from .runs import check_random, is_computed, origins_of, same_value, two_runs
from .unwrap import unwrap


@dataclass(frozen=True)
class ModelSites:
    """What a trace shows: the latents, the names that can be observed, the forward SDE or None.

    moving: the names of sites that the model observes at a value that depends on the latents, as residuals
    are: they are part of its density, and no data. sources: the latents that are `Simulated` or a `Dataset`.
    """

    space: LatentSpace
    observable: tuple[str, ...]
    diffusion: IsotropicSDE | None
    moving: tuple[str, ...] = ()
    sources: Mapping[str, DrawsAlone] = field(default_factory=dict, repr=False)

    def check_sources(self) -> None:
        """Read every data set once. Raises: ModelError, naming the site."""
        for name, source in self.sources.items():
            if isinstance(source, Dataset) and source.check_all:
                try:
                    source.check()
                except SamplerError as error:
                    raise ModelError(f"latent site '{name}': {error}") from error

    def rows(self, part: Part) -> int | None:
        """Rows in this part of the smallest data set among the latents; None where there is none."""
        sets = [source for source in self.sources.values() if isinstance(source, Dataset)]
        return min((len(source.reading(part)) for source in sets), default=None)


def find_sites(
    model: Model,
    args: Args = (),
    kwargs: Kwargs | None = None,
    latents: Sequence[str] | None = None,
) -> ModelSites:
    """Trace the model and sort its sample sites.

    A site is observable if it is observed already, or if it depends on others and none depends on
    it; so is a Delta of others, a hard constraint once it gets a value. The rest is latent, unless
    `latents` names them. `Diffusion` sites are neither; nor what the model observes at a value that depends
    on its own draws (`ModelSites.moving`), nor a Delta that is observed at its own value.

    Raises: ModelError for no latent, sites that are not in every run, a discrete, NaN or constant latent, one
    that is not known or that the model observes or computes, a site that cannot be drawn from, a Diffusion
    that something depends on, several Diffusion sites, or one over several latents.
    """
    check_call(model, args, kwargs, latents)
    kwargs = dict(kwargs or {})
    found = _sort(model, args, kwargs, latents)
    if not found.latent:
        raise ModelError(f"the model has no latent site; its sample sites are {list(found.sites)}")
    space = LatentSpace.from_trace({name: found.sites[name] for name in found.latent})
    _check_fixed_supports(found, space)
    check_random(model, args, kwargs, found.latent, found.sites, found.again)
    forward = _forward(found.sites, found.diffusions, found.latent)
    inside = {name: unwrap(found.sites[name]["fn"]) for name in found.latent}
    sources = {name: fn for name, fn in inside.items() if isinstance(fn, DrawsAlone)}
    return ModelSites(space, tuple(found.observable), forward, tuple(found.moving), sources)


def without_unseen(
    model: Model,
    data: Collection[str],
    args: Args = (),
    kwargs: Kwargs | None = None,
    latents: Sequence[str] | None = None,
) -> tuple[Model, list[str]]:
    """The model without its observable sites of no value, and the names of the latents that remain.

    data: names of the sites that get a value; the model's own observations stand besides.

    Raises: ModelError for no value at all, or a value whose site depends on one of no value.
    """
    found = _sort(model, args, dict(kwargs or {}), latents)
    check_not_computed(data, found.computed)
    seen = {*data, *(name for name, site in found.sites.items() if site["is_observed"])}
    if not seen:
        raise no_data(found.observable)
    unseen = [name for name in found.observable if name not in seen]
    for name in found.sites:
        needed = [parent for parent in unseen if parent in found.parents[name]]
        if needed and name not in unseen:
            raise ModelError(
                f"site '{name}' depends on site '{needed[0]}', which is neither latent nor observed; give "
                f"it a value, or name it in latents="
            )
    remaining = [name for name in found.latent if name not in seen]
    return (poutine.block(model, hide=unseen) if unseen else model), remaining


def check_not_computed(data: Collection[str], computed: Collection[str]) -> None:
    """Check that no data are given for what the model computes. Raises: ModelError, naming the site."""
    made = [name for name in data if name in computed]
    if made:
        raise ModelError(
            f"site '{made[0]}' is computed from other sites (a Delta that is observed at its own value, as "
            "pyro.deterministic and poutine.reparam leave), so data cannot be given for it; observe it "
            "through a site with noise, or give the data to the model as an argument"
        )


@dataclass(frozen=True)
class _Sorted:
    """The sample sites by name, those of another run, the names of each kind, and what each depends on.

    moving: observed at values that depend on other sites; computed: Deltas that are observed at their own
    value, which say nothing.
    """

    sites: Nodes
    again: Nodes
    latent: list[str]
    observable: list[str]
    moving: list[str]
    computed: list[str]
    diffusions: list[str]
    parents: dict[str, set[str]]


def _sort(model: Model, args: Args, kwargs: Kwargs, latents: Sequence[str] | None) -> _Sorted:
    sites, again = two_runs(model, args, kwargs)
    computed = [name for name in sites if is_computed(sites[name], again[name])]
    sites = {name: site for name, site in sites.items() if name not in computed}
    diffusions = [name for name, site in sites.items() if isinstance(site["fn"], Diffusion)]
    origins = origins_of(model, args, kwargs, sites)
    parents = origins.parents(origins.data)
    _check_without_children(diffusions, parents)
    plain = [name for name in sites if name not in diffusions]
    moving = [
        name
        for name in plain
        if sites[name]["is_observed"]
        and (origins.value[name] - origins.data or not same_value(sites[name], again[name]))
    ]
    still = [name for name in plain if name not in moving]
    has_children = {parent for name in plain for parent in parents[name]}
    observable = [
        name for name in still if sites[name]["is_observed"] or (parents[name] and name not in has_children)
    ]
    if latents is not None:
        _check_names(latents, plain, computed, sites)
        observable = [name for name in still if name not in latents]
    chosen = [name for name in still if name not in observable]
    return _Sorted(sites, again, chosen, observable, moving, computed, diffusions, parents)


def _check_names(latents: Sequence[str], plain: Sequence[str], computed: Sequence[str], sites: Nodes) -> None:
    """Check that the latents that the user names are sites that can be. Raises: ModelError."""
    made = [name for name in latents if name in computed]
    if made:
        raise ModelError(
            f"latent site '{made[0]}' is computed from other sites (a Delta); name those instead: "
            f"{list(plain)}"
        )
    fixed = [name for name in latents if name in plain and sites[name]["is_observed"]]
    if fixed:
        raise ModelError(
            f"latent site '{fixed[0]}' is observed in the model, so there is nothing to infer; call it "
            "with that site unobserved"
        )
    unknown = [name for name in latents if name not in plain]
    if unknown:
        raise ModelError(f"latents={list(latents)}: the model has no site '{unknown[0]}', only {list(plain)}")


def _check_without_children(diffusions: list[str], parents: dict[str, set[str]]) -> None:
    for name, needed in parents.items():
        used = [d for d in diffusions if d in needed]
        if used:
            raise ModelError(
                f"site '{name}' depends on the Diffusion site '{used[0]}'; observe x0 instead: the "
                "forward SDE only carries x0 to noise"
            )


def _check_fixed_supports(found: _Sorted, space: LatentSpace) -> None:
    """The bijections are read once, so a support may not move with another latent."""
    differs = space.same_as(LatentSpace.from_trace({name: found.again[name] for name in space.names}))
    if differs:
        raise ModelError(
            f"{differs}: it changes from draw to draw; write the latent as a function of one whose "
            "shape and support are fixed"
        )


def _forward(sites: Nodes, diffusions: list[str], latents: list[str]) -> IsotropicSDE | None:
    if not diffusions:
        return None
    if len(diffusions) > 1:
        raise ModelError(f"the model has several Diffusion sites, {diffusions}; one forward SDE is needed")
    if len(latents) > 1:
        raise ModelError(
            f"site '{diffusions[0]}' is the forward SDE of one latent, but the model has "
            f"{latents}; give the SDE of all with ScoreGuide(model, sde=...)"
        )
    sde: IsotropicSDE = sites[diffusions[0]]["fn"].sde
    return sde
