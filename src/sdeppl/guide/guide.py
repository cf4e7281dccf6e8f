"""The guide: a denoiser of the model's prior, trained once, conditioned as often as wanted."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.modules.conv import _ConvNd

from ..backend import Array, Backend, Progress, TorchFunction, axes_of, resolve, whole_number
from ..backend.files import CorruptFile, Named, check_folder, read, write
from ..backend.sharing import sent_state
from ..denoisers import Denoiser, Eigenbasis, NetworkDenoiser, OnGrid
from ..distributions import Part
from ..distributions.typing import Args, Kwargs, Model
from ..likelihood import Observation, joint_observation
from ..linalg import FieldShape, Layout, PathShape
from ..nn import FieldNetwork
from ..posterior import FitCheck, Network, Posterior, Posteriors, UntrustedWarning
from ..query import (
    GaussianPart,
    ModelDensity,
    SitePosterior,
    SitePosteriors,
    check_fit,
    compile_posterior,
    doubt_of,
    gaussian_of_layout,
    many_observation,
    observation_of,
    of_length,
    posterior_probes,
)
from ..sde import VPSDE, IsotropicSDE, from_dict, to_dict
from ..tracing import (
    ROWS,
    GivenModel,
    HeavyTailsWarning,
    LatentSite,
    LatentSpace,
    ModelError,
    ObservedSite,
    OwnDensities,
    PriorRecord,
    Rows,
    SiteReader,
    check_call,
    data_tensor,
    find_sites,
    find_tails,
    imputed,
    no_data,
    observed_values,
    original,
    prior_draws,
    read_sites,
    with_tails,
)
from ..tracing.randomness import seeded
from .layouts import NetworkFactory, check_layout, fields_of, layout_contents, network_factory
from .names import names_apart
from .sample_sites import Kept, sample_sites

MOST = 10**10  # draws, days of work
MOMENT_DRAWS = 100_000
BATCH = 8192
FIT = 5  # of its random streams: draws that the fit is checked on
RECORD = 7  # draws by which a change of the prior is noticed
HELD_OUT, LEAST_HELD_OUT = 16_384, 200
DENSITIES = 2_048  # of them, that are compared with the model's own density
LARGEST = 1_500_000  # numbers in all held-out draws
CHECK_NUMBERS, NETWORK_NUMBERS, LEAST_FIELDS = 2**24, 2**21, 32  # of a prior with a layout
MOST_NUMBERS, LEAST_DRAWS = 50_000_000, 1_000  # of a prior with a layout, for its moments
LARGEST_BATCH, LEAST_AT_ONCE = 2**24, 8  # numbers in a batch of such draws
PASSES = 8  # of its random streams: draws of later passes of an estimate
FEWEST_PROBES, FEWEST_NEAR = 16, 4  # of these, where a draw has many numbers
LARGEST_PROBES = 2**22  # numbers in them, but for that many
PROBES, NEAR = 256, 64  # draws with which a model is read: of the prior, and near the posterior
KIND = "guide"  # of its files
PARTS: tuple[Part, ...] = "training", "held out"
TRAINING = Rows("training")


class ScoreGuide:
    """A Pyro guide whose posterior is a guided reverse SDE.

    model: a Pyro model; args and kwargs: what it is called with when the prior is drawn from, with
    nothing observed. sde: the forward SDE of the standardised latents; by default that of the
    model's Diffusion site, else VPSDE(). net: dim ↦ torch module (x, ln(α/σ)) ↦ x, of a site with a layout
    `FieldShape` ↦ module, or None for the Gaussian part alone; 'auto': `ResidualMLP`, `UNet` on a grid.
    latents: names of the latent sites, where the trace does not tell them.
    tails: whether latents with heavy tails are drawn in at fitting (`fit_gaussian`), but for those with a
    layout. layout: {latent site: `Grid` or `Time`}, what is next to what: how the prior's covariance is held,
    and where the network sees its input; without it a latent is a vector, and time and memory grow with the
    square of its numbers, at fitting with the cube. A guide with paths (`Time`) has the Gaussian part alone,
    and answers for any length that `condition(kwargs=...)` gives them.
    seed: of everything it draws, but for the draws it makes as a Pyro guide, inside `Predictive` or
    called by itself: those follow pyro.set_rng_seed.

    Raises: ModelError, naming the site, for a model that cannot be guided; TypeError for an sde or a
    net of another kind; ValueError and BackendUnavailable for SDEPPL_BACKEND.
    """

    def __repr__(self) -> str:
        if self.gaussian is None:
            learned = "not fitted"
        else:
            kept = f"with a {type(self.net).__name__}" if self.use_net else "the Gaussian part alone"
            held = f" ({self.gaussian.words})" if self.gaussian.words else ""
            learned = f"{kept}{held}, from {self.gaussian.draws} draws"
        tails = f"; heavy tails of {list(self.tails)} drawn in" if self.tails else ""
        observed = f"observes {', '.join(self.observable) or 'nothing'}"
        return f"ScoreGuide({self.traced!r}; {observed}; {type(self.sde).__name__}; {learned}{tails})"

    def __init__(
        self,
        model: Model,
        sde: IsotropicSDE | None = None,
        net: NetworkFactory | Literal["auto"] | None = "auto",
        args: Args = (),
        kwargs: Kwargs | None = None,
        latents: Sequence[str] | None = None,
        seed: int = 0,
        tails: bool = True,
        layout: Mapping[str, Layout] | None = None,
    ) -> None:
        resolve()  # a wrong SDEPPL_BACKEND is reported before a training, not after it
        _check_sde(sde)
        _check_net(net)
        check_call(model, args, kwargs, latents)
        self.args, self.kwargs = tuple(args), dict(kwargs or {})
        self.model = imputed(model, self.args, self.kwargs)
        sites = find_sites(self.model, self.args, self.kwargs, latents)
        sites.check_sources()
        self.traced, self.observable, self.moving = sites.space, sites.observable, sites.moving
        self.space = sites.space
        self.rows = {part: sites.rows(part) for part in PARTS}
        self.layout = dict(layout or {})
        self.fields = fields_of(sites.space, layout)
        self.draws_in = tails
        self.tails: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.sde = sde or sites.diffusion or VPSDE()
        self.net_factory = network_factory(net, self.fields)
        self.seed = whole_number("seed", seed)
        self.gaussian: GaussianPart | None = None
        self.net: torch.nn.Module | None = None
        self.use_net = self.left_out = False
        self._cache: Kept = {}
        self._said: set[str] = set()  # why draws are slow
        self.checked: FitCheck | None = None
        self.trained: PriorRecord | None = None

    def __getstate__(self) -> dict[str, Any]:
        return sent_state(self, model="model", net_factory="network's factory") | {"_cache": {}}

    def prior_batch(self, draws: int, *stream: int, rows: Rows = TRAINING) -> torch.Tensor:
        """Fresh unconstrained prior draws (draws, dim); the same `stream` gives the same draws. rows: of data
        sets among the latents."""
        asked = self.model, self.space.names, draws, (self.seed, *stream), self.args, self.kwargs
        return self.space.flatten(prior_draws(*asked, said=self._said, rows=rows))

    def held_out(self, draws: int, *stream: int) -> torch.Tensor:
        """Unconstrained prior draws (draws, dim) that no fit sees: fresh ones; of data sets the rows that are
        held out, each once, and so fewer where these are fewer."""
        draws = min(draws, self.rows["held out"] or draws)
        return torch.cat(list(self._in_batches(draws, "held out", stream, progress=False)))

    def _in_batches(
        self, draws: int, part: Part, stream: tuple[int, ...], progress: bool | None
    ) -> Iterator[torch.Tensor]:
        """Draws of a part of what data sets there are, in the order of their rows, some at a time."""
        starts = range(0, draws, self.at_once)
        for index, first in enumerate(Progress(len(starts), progress, "prior moments").over(starts)):
            yield self.prior_batch(min(self.at_once, draws - first), *stream, index, rows=Rows(part, first))

    @property
    def moment_draws(self) -> int:
        """How many draws the Gaussian part is estimated from where nobody says: 100,000, but of a prior with
        a layout no more than 5e7 numbers, and at least 1,000 draws."""
        if not self.fields:
            return MOMENT_DRAWS
        return min(MOMENT_DRAWS, max(LEAST_DRAWS, MOST_NUMBERS // self.space.dim))

    @property
    def at_once(self) -> int:
        """How many draws are made in one batch."""
        return BATCH if not self.fields else max(LEAST_AT_ONCE, min(BATCH, LARGEST_BATCH // self.space.dim))

    def fit_gaussian(self, draws: int | None = None, progress: bool | None = None) -> "ScoreGuide":
        """Estimate the prior's mean and covariance from `draws` draws; a network starts anew.

        draws: `moment_draws` by default. Latents with heavy tails are drawn in by z = median + scale sinh(u)
        first (`tracing.find_tails`), unless tails=False. The standard error of each is 1/√draws of the
        prior's own scale.

        The fit is checked on held-out draws (`fit_check`). Warns: HeavyTailsWarning, naming the sites;
        RankWarning; UntrustedWarning where the prior is not the fitted Gaussian.
        """
        self.estimate(draws, progress)
        self.check_fit()
        return self

    def estimate(self, draws: int | None = None, progress: bool | None = None) -> None:
        """`fit_gaussian`, not checked: a network is to be trained."""
        draws = self.moment_draws if draws is None else whole_number("draws", draws, most=MOST)
        plain, rows = sum(s.stop - s.start for s in self.plain_sites), self.rows["training"]
        draws = draws if rows is None else min(draws, rows)  # more tell nothing new
        if draws < 2 * plain:
            way_out = "better a thousand times that many" if draws != rows else "or give a layout"
            counted = "draws" if draws != rows else "rows of a data set"
            raise ValueError(
                f"{draws} {counted} are too few for the covariance of {plain} numbers; use at least "
                f"{2 * plain}, {way_out}"
            )
        self.set_tails({})
        if self.draws_in and self.plain_sites:
            more = (
                self._plain(self.prior_batch(self.at_once, 0, k)) for k in range(1, draws // self.at_once)
            )
            self.set_tails(self._heavy(more))
        if self.tails:
            warnings.warn(_TAILS.format(list(self.tails)), HeavyTailsWarning, stacklevel=3)
        batches = partial(self._batches, draws, progress)
        if self.fields:
            self.gaussian = gaussian_of_layout(self.space, self.layout, batches, draws)
        else:
            self.gaussian = GaussianPart.estimate(batches(0))
        self.net, self.use_net, self.left_out = None, False, False
        self.trained = None
        self.trained = self.trained_on()
        self.forget()

    def _batches(self, draws: int, progress: bool | None, number: int) -> Iterator[torch.Tensor]:
        """Prior draws, batch by batch, fresh ones in each pass over them, of data sets the same rows in their
        order. number: of the pass."""
        return self._in_batches(draws, "training", (0,) if number == 0 else (PASSES, number), progress)

    @property
    def plain_sites(self) -> tuple[LatentSite, ...]:
        """The latents without a layout."""
        return tuple(site for site in self.traced.sites if site.name not in self.fields)

    def _plain(self, z: torch.Tensor) -> torch.Tensor:
        """The numbers of the latents without a layout, of all (draws, dim)."""
        return torch.cat([z[:, site.start : site.stop] for site in self.plain_sites], dim=-1)

    def _heavy(self, more: Iterator[torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Which of them have heavy tails, by 8,192 draws and, in doubt, `more`."""
        space, first = self.traced, 0
        if self.fields:
            sites = list[LatentSite]()
            for site in self.plain_sites:
                last = first + site.stop - site.start
                sites.append(replace(site, start=first, stop=last))
                first = last
            space = LatentSpace(tuple(sites))
        batches = range(-(-BATCH // self.at_once))
        seen = [self._plain(self.prior_batch(self.at_once, 0, k)) for k in batches]
        return find_tails(space, torch.cat(seen), more)

    def trained_on(self) -> PriorRecord:
        """What the prior was at the fit. Raises: ModelError where there is none yet."""
        self.fitted()
        if self.trained is None:
            reader = SiteReader(self.model, self.space, self.args, self.kwargs)
            self.trained = PriorRecord.of(reader, (self.seed, RECORD))
        return self.trained

    def set_tails(self, tails: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Latents with heavy tails, in which a mean and a covariance say nothing: {site: (median, scale)}."""
        self.tails, self.space = tails, with_tails(self.traced, tails)

    def forget(self) -> None:
        """The denoiser has changed: throw away draws kept for the next call as a Pyro guide and its check."""
        self._cache.clear()
        self.checked = None

    @property
    def fit_check(self) -> FitCheck:
        """What draws held out of the fit say of the learned prior, in nats and in words.

        Made at the end of every fit and saved with the guide; made here where steps were taken by hand since.
        """
        if self.checked is None:
            self.checked = self._checked()
        return self.checked

    def check_fit(self) -> FitCheck:
        """`fit_check`. Warns: UntrustedWarning where the learned prior is not the model's, and no density
        corrects it."""
        found = self.fit_check
        # where the prior has a density, a posterior may be corrected by that, and says itself if it is not
        if found.state == "do not trust" and (found.disagreement or not found.density):
            warnings.warn(found.verdict, UntrustedWarning, stacklevel=3)
        return found

    def _checked(self) -> FitCheck:
        gaussian = self.fitted()
        part = 2 if self.fields else 5
        wanted = HELD_OUT if self.use_net else max(LEAST_HELD_OUT, gaussian.draws // part)
        if self.fields:
            most = (NETWORK_NUMBERS if self.use_net else CHECK_NUMBERS) // self.space.dim
            count = max(min(wanted, HELD_OUT, most), LEAST_FIELDS)
        else:
            count = max(min(wanted, HELD_OUT, LARGEST // self.space.dim), LEAST_HELD_OUT)
        z = self.held_out(count, FIT)
        network: Network = "used" if self.use_net else "left out" if self.left_out else "untrained"
        if self.net_factory is None and not self.use_net:
            network = "none"
        own = OwnDensities(self.model, self.space, self.args, self.kwargs)
        with seeded(self.seed, FIT):  # what is no latent is drawn all the same
            prior, log_prior = own.check(z[:DENSITIES])
        known = log_prior if prior.good else None
        found = check_fit(
            self.space, gaussian, self.denoiser("torch"), network, z, self.seed, known, self.fields
        )
        said = "" if prior.good else prior.verdict.removeprefix("do not trust: ")
        return replace(found, density=log_prior is not None, disagreement=said)

    def new_net(self) -> torch.nn.Module | None:
        """An untrained network for the fitted Gaussian part, or None where the guide has none.

        Warns: UserWarning for convolutions without a layout.
        """
        if self.net_factory is None:
            return None
        if not self.fields:
            net = self.net_factory(self.fitted().rank)
            if isinstance(net, torch.nn.Module) and any(isinstance(m, _ConvNd) for m in net.modules()):
                warnings.warn(_CONVOLUTIONS.format(type(net).__name__), UserWarning, stacklevel=2)
            return net
        fields = {name: field for name, field in self.fields.items() if isinstance(field, FieldShape)}
        parts = [fields.get(site.name, site.stop - site.start) for site in self.traced.sites]
        return FieldNetwork(parts, self.net_factory)

    def denoiser(self, backend: str | Backend | None = None) -> Denoiser:
        """The prior's denoiser in standardised coordinates, on a backend."""
        gaussian = self.fitted().denoiser(self.sde, resolve(backend))
        if self.net is None or not self.use_net:
            return gaussian
        net = TorchFunction.on(self.net, gaussian.backend)
        return NetworkDenoiser(gaussian, net, OnGrid if self.fields else Eigenbasis)

    def prior(self, *, backend: str | Backend | None = None, steps: int = 100) -> SitePosterior:
        """The prior as the guide has learned it: a posterior without data, to draw from and to look at."""
        posterior = Posterior(self.denoiser(backend), None, steps=steps)
        return SitePosterior(self.space, self.fitted(), posterior, self.fit_check)

    @names_apart
    def condition(
        self,
        data: Mapping[str, object] | None = None,
        /,
        *,
        args: Args | None = None,
        kwargs: Kwargs | None = None,
        model: Model | None = None,
        backend: str | Backend | None = None,
        likelihood: str = "auto",
        steps: int = 100,
        correction: object = "auto",
        **observed: object,
    ) -> SitePosterior:
        """Compile p(latents given the data); nothing is trained.

        Data by site name, as keywords or in a mapping, besides what the model observes by itself with
        these args and kwargs; NaN means not observed. What stands in the mapping is data; a keyword that is
        an option below and the name of an observed site is refused. model: another model with the same
        latents and prior, for another operator or noise level; args, kwargs: other inputs, which may change
        the likelihood, not the prior. backend: where the reverse SDE is solved; SDEPPL_BACKEND, then
        torch, by default. likelihood, correction, steps: as for `Posterior`.

        Raises: ModelError, naming the site, for data that do not fit, a likelihood that the mean likelihood
        cannot take, or a site called like an option; TypeError for data without a name or given twice;
        ValueError and BackendUnavailable for the backend.
        """
        query = self._query(model, args, kwargs, backend, likelihood, steps, correction)
        model, args, kwargs = query.model, query.args, query.kwargs
        values = {**observed_values(model, args, kwargs, query.observable), **(data or {}), **observed}
        if not values and not query.moving:
            raise no_data(query.observable)
        tensors = {
            name: data_tensor(name, value, torch.float64).detach().cpu() for name, value in values.items()
        }
        sites = query.read(tensors)
        settings = likelihood, steps, correction, query.density(tensors, sites)
        guide = query.guide
        posterior = compile_posterior(
            guide.space, guide.fitted(), query.denoiser, sites, *settings, fit=guide.fit_check
        )
        axes = {name: found for name, value in values.items() if (found := axes_of(value)) is not None}
        return replace(posterior, given=GivenModel(model, args, kwargs, tensors, {}, axes))

    @names_apart
    def condition_many(
        self,
        data: Mapping[str, object] | None = None,
        /,
        *,
        args: Args | None = None,
        kwargs: Kwargs | None = None,
        model: Model | None = None,
        backend: str | Backend | None = None,
        likelihood: str = "auto",
        steps: int = 100,
        correction: object = "auto",
        **observed: object,
    ) -> SitePosteriors:
        """Compile p(latents given the data) for many data sets, solved together: {site: (data sets, *shape)}.

        They are batched where the data enter the model's density by their values alone and all are observed
        in the same numbers; where not, each is solved by itself, and the result of `run` says so.
        Arguments and errors as for `condition`; ModelError for numbers of data sets that differ.
        """
        query = self._query(model, args, kwargs, backend, likelihood, steps, correction)
        return query.many({**(data or {}), **observed})

    def condition_replicates(
        self, data: Mapping[str, object], given: Mapping[str, object], **settings: Any
    ) -> SitePosteriors:
        """`condition_many` with the data of one more experiment, {site: (*shape)}, which each is given too.

        settings: as for `condition_many`.
        """
        return self._query(**settings).many(data, given)

    def _query(
        self,
        model: Model | None = None,
        args: Args | None = None,
        kwargs: Kwargs | None = None,
        backend: str | Backend | None = None,
        likelihood: str = "auto",
        steps: int = 100,
        correction: object = "auto",
    ) -> "_Query":
        """What is asked for but the data, with the guide's own model and inputs where none are given."""
        chosen = resolve(backend)
        self.fitted()
        model, args, kwargs = self.asked(model, args, kwargs)
        guide = self._of_lengths(model, args, kwargs)
        if guide is not self:
            model, args, kwargs = guide.model, guide.args, guide.kwargs
        observable, moving = guide.check_latents(model, args, kwargs)
        how = guide.denoiser(chosen), likelihood, steps, correction
        return _Query(guide, model, args, kwargs, observable, moving, *how)

    def _of_lengths(self, model: Model, args: Args, kwargs: Kwargs) -> "ScoreGuide":
        """The guide for the lengths that paths have in a model; itself where these are its own.

        Raises: ModelError, naming the site, for a length of which nothing is known, or another model.
        """
        paths = [name for name, field in self.fields.items() if isinstance(field, PathShape)]
        if not paths or (args is self.args and kwargs is self.kwargs and model is self.model):
            return self
        sites = find_sites(model, args, kwargs, latents=self.space.names)
        mine, theirs = ({s.name: s.shape for s in space.sites} for space in (self.traced, sites.space))
        longer = [n for n in paths if n in theirs and theirs[n][1:] == mine[n][1:] and theirs[n] != mine[n]]
        if not longer:
            return self
        if original(model) is not original(self.model):
            raise ModelError(
                f"site '{longer[0]}' has {theirs[longer[0]][0]} states in model=, and {mine[longer[0]][0]} "
                "in the model that the guide was trained on; only of that one other lengths are asked for, "
                "by args or kwargs"
            )
        self.check_prior_record(self.model, self.args, self.kwargs)  # with what it was trained on
        other = copy.copy(self)
        other.model, other.args, other.kwargs = model, tuple(args), dict(kwargs)
        other.traced, other.observable, other.moving = sites.space, sites.observable, sites.moving
        other.set_tails(self.tails)
        other.gaussian = of_length(self.fitted(), self.traced, other.traced, self.layout)
        other.fields, other._cache = fields_of(other.traced, self.layout), {}
        other.checked, other.trained = self.fit_check, None
        return other

    def read_near(
        self,
        model: Model,
        data: Mapping[str, torch.Tensor],
        args: Args,
        kwargs: Kwargs,
    ) -> list[ObservedSite]:
        """The observed sites, looked at on draws from the prior and near the posterior."""
        count = max(FEWEST_PROBES, min(PROBES, LARGEST_PROBES // self.space.dim))
        probes = self.prior_batch(count, 1)
        sites = read_sites(model, self.space, data, probes, args, kwargs)
        few = NEAR if count == PROBES else max(FEWEST_NEAR, count // 8)
        near = posterior_probes(sites, self.fitted(), probes[:few], self.seed)
        if near is None:
            return sites
        # a bend where the posterior is, and the prior seldom
        return read_sites(model, self.space, data, torch.cat([near, probes]), args, kwargs)

    def asked(
        self,
        model: Model | None,
        args: Args | None,
        kwargs: Kwargs | None,
    ) -> tuple[Model, Args, Kwargs]:
        """The model and its inputs: the guide's own where none are given; gaps in them are drawn."""
        if model is None and args is None and kwargs is None:
            return self.model, self.args, self.kwargs
        check_call(self.model if model is None else model, () if args is None else args, kwargs)
        args = self.args if args is None else tuple(args)
        kwargs = self.kwargs if kwargs is None else dict(kwargs)
        return imputed(original(model or self.model), args, kwargs), args, kwargs

    def density_of(
        self,
        model: Model,
        data: Mapping[str, torch.Tensor],
        args: Args,
        kwargs: Kwargs,
        sites: Sequence[ObservedSite],
        backend: Backend,
    ) -> ModelDensity:
        """The model's own density of latents and data, in the guide's coordinates."""
        gaussian = self.fitted()
        return ModelDensity(
            model, self.space, data, tuple(args), dict(kwargs), gaussian, backend, tuple(sites), self.seed
        )

    def check_latents(
        self, model: Model, args: Args, kwargs: Kwargs
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Check that the prior is the one trained on; returns the names of the sites that can get data, and
        of those observed at values that depend on the latents.

        It is looked at every time, also of the very model trained on: what that reads from a global, a
        pyro.param or a module may have changed since. Raises: ModelError, naming the site.
        """
        own = model is self.model and args is self.args and kwargs is self.kwargs
        names = (self.observable, self.moving) if own else self._same_latents(model, args, kwargs)
        try:
            self.check_prior_record(model, args, kwargs)
        except ModelError:
            raise
        except Exception:
            # another shape or support makes the model fail at latents of the old one, in words of its own
            self._same_latents(model, args, kwargs)
            raise
        return names

    def check_prior_record(self, model: Model, args: Args, kwargs: Kwargs, rows: int = ROWS) -> None:
        """Check the prior against what it was when the guide was fitted. rows: of densities, for less work.

        Raises: ModelError, naming the site.
        """
        reader = SiteReader(model, self.space, args, kwargs)
        trained = self.trained_on()
        nodes = reader.nodes(trained.z[0])
        if any(s.name not in nodes or nodes[s.name]["fn"].shape() != s.shape for s in self.space.sites):
            self._same_latents(model, args, kwargs)
        changed = trained.changed(reader, rows)
        if changed:
            raise ModelError(
                f"latent site '{changed}' has another prior here than the guide was trained on; train a "
                "guide for this model, these inputs and whatever else it reads (globals, pyro.param, modules)"
            )

    def _same_latents(
        self, model: Model, args: Args, kwargs: Kwargs
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        sites = find_sites(model, args, kwargs, latents=self.space.names)
        differs = sites.space.same_as(self.traced)
        if differs:
            raise ModelError(f"the model's latents are not those the guide was trained on: {differs}")
        return sites.observable, sites.moving

    def __call__(self, *args: object, **kwargs: object) -> dict[str, Any]:
        """Sample every latent site given the observed sites among `kwargs`, as a Pyro guide does."""
        return sample_sites(self, args, kwargs, self._cache)

    def save(self, path: str | Path, origin: dict[str, str] | None = None) -> None:
        """Write the trained guide to one safetensors file (with JSON in its header; no pickle).

        origin: where its model is to be found, which the command line reads. Raises: FileNotFoundError where
        the folder does not exist.
        """
        check_folder(path)
        if self.gaussian is not None:
            _ = self.fit_check  # so that the file holds it
        tensors, content = self.contents()
        write(path, KIND, tensors, content if origin is None else content | {"origin": origin})

    @classmethod
    def load(cls, path: str | Path, model: Model, **arguments: Any) -> "ScoreGuide":
        """Read a guide saved by `save`, for the model it was trained on.

        arguments: as for ScoreGuide. Raises: FileNotFoundError; CorruptFile; ModelError where the
        model's latents are not the saved ones.
        """
        guide = cls(model, **arguments)
        guide.load_into(path)
        return guide

    def contents(self) -> tuple[Named, Named]:
        """Tensors and JSON that restore the guide. Raises: ModelError for a guide not fitted yet."""
        if self.gaussian is None:
            raise ModelError("the guide is not fitted, so there is nothing to save")
        moments, content = self.gaussian.contents()
        tensors = {f"gaussian.{name}": tensor for name, tensor in moments.items()}
        for name, (loc, scale) in self.tails.items():
            tensors |= {f"tail.loc.{name}": loc, f"tail.scale.{name}": scale}
        if self.net is not None:
            tensors |= {f"net.{name}": value for name, value in self.net.state_dict().items()}
        trained, fit = self.trained_on(), self.checked
        tensors["check.z"] = trained.z
        if trained.summary is not None:
            tensors["check.summary"] = trained.summary
        tensors |= {f"check.prior.{name}": density for name, density in trained.densities.items()}
        content |= {
            "latents": {site.name: list(site.shape) for site in self.space.sites},
            "layout": layout_contents(self.layout),
            "sde": to_dict(self.sde),
            "has_net": self.net is not None,
            "use_net": self.use_net,
            "check_seed": trained.seed,
            "fit": None if fit is None else fit.to_dict(),
        }
        return tensors, content

    def restore(self, tensors: Named, content: Named, path: object) -> None:
        """Put saved contents into a self. Raises: ModelError for another prior, CorruptFile."""
        mine = {site.name: list(site.shape) for site in self.space.sites}
        if content.get("latents") != mine:
            raise ModelError(f"{path} was trained on latents {content.get('latents')}; the model has {mine}")
        check_layout(path, content.get("layout", {}), self.layout)
        tailed = [name.removeprefix("tail.loc.") for name in tensors if name.startswith("tail.loc.")]
        if not all(name in mine and f"tail.scale.{name}" in tensors for name in tailed):
            raise CorruptFile(f"{path} does not fit this guide: its heavy tails are of {tailed}")
        self.set_tails({n: (tensors[f"tail.loc.{n}"], tensors[f"tail.scale.{n}"]) for n in tailed})
        self.trained = self._trained_before(tensors, content, path)
        try:
            prefix = "gaussian."
            moments = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
            self.sde = from_dict(content["sde"])
            self.gaussian = GaussianPart.of(moments, content)
            self.net, self.use_net = None, bool(content["use_net"])
            if content["has_net"]:
                if self.net_factory is None:
                    raise ModelError(f"{path} holds a network, and the guide was made with net=None")
                with seeded(0):  # its first weights are drawn, and then replaced
                    net = self.new_net()
                assert net is not None
                prefix = "net."
                state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                net.load_state_dict(state)
                self.net = net
            self.forget()
            self.checked = FitCheck.from_dict(content.get("fit"))
        except ModelError:
            raise
        except (KeyError, IndexError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} does not fit this guide: {error}") from error

    def load_into(self, path: str | Path) -> None:
        """Read a guide's file into it."""
        self.restore(*read(path, KIND), path)

    def _trained_before(self, tensors: Named, content: Named, path: object) -> PriorRecord:
        """What the prior was, where it still is. Raises: ModelError; CorruptFile."""
        z = tensors.get("check.z")
        if z is None or z.shape[1:] != (self.space.dim,) or len(z) < ROWS:
            raise CorruptFile(f"{path} does not fit this guide: it has no check of the prior")
        prefix, seed = "check.prior.", content.get("check_seed", [0])
        densities = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
        record = PriorRecord(z, tuple(int(key) for key in seed), densities, tensors.get("check.summary"))
        changed = record.changed(SiteReader(self.model, self.space, self.args, self.kwargs))
        if changed:
            raise ModelError(
                f"{path} was trained on another prior of latent site '{changed}'; train a guide for this "
                "model"
            )
        return record

    def fitted(self) -> GaussianPart:
        """The moments. Raises: ModelError where there are none yet."""
        if self.gaussian is None:
            raise ModelError(
                "the guide is not fitted: call ScoreMatching(guide).fit(steps), or fit_gaussian()"
            )
        return self.gaussian


@dataclass(frozen=True)
class _Query:
    """What is asked of a guide but the data: the arguments of `condition`; moving: names of the sites that
    are observed at values that depend on the latents."""

    guide: ScoreGuide
    model: Model
    args: Args
    kwargs: Kwargs
    observable: tuple[str, ...]
    moving: tuple[str, ...]
    denoiser: Denoiser
    likelihood: str
    steps: int
    correction: object

    def __getstate__(self) -> dict[str, Any]:
        return sent_state(self, model="model")

    def read(self, data: Mapping[str, torch.Tensor]) -> list[ObservedSite]:
        """The sites of one data set."""
        return self.guide.read_near(self.model, data, self.args, self.kwargs)

    def density(self, data: Mapping[str, torch.Tensor], sites: Sequence[ObservedSite]) -> ModelDensity:
        """The model's own density of latents and data."""
        return self.guide.density_of(self.model, data, self.args, self.kwargs, sites, self.denoiser.backend)

    def many(self, data: Mapping[str, object], given: Mapping[str, object] | None = None) -> SitePosteriors:
        """Of data {site: (data sets, *shape)}; given: of one more experiment, {site: (*shape)}, for each."""
        guide, gaussian = self.guide, self.guide.fitted()
        own = observed_values(self.model, self.args, self.kwargs, self.observable)
        rows, count = _rows(data, own, self.observable)
        fixed: list[ObservedSite] = []
        once = {name: data_tensor(name, value, torch.float64) for name, value in (given or {}).items()}
        if once:  # a residual of the model's own is part of it once, and read with the data of each
            fixed = [site for site in self.read(once) if site.name in once]
        one = _DataSets(self, rows, tuple(fixed), doubt_of(guide.fit_check))
        settings: Any = {
            "likelihood": self.likelihood, "steps": self.steps, "correction": self.correction, "one": one,
        }  # fmt: skip
        if one.on_density:
            why = f"each on the model's own density, for {one.doubt}"
            posteriors = Posteriors(self.denoiser, None, None, sets=count, why=why, **settings)
            return SitePosteriors(guide.space, gaussian, posteriors, guide.fit_check)
        readings = [one.read(n) for n in sorted({0, count // 2, count - 1})]
        together = self._together(readings, rows, fixed, once, count)
        if together is None:
            posteriors = Posteriors(self.denoiser, None, None, sets=count, **settings)
        else:
            posteriors = Posteriors(self.denoiser, *together, **settings)
        return SitePosteriors(guide.space, gaussian, posteriors, guide.fit_check)

    def _together(
        self,
        readings: list[list[ObservedSite]],
        rows: dict[str, torch.Tensor],
        fixed: list[ObservedSite],
        once: dict[str, torch.Tensor],
        count: int,
    ) -> tuple[Observation, Array] | None:
        """One observation of all data sets, and their y; None where the data enter by more than their
        values."""
        gaussian, backend = self.guide.fitted(), self.denoiser.backend
        latents = self.guide.prior_batch(16, 1)
        own = {s.name: s.y.expand(count, *s.y.shape) for s in readings[0] if s.name not in rows}
        found = many_observation(readings, {**rows, **own}, latents, gaussian, backend)
        if found is None or not fixed:
            return found
        given = {name: value.expand(count, *value.shape) for name, value in once.items()}
        also = many_observation([fixed], given, latents, gaussian, backend)
        if also is None:
            return None
        return joint_observation([found[0], also[0]]), backend.xp.concat([found[1], also[1]], axis=-1)


@dataclass(frozen=True)
class _DataSets:
    """The number of a data set ↦ its posterior, compiled when it is first asked for; fixed: the sites of an
    experiment that each is given too."""

    query: _Query
    rows: Mapping[str, torch.Tensor]
    fixed: Sequence[ObservedSite]
    doubt: str
    made: dict[int, Posterior] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"made": {}}

    @property
    def on_density(self) -> bool:
        """Whether what was learned of the prior is doubted, and the first data set's own density makes up for
        it."""
        query = self.query
        if not self.doubt or query.likelihood != "auto" or query.correction != "auto" or self.fixed:
            return False
        choice = self(0).choice
        return choice.known or choice.name == "density"

    def read(self, number: int) -> list[ObservedSite]:
        """The sites of one data set."""
        return self.query.read(self._row(number))

    def _row(self, number: int) -> dict[str, torch.Tensor]:
        return {name: value[number] for name, value in self.rows.items()}

    def __call__(self, number: int) -> Posterior:
        if number not in self.made:
            query, sites = self.query, [*self.read(number), *self.fixed]
            observation = observation_of(sites, query.guide.fitted(), query.denoiser.backend)
            density = None if self.fixed else query.density(self._row(number), sites)
            settings: Any = {"correction": query.correction, "density": density, "doubt": self.doubt}
            self.made[number] = Posterior(
                query.denoiser, observation, query.likelihood, query.steps, **settings
            )
        return self.made[number]


def _rows(
    data: Mapping[str, object], own: Mapping[str, torch.Tensor], observable: Sequence[str]
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


def _check_sde(sde: object) -> None:
    if isinstance(sde, type):
        raise TypeError(f"sde={sde.__name__} is a class; give an instance: {sde.__name__}()")
    if sde is not None and not isinstance(sde, IsotropicSDE):
        raise TypeError(f"sde is a {type(sde).__name__}; expected an IsotropicSDE such as VPSDE()")


def _check_net(net: object) -> None:
    if isinstance(net, str) and net == "auto":
        return
    if net is not None and (isinstance(net, torch.nn.Module) or not callable(net)):
        raise TypeError(
            f"net is a {type(net).__name__}; give a factory, dim ↦ module, such as ResidualMLP, or None"
        )


_CONVOLUTIONS = (
    "the network {} has convolutions, and without layout= it is given coefficients along eigenvectors, of "
    "which no two are neighbours: say what is next to what, ScoreGuide(..., layout={{site: sp.Grid(...)}}), "
    "where a factory is given the grid as a FieldShape"
)

_TAILS = (
    "latent sites {} have heavy tails, and are drawn in by z = median + scale sinh(u): an affine observation "
    "of them is not affine in u, and has no closed form; ScoreGuide(tails=False) leaves them as they are"
)
