"""Errors about a user's model."""

from collections.abc import Sequence


class ModelError(ValueError):
    """The model cannot be used as asked; the message names the site and says what to do."""


def no_data(observable: Sequence[str]) -> ModelError:
    """The error for a query without any data."""
    if observable:
        return ModelError(f"no data: give values for some of {list(observable)}")
    return ModelError("no data, and the model has no likelihood: add an observed site to it")
