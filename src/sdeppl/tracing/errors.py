"""Errors about a user's model."""


class ModelError(ValueError):
    """The model cannot be used as asked; the message names the site and says what to do."""
