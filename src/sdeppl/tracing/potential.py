"""ln p(latents, data) of many chains at once, with its gradient, and where chains start."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributions as td
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger

from ..backend import warn_user
from ..backend.sharing import SHARED, sent_state
from ..distributions.typing import Args, Distribution, Kwargs, Model, Nodes, Site
from ..mcmc import Density, State
from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError, first_line
from .latents import LatentSpace
from .probing import FAILURES, over_rows
from .randomness import batched, derive_seed, seeded, vmapped
from .record import Record, record
from .running import traced, unvalidated
from .supports import log_density
from .unwrap import is_data_set, own_mask, unwrap

FAMILIES = (td.Normal, td.StudentT, td.Laplace, td.Cauchy, td.LogNormal)
DOUBLE, SINGLE = 1e-5, 1e-3  # to which a record must agree with the model
UNRECORDED = (*FAILURES, AssertionError, KeyError, AttributeError, IndexError)
Run = TypeVar("Run")

# ---- Latents by what is left of them without location and scale: value = loc + scale · u, or its exponential
#
# Where loc and scale depend on other latents, u does not, a priori: a funnel in value is none in u. Source:
# Papaspiliopoulos, Roberts & Sköld 2007, "A general framework for the parametrization of hierarchical
# models".


def location_scale(fn: Distribution) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Location and scale, of the site's shape, of families that have no other parameter of their latents."""
    base = unwrap(fn)
    if not isinstance(base, FAMILIES):
        return None
    return base.loc.expand(fn.shape()), base.scale.expand(fn.shape())


def standardise(fn: Distribution, value: torch.Tensor) -> torch.Tensor:
    """u of a value."""
    found = location_scale(fn)
    assert found is not None
    loc, scale = found
    return ((torch.log(value) if _positive(fn) else value) - loc) / scale


