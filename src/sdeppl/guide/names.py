"""Names of sites and names of options, kept apart."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from ..distributions.typing import Args, Kwargs, Model
from ..query import SitePosterior
from ..tracing import LatentSpace, ModelError, check_call, find_sites

P = ParamSpec("P")
R = TypeVar("R")


class Guided(Protocol):
    """What is asked of a guide beside its data."""

    model: Model
    observable: tuple[str, ...]
    space: LatentSpace

    @property
    def args(self) -> Args: ...
    @property
    def kwargs(self) -> Kwargs: ...
    def condition(self, data: Mapping[str, object], /, *, args: Args, kwargs: Kwargs) -> SitePosterior: ...
    def check_prior_record(self, model: Model, args: Args, kwargs: Kwargs, rows: int = ...) -> None: ...


class SiteData(dict[str, Any]):
    """Data by site name beside which no keyword is data."""


def names_apart(function: Callable[P, R]) -> Callable[P, R]:
    """For (guide, data, /, *, options, **observed): no datum is taken for an option, nor the other way round.

    What stands in the mapping is data. A keyword that is an option and also the name of an observed site is
    refused, unless the mapping has that site. Raises: ModelError; TypeError for data without a name.
    """
    parameters = inspect.signature(function).parameters.values()
    options = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}

    @wraps(function)
    def checked(*given: P.args, **named: P.kwargs) -> R:
        guide: Any = given[0]
        if not hasattr(guide, "observable"):
            raise TypeError(f"{function.__name__} takes a ScoreGuide; got a {type(guide).__name__}")
        data: object = given[1] if len(given) > 1 and given[1] is not None else {}
        if not isinstance(data, Mapping):
            raise TypeError(_unnamed(data, guide))
        twice = sorted(data.keys() & (named.keys() - options))
        if twice:
            raise TypeError(f"site '{twice[0]}' is given twice: in the mapping and by keyword")
        doubtful = sorted((named.keys() & options) - data.keys())
        if doubtful and not isinstance(data, SiteData):
            _require_no_site(function.__name__, guide, doubtful, named)
        return function(*given, **named)

    return checked


def _require_no_site(name: str, guide: Guided, doubtful: list[str], named: Mapping[str, Any]) -> None:
    _refuse(name, doubtful, guide.observable)
    if {"model", "args", "kwargs"} & named.keys():  # another model may observe other sites
        model, args, kwargs = (
            getattr(guide, key) if named.get(key) is None else named[key]
            for key in ("model", "args", "kwargs")
        )
        check_call(model, args, kwargs)
        sites = find_sites(model, tuple(args), dict(kwargs), guide.space.names)
        _refuse(name, doubtful, sites.observable)


def _refuse(name: str, doubtful: list[str], observable: Collection[str]) -> None:
    for option in doubtful:
        if option in observable:
            raise ModelError(
                f"'{option}' is an observed site of the model and an option of {name}: give data as a "
                f"mapping, {name}({{'{option}': ...}}), NaN where the site was not observed, and options by "
                "keyword"
            )


def _unnamed(data: object, guide: Guided) -> str:
    site, kind = next(iter(guide.observable), "y"), type(data).__name__
    return (
        f"the data are a {kind}; give them by site name: condition({site}=...) or "
        f"condition({{'{site}': ...}})"
    )
