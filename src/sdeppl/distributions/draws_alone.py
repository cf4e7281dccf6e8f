"""What can be drawn and has no density: the common part of a simulator's and a data set's distribution."""

import hashlib
import inspect
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from pyro.distributions import TorchDistribution, constraints

SEEDS, SMALL_SEEDS = 2**62, 2**31  # what a C program takes as an int
Values = dict[str, torch.Tensor]


class SamplerError(ValueError):
    """A sampler or a data set gave what cannot be a draw; the message says what, and what to do."""


class DrawsAlone(TorchDistribution):
    """A distribution of tensors of shape `event_shape` that can only be sampled.

    Inside `torch.func.vmap` all draws of a batch are made in one call of `_rows`. axes: names of the axes and
    {name: (axes, labels)} along them, for `to_xarray`, or None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False
    given: Values

    def __init__(self, shape: Sequence[int], dims: object = None, coords: object = None) -> None:
        super().__init__(torch.Size(), torch.Size(shape), validate_args=False)
        self.axes = axes_named(type(self).__name__, self.event_shape, dims, coords)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> Any:
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        TorchDistribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        names = list(self.given)
        given = [torch.as_tensor(value).detach() for value in self.given.values()]
        with torch.no_grad():
            keys = self._keys(shape)
            lead = [value.expand(shape + value.shape) for value in given]

            def draw(keys: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
                count, batch = keys.numel(), keys.shape
                each = [value.reshape(count, *value.shape[len(batch) :]) for value in values]
                with torch._C.DisableTorchFunction():  # a handler's ways to draw are not the sampler's
                    rows = self._rows(keys.reshape(count), dict(zip(names, each, strict=True)))
                return rows.reshape(batch + self.event_shape)

            found: torch.Tensor = _Draws.apply(draw, keys, *lead)
        return found

    def _keys(self, shape: torch.Size) -> torch.Tensor:
        """What each draw is made from, whole numbers: inside vmap others in each row."""
        return torch.randint(SEEDS, shape, dtype=torch.int64)

    def _rows(self, keys: torch.Tensor, given: Values) -> torch.Tensor:
        """Draws (n, *event_shape) from keys (n,) and what they are given, (n, ...) each."""
        raise NotImplementedError


class _Draws(torch.autograd.Function):
    """draw(keys, *given), and inside vmap the draws of all rows at once."""

    @staticmethod
    def forward(draw: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        return draw(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, draw: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Any:
        rows = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs, in_dims[1:], strict=True)
        ]
        return _Draws.apply(draw, *rows), 0


# ---- Functions of the user's: called with what they name among their parameters


ASKED = {
    "n": "how many draws to make, (n, *shape)",
    "rng": "a numpy.random.Generator",
    "generator": "a torch.Generator",
    "seed": "a whole number below 2**31",
}


class Asking:
    """A function of the user's, and which of `ASKED` it names among its parameters; others are `given`.

    Raises: TypeError for one that is no function, or takes what nobody can give it.
    """

    def __init__(
        self, who: str, function: Any, given: Sequence[str], taken: int = 0, optional: Sequence[str] = ()
    ) -> None:
        if not callable(function):
            raise TypeError(f"{who} must be a function; got {function!r:.80}")
        self.who, self.function = who, function
        self.name = getattr(function, "__name__", type(function).__name__)
        try:
            parameters = list(inspect.signature(function).parameters.values())[taken:]
        except ValueError:  # of C, without a signature
            parameters = []
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        known = {*ASKED, *given, *optional}
        strange = [p.name for p in named if p.default is p.empty and p.name not in known]
        strange += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
        missing = [] if takes_any else [name for name in given if name not in {p.name for p in named}]
        if strange or missing:
            raise TypeError(self._cannot(strange, missing))
        self.asked = {p.name for p in named if p.name in ASKED}
        self.optional = {p.name for p in named if p.name in optional}

    def _cannot(self, strange: Sequence[str], missing: Sequence[str]) -> str:
        words = "; ".join(f"{name}: {meaning}" for name, meaning in ASKED.items())
        what = f"needs '{strange[0]}'" if strange else f"does not take '{missing[0]}', which it is given"
        return (
            f"{self.who} {self.name} {what}; it is called by name with what it asks for ({words}) and with "
            "given={name: value}; wrap it in a function with these names"
        )

    @property
    def seeded(self) -> bool:
        """Whether it is handed its randomness."""
        return bool(self.asked & {"rng", "generator", "seed"})

    @property
    def takes_tensors(self) -> bool:
        """Whether what it is given are tensors, and not arrays: it asks for no generator of NumPy's."""
        return not self.asked & {"rng", "seed"}

    def __call__(self, key: int, n: int, *first: Any, **given: Any) -> Any:
        """The function's result. Raises: SamplerError from what it raises."""
        with self.session(key, n) as call:
            return call(*first, **given)

    @contextmanager
    def session(self, key: int, n: int) -> Iterator[Callable[..., Any]]:
        """The function, to be called several times, with one stream of randomness for all of them.

        Raises: SamplerError from what it raises.
        """
        asked: dict[str, Any] = {}
        if "n" in self.asked:
            asked["n"] = n
        if "rng" in self.asked:
            asked["rng"] = np.random.default_rng(key)
        if "generator" in self.asked:
            asked["generator"] = torch.Generator().manual_seed(key)
        calls = itertools.count()

        def call(*first: Any, **given: Any) -> Any:
            number = next(calls)
            if "seed" in self.asked:
                asked["seed"] = (derived(key, number) if number else key) % SMALL_SEEDS
            try:
                return self.function(*first, **asked, **given)
            except Exception as error:
                raise SamplerError(
                    f"{self.who} {self.name} raised {type(error).__name__}: {error}"
                ) from error

        with nullcontext() if self.seeded else global_seeds(key):
            yield call


