"""The model's own joint density, of the standardised latents on arrays of any backend."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ..backend import Array, Backend, to_torch
from ..backend.sharing import SHARED, cached_property, sent_state
from ..denoisers import GaussianDenoiser
from ..distributions.typing import Args, Kwargs, Model
from ..mcmc import Density, State
from ..sde import IsotropicSDE
from ..tracing import (
    GivenModel,
    LatentSpace,
    ModelError,
    Observe,
    ObservedSite,
    Potential,
    RecordedValues,
    check_fixed,
    grouped,
    merged,
    prior_draws,
    start,
    without_unseen,
)
from ..tracing.errors import first_line
from ..tracing.probing import FAILURES
from ..tracing.randomness import seeded, vmapped
from .bridge import Bridge
from .gaussian_part import GaussianPart

AGREE = 16  # draws at which the density and what was read of it are compared
STANDARDISED = 4  # draws at which it is looked whether a location or scale moves


@dataclass(frozen=True)
class ModelDensity:
    """ln p(z) + ln p(data given z) + ln |dx/dz| at z = location + scale · x, as the model states them.

    sites: the likelihood as the posterior reads it, with which the density must agree at draws of the
    prior. The model is run when the density is first asked for.
    """

    model: Model
    space: LatentSpace
    data: Mapping[str, torch.Tensor]
    args: Args
    kwargs: Kwargs
    gaussian: GaussianPart
    backend: Backend
    sites: Sequence[ObservedSite]
    seed: int
    standardised: frozenset[str] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        made = ("plain", "potential", "others", "why_not", "why_no_values", "_draws", "_bridge", "_values")
        kept = {name: value for name, value in sent_state(self, model="model").items() if name not in made}
        return kept

    @cached_property
    def _draws(self) -> torch.Tensor:
        """A few of the prior, (rows, dim) of z."""
        names, stream = self.space.names, (self.seed, 1)
        values = prior_draws(self.model, names, AGREE, stream, self.args, self.kwargs)
        return self.space.flatten(values)

    @cached_property
    def plain(self) -> Potential:
        """Of the unconstrained latents. Raises: ModelError."""
        names = self.space.names
        kept, _ = without_unseen(self.model, self.data, self.args, self.kwargs, names)
        return Potential(Observe(self.data)(kept), self.space, self.args, self.kwargs)

    @cached_property
    def potential(self) -> Potential:
        """Of these coordinates."""
        return replace(self.plain, standardised=self.standardised)

    @property
    def count(self) -> int:
        """Of the numbers observed."""
        return sum(len(site.seen) for site in self.sites)

    @property
    def sendable(self) -> bool:
        """Whether another process finds the model by its name."""
        return GivenModel(self.model, self.args, self.kwargs, {}).sendable

    @property
    def coordinates(self) -> str:
        """In words."""
        names = [name for name in self.space.names if name in self.standardised]
        return f"{names} less their locations and over their scales" if names else ""

    @cached_property
    def others(self) -> tuple["ModelDensity", ...]:
        """With latents whose location or scale depends on others standardised, if there are any."""
        names = self.potential.standardisable(self._draws[:STANDARDISED])
        return (replace(self, standardised=names),) if names and not self.standardised else ()

    @cached_property
    def why_no_values(self) -> str:
        """In words, why its values cannot be had; '' where they can."""
        for site in self.sites:
            if len(site.seen) and not hasattr(site, "log_prob"):
                return f"site '{site.name}' is a hard constraint"
            if not site.vectorised:
                return f"the likelihood of site '{site.name}' cannot be vectorised"
        if not self.gaussian.has_density:
            return "the prior is degenerate"
        try:
            check_fixed(self.plain.model, self.space, self.args, self.kwargs)
            masked = self.plain.masked(self._draws[0])
            if masked:
                return f"latent site '{masked[0]}' is masked, so its density is not what draws come from"
            with SHARED, seeded(0), torch.no_grad():
                return self._differs(self._draws)
        except ModelError as error:
            return str(error)
        except FAILURES as error:
            return f"the model cannot be run for many latents at once ({first_line(error)})"

    @cached_property
    def why_not(self) -> str:
        """In words, why chains cannot follow it; '' where they can."""
        for site in self.sites:
            if len(site.seen) and not site.differentiable:
                return f"the likelihood of site '{site.name}' has no derivative that can be vectorised"
        if self.why_no_values:
            return self.why_no_values
        try:
            with SHARED, seeded(0), torch.no_grad():
                state = self.potential(self._draws)
        except FAILURES as error:
            return f"the model has no gradient for many latents at once ({first_line(error)})"
        if not bool(torch.isfinite(state.gradient[torch.isfinite(state.log_p)]).all()):
            return "the density has no gradient at draws of the prior"
        return ""

    def base(self, sde: IsotropicSDE) -> GaussianDenoiser:
        """Of the moments that were fitted to draws."""
        return self.gaussian.denoiser(sde, self.backend)

    def log_prob(self, x: Array) -> Array:
        """At rows of these coordinates, (rows,), of their density; -∞ where it is not a number."""
        return self._log_prob(self.potential.values, x)

    def recorded_log_prob(self, x: Array) -> Callable[[Array], Array]:
        """`log_prob` for many batches like x, with the model's operations alone if they can be recorded."""
        with SHARED, seeded(0):
            values = self.potential.recorded_values(self._latents(x), self._values.get("values"))
        if isinstance(values, RecordedValues):
            self._values["values"] = values
        return partial(self._log_prob, values)

    def _log_prob(self, values: Callable[[torch.Tensor], torch.Tensor], x: Array) -> Array:
        with SHARED, seeded(0):
            found = values(self._latents(x)) + self._scale.log().sum()
        return self._bridge.arrive(torch.where(torch.isnan(found), -torch.inf, found))

    @cached_property
    def _values(self) -> dict[str, RecordedValues]:
        """The last record of `log_prob`."""
        return {}

    def _differs(self, rows: torch.Tensor) -> str:
        """Whether the likelihood of the model's density is another one than the posterior's, but for a
        constant."""
        latent = set(self.space.names)
        sites: Any = [merged(group) for group in grouped([site for site in self.sites if len(site.seen)])]

        def both(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            terms = self.potential.terms(z)
            own = [terms[name] for name in terms if name not in latent]
            read = [site.log_prob(z) for site in sites]
            return torch.stack([z.new_zeros(()), *own]).sum(), torch.stack([z.new_zeros(()), *read]).sum()

        own, read = vmapped(both, rows)
        possible = torch.isfinite(own) & torch.isfinite(read)
        own, read = own[possible], read[possible]
        rtol = 1e-6 if self.space.precise else 1e-2
        gap = own - read
        size = rtol * (1 + own.abs() + read.abs())
        if len(gap) and bool(((gap - gap[0]).abs() > size + size[0]).any()):
            return "its likelihood is not what the posterior has read of the observed sites"
        return ""

    def __call__(self, x: Array) -> State:
        return self._state(x, self.potential)

    def gradient(self, x: Array) -> Array:
        """(chains, dim)."""
        return self._gradient(x, self.potential)

    def recorded(self, x: Array) -> Density:
        """With the model's operations alone, for rows like x."""
        with SHARED, seeded(0):
            return _Recorded(self, self.potential.recorded(self._latents(x)))

    def start(self, chains: int, seed: int) -> State:
        """Draws of the model's prior. Raises: ModelError."""
        found = start(self.plain, chains, seed)
        if self.standardised:
            with SHARED, seeded(0):
                found = self.potential(self.plain.to_standardised(found.z, self.standardised))
        return self._arrived((found.z - self._location) / self._scale, found)

    def points(self, x: Array) -> Array:
        """Standardised latents (rows, dim), as the posterior has them."""
        if not self.standardised:
            return x
        with SHARED, seeded(0):
            z = self.potential.from_standardised(self._latents(x))
        return self._bridge.arrive((z - self.gaussian.location) / self.gaussian.scale)

    def _arrived(self, x: Array, found: State) -> State:
        arrive = self._bridge.arrive
        x = arrive(x) if isinstance(x, torch.Tensor) else x
        return State(x, arrive(found.log_p), arrive(found.gradient * self._scale))

    def _state(self, x: Array, density: Density) -> State:
        return self._arrived(x, density(self._latents(x)))

    def _gradient(self, x: Array, density: Density) -> Array:
        return self._bridge.arrive(density.gradient(self._latents(x)) * self._scale)

    def _latents(self, x: Array) -> torch.Tensor:
        z: torch.Tensor = torch.addcmul(self._location, to_torch(x).to(self._location), self._scale)
        return z

    @cached_property
    def _location(self) -> torch.Tensor:
        return torch.where(self._is_standardised, 0.0, self.gaussian.location)

    @cached_property
    def _scale(self) -> torch.Tensor:
        return torch.where(self._is_standardised, 1.0, self.gaussian.scale)

    @cached_property
    def _is_standardised(self) -> torch.Tensor:
        """(dim,): which numbers have no location and scale of their own."""
        parts = [torch.full((s.stop - s.start,), s.name in self.standardised) for s in self.space.sites]
        return torch.cat(parts)

    @cached_property
    def _bridge(self) -> Bridge:
        return Bridge(self.gaussian, self.backend, True)


@dataclass(frozen=True)
class _Recorded:
    """By a record of the model's operations."""

    of: ModelDensity
    record: Density

    def __call__(self, x: Array) -> State:
        return self.of._state(x, self.record)

    def gradient(self, x: Array) -> Array:
        """(chains, dim)."""
        return self.of._gradient(x, self.record)
