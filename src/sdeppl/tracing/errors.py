"""Errors about a user's model."""

from collections.abc import Sequence


class ModelError(ValueError):
    """The model cannot be used as asked; the message names the site and says what to do."""


class NoLatent(ModelError):
    """An observed site depends on no latent."""


def no_data(observable: Sequence[str]) -> ModelError:
    """The error for a query without any data."""
    if observable:
        return ModelError(f"no data: give values for some of {list(observable)}")
    return ModelError("no data, and the model has no likelihood: add an observed site to it")


def depends_on_no_latent(name: str) -> NoLatent:
    """The error for an observed site that says nothing."""
    return NoLatent(f"site '{name}' depends on no latent; observing it says nothing about them")


def cannot_leave_out(name: str, base: object) -> ModelError:
    """The error for an event that was observed in part, of a distribution without marginals at hand."""
    return ModelError(
        f"site '{name}' has missing entries, but {type(base).__name__} cannot leave some out; give complete "
        "data, or model its components as independent"
    )


def weighted_delta(name: str) -> ModelError:
    """The error for a Delta whose log_density counts."""
    return ModelError(
        f"site '{name}' is a Delta with a log_density, which is a pyro.factor, and prior draws do not "
        "show it; write it as an observed site"
    )


def infinite_density(name: str, latents: str) -> ModelError:
    """The error for ln p(y) = +∞, which outweighs all other draws."""
    return ModelError(
        f"site '{name}': its log_prob is +infinity at {latents}; a density of the data that is infinite "
        "there would outweigh everything else: check its parameters there (a normaliser that underflows, a "
        "scale of 0), or give -infinity where the model cannot have led to the data"
    )


def random_parent(name: str, latents: Sequence[str], parent: str = "", discrete: bool = False) -> ModelError:
    """The error for a site that depends on something random besides latents and data."""
    which = f": site '{parent}'" if parent else ""
    way_out = ", which is discrete; sum it out, as dist.MixtureSameFamily does, or give it as data"
    return ModelError(
        f"site '{name}' depends on something random that is neither a latent of the guide ({list(latents)}) "
        f"nor given as data{which}{way_out if discrete else ''}"
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