def derived(key: int, *more: int) -> int:
    """Another key below 2**62, from a key and whole numbers."""
    digest = hashlib.blake2b(repr((key, *more)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


@contextmanager
def global_seeds(key: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, as pyro.set_rng_seed does; then as before."""
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.default_generator.manual_seed(key)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torchs)


# ---- Rows that a user's function or source gave, as tensors


def as_rows(who: str, found: Any, dtype: torch.dtype | None) -> torch.Tensor:
    """What a user's function gave as a floating tensor of the default device. Raises: SamplerError."""
    if not isinstance(found, torch.Tensor):
        try:
            found = np.asarray(found)
            if found.dtype.byteorder == ">":
                found = found.astype(found.dtype.newbyteorder("="))
            found = torch.as_tensor(found if found.flags.writeable else found.copy())
        except (TypeError, ValueError, RuntimeError) as error:
            raise SamplerError(f"{who}: expected numbers, an array or a tensor; got {found!r:.80}") from error
    if found.is_complex():
        raise SamplerError(f"{who}: expected real numbers; got {found.dtype}; stack real and imaginary part")
    if dtype is None:
        dtype = found.dtype if found.is_floating_point() else torch.get_default_dtype()
    return found.detach().to(dtype=dtype, device=torch.get_default_device())


def check_finite(who: str, rows: torch.Tensor, names: Sequence[object]) -> None:
    """Check that rows (n, ...) are numbers; names: of each row. Raises: SamplerError."""
    bad = ~torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)
    if bool(bad.any()):
        k = int(bad.nonzero()[0, 0])
        row = rows[k].reshape(-1)
        count = int((~torch.isfinite(row)).sum())
        what = "NaN" if bool(torch.isnan(row).any()) else "infinite"
        raise SamplerError(
            f"{who}: {names[k]} has {count} of {row.numel()} numbers that are not finite ({what}); a prior's "
            "draws are complete: leave such draws out, or fill them in"
        )


def axes_named(
    who: str, shape: torch.Size, dims: object, coords: object
) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Names of the axes, and coordinates as {name: (axes, labels)}. Raises: ValueError, TypeError."""
    if coords is not None and not isinstance(coords, Mapping):
        raise TypeError(f"{who}: coords must be {{name: values}}; got {coords!r:.80}")
    if dims is None:
        if coords:
            raise ValueError(f"{who}: coords need dims=, the names of the {len(shape)} axes")
        return None
    names = (dims,) if isinstance(dims, str) else tuple(dims)  # type: ignore[arg-type]
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise ValueError(f"{who}: dims must name the {len(shape)} axes of {tuple(shape)}; got {names}")
    sizes = dict(zip(names, shape, strict=True))
    found = {}
    for name, values in (coords or {}).items():
        along, labels = values if isinstance(values, tuple) and len(values) == 2 else (name, values)
        along, labels = (along,) if isinstance(along, str) else tuple(along), np.asarray(labels)
        strange = [dim for dim in along if dim not in sizes]
        if strange:
            raise ValueError(f"{who}: coordinate '{name}' is along '{strange[0]}', no axis of {names}")
        if labels.shape != tuple(sizes[dim] for dim in along):
            raise ValueError(
                f"{who}: coordinate '{name}' has shape {labels.shape}; expected "
                f"{tuple(sizes[dim] for dim in along)}, along {along}"
            )
        found[str(name)] = along, labels
    return names, found
