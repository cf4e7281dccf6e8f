"""What annotations call the things of a Pyro model.

Pyro's and torch's own classes do not say what is asked of them here (a family's parameters, what
handlers make of a site), so the names stand for what they are and a checker knows no more.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Model: TypeAlias = Callable[..., Any]
Args: TypeAlias = Sequence[Any]  # what the model is called with
Kwargs: TypeAlias = Mapping[str, Any]
Site: TypeAlias = Any  # Pyro's Message: what a trace holds of a site, or a handler is given
Nodes: TypeAlias = Mapping[str, Site]  # of a trace, by name
Distribution: TypeAlias = Any  # of Pyro or torch
Support: TypeAlias = Any  # a constraint of torch
Bijection: TypeAlias = Any  # a transform of torch
