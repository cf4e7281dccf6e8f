"""Torch's random numbers under a seed, and inside `torch.func.vmap`."""

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.distributions import dirichlet, von_mises
from torch.overrides import TorchFunctionMode

from ..backend.sharing import SHARED
from ..distributions.typing import Args, Kwargs

T = TypeVar("T")
PROPOSALS = 32  # of an angle
# operations that make a tensor which may be written into
_NEW = frozenset(
    f"{kind}{name}" for kind in ("", "new_") for name in ("zeros", "ones", "empty", "full", "tensor")
) | {"zeros_like", "ones_like", "empty_like", "full_like", "clone", "new"}


_CHECKED = {
    "linalg_cholesky": torch.linalg.cholesky_ex,
    "cholesky": torch.linalg.cholesky_ex,
    "linalg_inv": torch.linalg.inv_ex,
    "inverse": torch.linalg.inv_ex,
}


def derive_seed(*keys: int) -> int:
    """A 63-bit seed from integers; different keys give independent streams.

    NumPy's SeedSequence would not do: to it, keys that differ by zeros at the end are the same.
    """
    digest = hashlib.blake2b(repr(tuple(int(key) for key in keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Seed torch's global generators, which Pyro models draw from, and restore them afterwards.

    Meanwhile no other thread runs a model. (What a thread draws from them by itself, nobody can keep apart.)
    Where no CUDA device is in use the one of the CPU is all there is; torch.manual_seed would note the
    call, stack trace and all, for a device to come, which takes longer than to run a small model.
    """
    with SHARED:
        if torch.cuda.is_initialized():
            with torch.random.fork_rng():
                torch.manual_seed(derive_seed(*keys))
                yield
            return
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(derive_seed(*keys))
        try:
            yield
        finally:
            torch.set_rng_state(state)


class BatchedRandomness(TorchFunctionMode):
    """Let torch.distributions draw inside `vmap`; no other thread runs a model meanwhile.

    They fill an unbatched tensor in place, which vmap refuses; the same draws out of place are
    allowed and differ from row to row. Categories are drawn by inverting their distribution
    function, which rows share where they share the probabilities; torch.multinomial would copy
    these for each row, so that draws from a data set of n rows took n times as long. Dirichlet and Beta draw
    through a function with a gradient of its own, which vmap refuses; here, where none is wanted, by the
    operation in it. Angles of a VonMises are drawn by `_angles`, without a loop until all are accepted.
    A number that is assigned where a mask is true, is filled in. Draws of a Gamma are bounded in place, which
    vmap does row by row. Where the matrix of one row has no Cholesky factor or no inverse, that row's is NaN,
    and the others have theirs.

    like: a tensor of every row, whose rows tensors that are made anew then have, so that `batched` may
    write into them.
    """

    def __init__(self, like: torch.Tensor | None = None) -> None:
        super().__init__()
        self.zero = None if like is None else torch.zeros_like(like).sum()

    def __enter__(self) -> "BatchedRandomness":
        SHARED.acquire()
        self._with_gradient = dirichlet._Dirichlet
        dirichlet._Dirichlet = _DirichletDraw(self._with_gradient)  # type: ignore[assignment,misc]
        self._by_loop = von_mises._rejection_sample
        von_mises._rejection_sample = _AngleDraw(self._by_loop)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        dirichlet._Dirichlet = self._with_gradient  # type: ignore[misc]
        von_mises._rejection_sample = self._by_loop
        SHARED.release()

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "multinomial" and _is_plain(args, kwargs or {}):
            return _categories(args[0], args[1])
        if name in _CHECKED and torch._C._functorch.maybe_current_level() is not None:
            return _unchecked(_CHECKED[name], *args, **(kwargs or {}))
        if name == "__setitem__" and _by_mask(*args):
            mask = args[1]
            return args[0].masked_fill_(
                mask.reshape(mask.shape + (1,) * (args[0].dim() - mask.dim())), args[2]
            )
        if name == "clamp_":
            return args[0].copy_(torch.clamp(*args, **(kwargs or {})))
        if self.zero is not None and name in _NEW:
            made: torch.Tensor = func(*args, **(kwargs or {}))
            return made + self.zero.to(made.dtype)
        if name not in ("normal_", "uniform_", "exponential_", "cauchy_"):
            return func(*args, **(kwargs or {}))
        return _out_of_place(name, args[0], *args[1:], **(kwargs or {}))


def batched(run: Callable[[], T], like: torch.Tensor) -> T:
    """What `run` returns with `BatchedRandomness`, in or out of vmap; like: a tensor of every row.

    Where it writes numbers of each row into a tensor that all rows share, as `out = torch.zeros(3)` and
    `out[0] = x` do, vmap refuses, and it is run again with tensors of each row.
    """
    try:
        with BatchedRandomness():
            return run()
    except RuntimeError as error:
        if "vmap: inplace" not in str(error):
            raise
    with BatchedRandomness(like):
        return run()


def vmapped(run: Callable[..., T], *inputs: object, chunk: int | None = None) -> T:
    """`torch.func.vmap` along the first axis of the inputs, draws differing from row to row; without torch's
    warning of operations that it takes one row after the other. chunk: rows at a time."""
    with SHARED, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        found: T = torch.func.vmap(run, randomness="different", chunk_size=chunk)(*inputs)
        return found


def stacked(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows of values by name as values by name, (rows, ...)."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _unchecked(decompose: Callable[..., Any], matrix: torch.Tensor, **named: object) -> torch.Tensor:
    """By an operation that says of each matrix whether it succeeded; NaN where it did not."""
    found, info = decompose(matrix, **named)
    return torch.where((info == 0)[..., None, None], found, torch.nan)


def _by_mask(to: torch.Tensor, index: object, value: object) -> bool:
    """Whether one number is assigned to all that a mask of the first dimensions picks out."""
    if not isinstance(index, torch.Tensor) or index.dtype != torch.bool:
        return False
    return index.shape == to.shape[: index.dim()] and (not isinstance(value, torch.Tensor) or not value.dim())


class _DirichletDraw:
    """A draw for concentrations (..., n), without a gradient; in other threads as torch has it."""

    def __init__(self, with_gradient: type[torch.autograd.Function]) -> None:
        self.with_gradient, self.thread = with_gradient, threading.get_ident()

    def apply(self, concentration: torch.Tensor) -> Any:
        if threading.get_ident() != self.thread:
            return self.with_gradient.apply(concentration)
        if torch.is_grad_enabled() and concentration.requires_grad:
            raise NotImplementedError("draws of a Dirichlet with a gradient cannot be vectorised")
        return torch._sample_dirichlet(concentration)


class _AngleDraw:
    """Angles of a VonMises, by `_angles`; in other threads as torch draws them."""

    def __init__(self, by_loop: Callable[..., torch.Tensor]) -> None:
        self.by_loop, self.thread = by_loop, threading.get_ident()

    def __call__(self, *args: torch.Tensor) -> torch.Tensor:
        in_thread = threading.get_ident() == self.thread
        found: torch.Tensor = _angles(*args) if in_thread else self.by_loop(*args)
        return found


def _angles(
    loc: torch.Tensor, concentration: torch.Tensor, r: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """Angles in the shape of `like`: the first accepted of `PROPOSALS` from a wrapped Cauchy of parameter r.

    Two thirds are accepted, or more, so that none is once in 10¹⁵; then it is the last. Source: Best & Fisher
    1979.
    """
    shape = tuple(like.shape)
    options: dict[str, Any] = {"dtype": loc.dtype, "device": loc.device}
    z = torch.cos(torch.pi * torch.rand((PROPOSALS, *shape), **options))
    cosine = ((1 + r * z) / (r + z)).clamp(-1.0, 1.0)
    c, uniform = concentration * (r - cosine), torch.rand((PROPOSALS, *shape), **options)
    accepted = (c * (2 - c) > uniform) | (torch.log(c / uniform) + 1 - c >= 0)
    angle = cosine[-1]
    for k in reversed(range(PROPOSALS - 1)):
        angle = torch.where(accepted[k], cosine[k], angle)
    side = torch.rand(shape, **options) - 0.5
    return (side.sign() * angle.acos() + torch.pi + loc) % (2 * torch.pi) - torch.pi


def _is_plain(args: Args, named: Kwargs) -> bool:
    """Whether it is torch.multinomial(probabilities, count, True), as torch.distributions writes it."""
    return len(args) == 3 and args[2] is True and not named


def _categories(probabilities: torch.Tensor, count: int) -> torch.Tensor:
    """(..., count) whole numbers below n with probabilities (..., n), up to a factor."""
    total = probabilities.to(torch.float64).cumsum(-1)
    last = total[..., -1:]
    uniform = torch.rand((*probabilities.shape[:-1], count), dtype=torch.float64, device=total.device)
    return torch.searchsorted(total, last * uniform, right=True)


def _out_of_place(name: str, like: torch.Tensor, *parameters: float, **named: Any) -> torch.Tensor:
    """The in-place draw `name` with its parameters, as a new tensor."""
    if named.get("generator") is not None:
        raise NotImplementedError("a model that draws from its own generator cannot be vectorised")
    shape = like.shape
    options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    if name == "normal_":
        mean, std = (*parameters, *(0.0, 1.0)[len(parameters) :])
        return named.get("mean", mean) + named.get("std", std) * torch.randn(shape, **options)
    uniform = torch.rand(shape, **options).clamp_min(torch.finfo(like.dtype).eps / 4)  # 0 is an edge
    if name == "uniform_":
        low, high = (*parameters, *(0.0, 1.0)[len(parameters) :])
        low, high = named.get("from", low), named.get("to", high)
        return low + (high - low) * uniform
    if name == "exponential_":
        rate = parameters[0] if parameters else named.get("lambd", 1.0)
        return -torch.log1p(-uniform) / rate
    median, scale = (*parameters, *(0.0, 1.0)[len(parameters) :])
    spread = torch.tan(torch.pi * (uniform - 0.5))
    return named.get("median", median) + named.get("sigma", scale) * spread