class PutStandardised(Messenger):
    """Gives latents the values of u {site: its shape}; `jacobian`: ln |d value/du| of each, once run."""

    def __init__(self, u: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.u = u
        self.jacobian: dict[str, torch.Tensor] = {}

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if name not in self.u:
            return
        found = location_scale(msg["fn"])
        assert found is not None
        loc, scale = found
        inner = loc + scale * self.u[name].to(loc.dtype)
        positive = _positive(msg["fn"])
        terms = scale.log() + inner if positive else scale.log()
        self.jacobian[name] = terms.sum().to(torch.float64)
        msg["value"] = inner.exp() if positive else inner
        msg["is_observed"] = True


def _positive(fn: Distribution) -> bool:
    return isinstance(unwrap(fn), td.LogNormal)


# ---- The density


@dataclass(frozen=True)
class Recorded:
    """A density by records of its operations: of (gradient, ln p), and of the gradient alone."""

    both: Record
    slope: Record

    def __getstate__(self) -> dict[str, object]:
        return sent_state(self, model="model")

    def __call__(self, z: torch.Tensor) -> State:
        gradient, log_p = self.both(z)
        return State(z, log_p, gradient)

    def gradient(self, z: torch.Tensor) -> torch.Tensor:
        """(chains, dim)."""
        gradient: torch.Tensor = self.slope(z)[0]
        return gradient


@dataclass(frozen=True)
class RecordedValues:
    """ln p of any number of rows, by a record of its operations for `rows` of them at a time."""

    record: Record
    rows: int

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([self._part(part) for part in z.split(self.rows)])

    def _part(self, z: torch.Tensor) -> torch.Tensor:
        more = self.rows - len(z)
        filled = torch.cat([z, z[-1:].expand(more, -1)]) if more else z
        found: torch.Tensor = self.record(filled)[0]
        return found[: len(z)]


@dataclass(frozen=True)
class Potential:
    """ln p(z, data) + ln |dx/dz| of the unconstrained latents z; its negative is HMC's potential energy.

    model: given the data. Latents enter the model in their sites' own dtype; what it returns is summed
    in float64. prior: whether the densities of the latents' own sites are among it, and |dx/dz|.
    standardised: latents whose numbers in z are u = (value - location)/scale instead, |dx/du| with them.
    """

    model: Model
    space: LatentSpace
    args: Args
    kwargs: Kwargs
    prior: bool = True
    standardised: frozenset[str] = frozenset()

    def __call__(self, z: torch.Tensor) -> State:
        """At z (chains, dim), in one evaluation. Raises: ModelError, as `log_p` does."""
        gradient, log_p = self.both(z)
        return State(z, log_p.detach(), gradient.detach())

    def both(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient (chains, dim) and value (chains,)."""
        found: tuple[torch.Tensor, torch.Tensor] = vmapped(torch.func.grad_and_value(self.log_p), z)
        return found

    def gradient(self, z: torch.Tensor) -> torch.Tensor:
        """Of ln p alone, (chains, dim)."""
        return self(z).gradient

    def recorded(self, z: torch.Tensor) -> Density:
        """The same for latents of z's shape, as a record of its tensor operations without the model around
        them, which is ten times as fast or more; this one itself where none can be made.

        A record is used where it agrees with the model at z in another order of the chains. Warns:
        UnrecordedWarning, with the reason, where there is none.
        """
        again = z.flip(0)
        try:
            with SHARED, warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                operations = record(self.both, z)
                found = Recorded(operations, operations.first())
                expected, state, gradient = self(again), found(again), found.gradient(again)
        except UNRECORDED as error:
            return _run_instead(self, error)
        pairs = [
            (state.log_p, expected.log_p),
            *((one, expected.gradient) for one in (state.gradient, gradient)),
        ]
        return found if all(self._same(*pair) for pair in pairs) else _run_instead(self)

    def _same(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether numbers (rows, ...) are the same, to what the latents' dtype resolves of their size."""
        rtol = DOUBLE if self.space.precise else SINGLE
        finite = torch.isfinite(other)
        usual = torch.where(finite, other, 0.0).abs().mean(dim=0)
        near = (one - other).abs() <= rtol * (other.abs() + usual)
        equal = (one == other) | (torch.isnan(one) & torch.isnan(other))
        return bool(torch.where(finite, near, equal).all())

    def values(self, z: torch.Tensor) -> torch.Tensor:
        """ln p alone, at rows z (rows, dim): (rows,)."""
        found: torch.Tensor = over_rows(self.log_p, z, True)
        return found

    def recorded_values(
        self, z: torch.Tensor, known: RecordedValues | None = None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """`values` by a record of its tensor operations, for batches about as large as z; `values` where none
        can be made, or where vmap takes row by row what is in it.

        known: an earlier record, which is kept where the model is still the same at z. Warns:
        UnrecordedWarning, with the reason, where there is no record.
        """
        try:
            with SHARED, warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                expected = self.values(z)
                if known is not None and self._same(known(z), expected):
                    return known
                warnings.filterwarnings("error", message="There is a performance drop")
                found = RecordedValues(record(lambda z: (self._vectorised(z),), z.flip(0)), len(z))
        except (*UNRECORDED, UserWarning) as error:
            return _run_instead(self.values, error)
        return found if self._same(found(z), expected) else _run_instead(self.values)

    def _vectorised(self, z: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.vmap(self.log_p, randomness="different")(z)
        return found

    def log_p(self, z: torch.Tensor) -> torch.Tensor:
        """At z (dim,), a number.

        Raises: ModelError, naming the site, for one without a log-density.
        """
        return torch.stack([z.new_zeros(()), *self.terms(z).values()]).sum()

    def terms(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each site adds to ln p, a latent with the ln |dx/dz| of its bijection, at z (dim,).

        Raises: ModelError, naming the site, for one without a log-density.
        """
        with unvalidated():
            found, jacobians = batched(lambda: self._log_probs(z), z)
        if self.prior:
            found = {**jacobians, **{n: t + jacobians[n] if n in jacobians else t for n, t in found.items()}}
        return found

    def _log_probs(self, z: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """{site: ln p}, and {latent: ln |dx/dz|}, of a run with these latents."""
        nodes, jacobians = self._run(z)
        return {
            name: _log_prob(name, node).sum().to(torch.float64)
            for name, node in nodes.items()
            if node["type"] == "sample" and (self.prior or name not in jacobians)
        }, jacobians

    def _run(self, z: torch.Tensor) -> tuple[Nodes, dict[str, torch.Tensor]]:
        """The sites at z (dim,), and ln |dx/dz| of each latent."""
        values: dict[str, torch.Tensor] = {}
        jacobians: dict[str, torch.Tensor] = {}
        u: dict[str, torch.Tensor] = {}
        for site in self.space.sites:
            numbers = z[site.start : site.stop]
            if site.name in self.standardised:
                u[site.name] = numbers.reshape(site.shape)
                continue
            unconstrained = numbers.reshape(site.unconstrained_shape)
            value = site.transform(unconstrained)
            jacobians[site.name] = site.transform.log_abs_det_jacobian(unconstrained, value).sum()
            values[site.name] = value.to(site.dtype)
        put = PutStandardised(u)
        with put:
            nodes = traced(poutine.condition(self.model, data=values), self.args, self.kwargs)
        return nodes, {**jacobians, **put.jacobian}

    def masked(self, z: torch.Tensor) -> list[str]:
        """Names of the latents that are masked at z (dim,), whose density is not what draws come from."""
        with torch.no_grad(), unvalidated(), seeded(0):
            nodes = self._run(z)[0]
        fns = {name: nodes[name] for name in self.space.names}
        return [name for name, node in fns.items() if own_mask(node["fn"], node["mask"]) is not None]

    def standardisable(self, z: torch.Tensor) -> frozenset[str]:
        """Latents whose location or scale depends on others, as draws z (several, dim) of the prior show."""
        with torch.no_grad(), unvalidated(), seeded(0):
            first, *others = (self._run(row)[0] for row in z)
        chosen = set()
        for site in self.space.sites:
            node = first[site.name]
            masked = own_mask(node["fn"], node["mask"]) is not None
            fns = [nodes[site.name]["fn"] for nodes in (first, *others)]
            pairs = [pair for pair in map(location_scale, fns) if pair is not None]
            if masked or site.unconstrained_shape != site.shape or len(pairs) < len(fns):
                continue
            if any(not torch.equal(*both) for pair in pairs for both in zip(pairs[0], pair, strict=True)):
                chosen.add(site.name)
        return frozenset(chosen)

    def to_standardised(self, z: torch.Tensor, names: frozenset[str]) -> torch.Tensor:
        """The rows z (rows, dim) with latents `names` in their standardised numbers."""

        def one(row: torch.Tensor) -> torch.Tensor:
            with unvalidated():
                nodes = batched(lambda: self._run(row)[0], row)
            parts = [
                standardise(nodes[s.name]["fn"], nodes[s.name]["value"]).reshape(-1).to(row)
                if s.name in names
                else row[s.start : s.stop]
                for s in self.space.sites
            ]
            return torch.cat(parts)

        return over_rows(one, z, True)

    def from_standardised(self, z: torch.Tensor) -> torch.Tensor:
        """The rows z (rows, dim) of this potential in the unconstrained numbers of all latents."""
        if not self.standardised:
            return z

        def one(row: torch.Tensor) -> torch.Tensor:
            with unvalidated():
                nodes = batched(lambda: self._run(row)[0], row)
            parts = [
                site.transform.inv(nodes[site.name]["value"]).reshape(-1).to(row)
                if site.name in self.standardised
                else row[site.start : site.stop]
                for site in self.space.sites
            ]
            return torch.cat(parts)

        return over_rows(one, z, True)


class UnrecordedWarning(UserWarning):
    """The model's tensor operations cannot be recorded, so that it is run anew at every step."""


def _run_instead(run: Run, error: Exception | None = None) -> Run:
    """What runs the model. Warns: UnrecordedWarning."""
    why = "what was recorded is not what the model gives" if error is None else first_line(error)
    warn_user(
        f"the tensor operations of the model cannot be recorded ({why}), so it is run at every step, which "
        "takes several times as long",
        UnrecordedWarning,
    )
    return run


def _log_prob(name: str, node: Site) -> torch.Tensor:
    if is_data_set(node["fn"]):
        raise _without_density(name, node["fn"])
    try:
        terms = log_density(node["fn"], node["value"])
    except NotImplementedError as error:
        raise _without_density(name, node["fn"]) from error
    scaled: torch.Tensor = scale_and_mask(terms, node["scale"], node["mask"])
    return scaled


def _without_density(name: str, fn: Distribution) -> ModelError:
    return ModelError(
        f"site '{name}': {type(unwrap(fn)).__name__} has no log-density, which HMC needs; a prior that can "
        "only be sampled is what ScoreGuide learns: condition a trained guide, or give it to reference.hmc "
        "as prior=guide, which takes the density of its probability-flow ODE"
    )


ROUNDS = 20
SPARE = 16  # prior draws for each chain
LARGEST = 2**24  # numbers in them
AT_ONCE = 4  # of them for each chain, since the data may be many more numbers than the latents
HALVINGS = 30


def start(potential: Potential, chains: int, seed: int) -> State:
    """One draw of the prior for each chain, chosen by a power of its likelihood.

    Of up to 16 times as many draws, where they can be made in one batch, each is taken with probability
    ∝ p(data given z)^β, without replacement, β ≤ 1 the largest power that leaves two effective draws for
    each chain: closer to the posterior than the prior is, and wider than it. Draws whose density or
    gradient is not finite are left out.

    Raises: ModelError for a model that cannot be run for many chains at once, or whose density is zero,
    NaN or without a gradient at nearly all draws of the prior.
    """
    spare = _spare(potential, seed)
    many = chains * min(max(LARGEST // (chains * potential.space.dim), 1), spare)
    generator = torch.Generator().manual_seed(derive_seed(seed, 3))
    found: list[State] = []
    count = 0
    for trial in range(ROUNDS):
        pieces = [min(AT_ONCE * chains, many - k) for k in range(0, many, AT_ONCE * chains)]
        z = torch.cat([_draws(potential, piece, seed, trial, k) for k, piece in enumerate(pieces)])
        chosen = _likely(_log_likelihood(potential, z, AT_ONCE * chains), chains, generator)
        if not len(chosen):
            continue
        state = _evaluate(potential, z[chosen])
        good = state.finite
        found.append(State(state.z[good], state.log_p[good], state.gradient[good]))
        count += int(good.sum())
        if count >= chains:
            parts = [torch.cat([getattr(s, name) for s in found])[:chains] for name in State.__annotations__]
            return State(*parts)
    raise ModelError(
        f"only {count} of {ROUNDS * many} draws from the prior have a finite density and gradient, and "
        f"{chains} chains need one each; check the data, or narrow the prior (a Delta site that is given "
        "data is a constraint, whose density no chain can follow)"
    )


def _spare(potential: Potential, seed: int) -> int:
    """Prior draws to make for each chain: one where the model is run for each. Raises: ModelError."""
    with SHARED, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        z = _draws(potential, 4, seed, ROUNDS)
    try:
        _evaluate(potential, z)
    except ModelError:
        for one in said:
            warnings.warn(one.message, stacklevel=4)
        raise
    return 1 if any(issubclass(one.category, SlowDrawsWarning) for one in said) else SPARE


def _draws(potential: Potential, count: int, *stream: int) -> torch.Tensor:
    values = prior_draws(
        potential.model, potential.space.names, count, stream, potential.args, potential.kwargs
    )
    return potential.space.flatten(values)


@torch.no_grad()
def _log_likelihood(potential: Potential, z: torch.Tensor, at_once: int) -> torch.Tensor:
    """ln p(data given z) of rows; minus infinity where it is not a number."""
    latent = set(potential.space.names)

    def one(z: torch.Tensor) -> torch.Tensor:
        parts = [term for name, term in potential.terms(z).items() if name not in latent]
        return torch.stack([z.new_zeros(()), *parts]).sum()

    with seeded(0):
        found = vmapped(one, z, chunk=at_once)
    return torch.where(torch.isfinite(found), found, -torch.inf)


def _likely(log_likelihood: torch.Tensor, chains: int, generator: torch.Generator) -> torch.Tensor:
    """Indices of `chains` rows, or of as many as have a likelihood."""
    largest = log_likelihood.max()
    possible = int(torch.isfinite(log_likelihood).sum())
    if possible <= chains:
        return torch.nonzero(torch.isfinite(log_likelihood))[:, 0]
    relative = log_likelihood - largest
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        power = 0.5 * (low + high)
        weights = torch.exp(power * relative)
        enough = float(weights.sum() ** 2 / (weights**2).sum()) >= min(2 * chains, 0.5 * (possible + chains))
        low, high = (power, high) if enough else (low, power)
    uniform = torch.rand(relative.shape, generator=generator, dtype=relative.dtype)
    gumbel = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(uniform.dtype).tiny)))
    return torch.topk(low * relative + gumbel, chains).indices


def _evaluate(potential: Potential, z: torch.Tensor) -> State:
    try:
        with seeded(0):
            return potential(z)
    except ModelError:
        raise
    except FAILURES as error:
        raise ModelError(
            f"the model cannot be run for many chains at once ({first_line(error)}); use reference.nuts"
        ) from error
