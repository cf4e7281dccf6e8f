"""Where chains start: at draws of the prior that the data do not rule out."""

import warnings

import torch

from ..backend.sharing import SHARED
from ..mcmc import State
from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError, first_line
from .potential import Potential
from .probing import FAILURES
from .randomness import derive_seed, seeded, vmapped

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
