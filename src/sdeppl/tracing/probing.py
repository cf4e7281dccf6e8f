"""Looking at functions of the latents where the draws from the prior are: values, slopes, affine or not."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from ..backend.sharing import SHARED
from ..linalg import Diagonal, LinearOperator, MatrixFree, Selection
from .randomness import vmapped
from .running import shared

SLOW_PROBES = 16
CHUNK = 64
LARGEST = 2**22  # numbers in the latents of one chunk
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError)

Function = Callable[[torch.Tensor], Any]
Slope = torch.Tensor | LinearOperator  # all entries, or an operator where they are many
LARGEST_JACOBIANS = 2**24  # numbers in the Jacobians of one chunk, and of all
MOVED, MOVED_SLOWLY = 2**14, 64  # runs in which latents are moved that a gradient is silent about
T = TypeVar("T")


@dataclass(frozen=True)
class Probes:
    """Unconstrained draws (at least 4, dim), and the relative tolerance to which numbers agree there."""

    draws: torch.Tensor
    tolerance: float

    def values(self, functions: Sequence[Function], rows: int | None = None) -> list[Any]:
        """Of each function its values at all draws (or the first `rows`), and True; at the first few, and
        False, where vmap cannot run it; or what it raised there too.

        functions: z (dim,) ↦ a tensor or a tuple of them. The model is run once for all of them.
        """
        answers: list[Any] = [None] * len(functions)

        def call(z: torch.Tensor) -> tuple[Any, ...]:
            found = []
            for k, value in enumerate(shared(functions, z)):
                try:
                    found.append(value())
                except FAILURES as error:
                    answers[k] = error
                    found.append(z.sum())  # not read
            return tuple(found)

        try:
            together = over_rows(call, self.draws[:rows], True, CHUNK)
        except FAILURES as error:
            together = [error] * len(functions)
            answers = list(together)
        slow = [k for k, error in enumerate(answers) if error is not None]
        found = self._one_by_one([functions[k] for k in slow], rows) if slow else []
        for k, value in enumerate(together):
            if answers[k] is None:
                answers[k] = (value, True)
        for k, value in zip(slow, found, strict=True):
            answers[k] = value if isinstance(value, Exception) else (value, False)
        return answers

    def _one_by_one(self, functions: Sequence[Function], rows: int | None) -> list[Any]:
        """The values of each at the first few draws, without vmap, or what it raised."""
        found: list[list[Any]] = [[] for _ in functions]
        failed: dict[int, Exception] = {}
        with SHARED, torch.no_grad():
            for z in self.draws[:rows][:SLOW_PROBES]:
                for k, value in enumerate(shared(functions, z)):
                    try:
                        found[k].append(value())
                    except FAILURES as error:
                        failed.setdefault(k, error)
        return [failed[k] if k in failed else _stack(values) for k, values in enumerate(found)]

    def agree(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two densities (draws,) or predictors are the same to what the model's dtype resolves."""
        tolerance = 100 * self.tolerance
        return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)

    def affine(
        self, functions: Sequence[Function], values: Sequence[torch.Tensor]
    ) -> list[tuple[Slope, torch.Tensor] | None]:
        """Of each function H (n, dim) and offset (n,) with function(z) = H z + offset at all draws seen, else
        None.

        The Jacobian at the first draw must lead to the values (draws, n) at all the others. Where all of them
        have more than 2²² entries, each is an operator (`slope_of`).
        """
        sizes = [value.shape[1] for value in values]
        if sum(sizes) * self.draws.shape[1] > LARGEST:
            return [self._affine_at_size(*pair) for pair in zip(functions, values, strict=True)]

        def every(z: torch.Tensor) -> torch.Tensor:
            return torch.cat([value() for value in shared(functions, z)])

        with torch.no_grad():
            Hs = jacobian(every, self.draws[0]).split(sizes)
        return [self._affine(H, value) for H, value in zip(Hs, values, strict=True)]

    def _affine(self, H: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        steps = self.draws[1 : values.shape[0]] - self.draws[0]
        size = values[1:].abs() + values[0].abs() + steps.abs() @ H.abs().T
        if bool(((values[1:] - values[0] - steps @ H.T).abs() <= self.tolerance * size).all()):
            return H, values[0] - H @ self.draws[0]
        return None

    def _affine_at_size(self, function: Function, values: torch.Tensor) -> tuple[Slope, torch.Tensor] | None:
        """The same by an operator. Rounding is beside the values and the changes that steps along the draws
        make, root mean square over the draws."""
        H, first = None, self.draws[0]
        for vectorised in (True, False):
            try:
                H = H or slope_of(function, first, values[0], self.tolerance, vectorised)
            except FAILURES:  # without vmap, or without a derivative in torch
                continue
        if H is None:
            return None
        parts: Any = [H.matvec(rows - first) for rows in self.draws[1 : len(values)].split(CHUNK)]
        changes = torch.cat(parts)
        size = values[1:].abs() + values[0].abs() + changes.square().mean(dim=0).sqrt()
        if bool(((values[1:] - values[0] - changes).abs() <= 10 * self.tolerance * size).all()):
            offset: Any = values[0] - H.matvec(first[None])[0]
            return H, offset
        return None


def slope_of(
    function: Function, z: torch.Tensor, value: torch.Tensor, tolerance: float, vectorised: bool = True
) -> LinearOperator:
    """The Jacobian (n, dim) at z (dim,) of a function with this value (n,) there, without its entries.

    Where each number of the value is a multiple of one latent, three products tell which: H 1 = h,
    H (0, 1, …) = h j, and a random vector, on which it must agree to the tolerance. Else it is known by its
    products: each runs the function, `vectorised` or one by one.
    """
    dim, n = z.numel(), value.numel()
    forward = partial(over_rows, partial(_tangent, function, z), vectorised=vectorised, chunk=CHUNK)
    generator = torch.Generator().manual_seed(2)
    random = torch.randn(dim, generator=generator, dtype=z.dtype)
    vectors = torch.stack([torch.ones_like(z), torch.arange(dim, dtype=z.dtype), random])
    h, hj, moved = forward(vectors)
    place = torch.where(h == 0, 0.0, hj / torch.where(h == 0, 1.0, h)).round()
    index = place.nan_to_num(-1).long().clamp(0, dim - 1)
    size = moved.square().mean().sqrt() + moved.abs()
    if bool(((h * random[index] - moved).abs() <= 10 * tolerance * size).all()):
        found: LinearOperator = Diagonal(h) @ Selection(index, dim, h)
        return found
    backward = partial(over_rows, partial(_cotangent, function, z), vectorised=vectorised, chunk=CHUNK)
    return MatrixFree(forward, backward, (n, dim), value)


def _tangent(function: Function, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    tangent: torch.Tensor = torch.func.jvp(function, (z,), (v,))[1]
    return tangent


def _cotangent(function: Function, z: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    cotangent: torch.Tensor = torch.func.vjp(function, z)[1](w)[0]
    return cotangent


def jacobian(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """(n, dim) of a function z (dim,) ↦ (n,), by backward passes: some at a time, or one by one where vmap
    cannot run them."""
    chunk = max(CHUNK, LARGEST // max(z.numel(), 1))
    try:
        found: torch.Tensor = torch.func.jacrev(function, chunk_size=chunk)(z)
        return found
    except FAILURES:
        value, backward = torch.func.vjp(function, z)[:2]
        return torch.stack([backward(unit)[0] for unit in torch.eye(len(value), dtype=value.dtype)])


def over_rows(function: Function, rows: torch.Tensor, vectorised: bool, chunk: int = 16384) -> Any:
    """The function of z (dim,) at each row (batch, dim), stacked; under vmap, or one by one.

    function: z ↦ a tensor or a tuple of them. No graph is kept of parameters inside it.
    """

    def named(row: torch.Tensor) -> Any:  # of what has no name vmap takes the repr, with all data in it
        return function(row)

    with SHARED, torch.no_grad():
        if vectorised:
            chunk = min(chunk, max(CHUNK, LARGEST // max(rows.shape[1], 1)))
            return vmapped(named, rows, chunk=chunk)
        return _stack([function(row) for row in rows])


def _stack(found: Sequence[Any]) -> Any:
    if isinstance(found[0], torch.Tensor):
        return torch.stack(tuple(found))
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


# ---- Whether functions of the latents have gradients that account for them


@dataclass(frozen=True)
class Mixed:
    """One number of each function, (functions,): z ↦ Σ_i w_i function_i(z), w fixed between .5 and 1.5.

    values: of each at the first draws, (draws, n) or (draws,); weights: w of each.
    """

    functions: Sequence[Function]
    values: Sequence[torch.Tensor]
    weights: Sequence[torch.Tensor]

    @classmethod
    def of(cls, functions: Sequence[Function], values: Sequence[torch.Tensor]) -> "Mixed":
        """With weights of a fixed seed."""
        seeds = [torch.Generator().manual_seed(0) for _ in values]
        shapes = [(value[0].shape, value.dtype) for value in values]
        weights = [
            0.5 + torch.rand(shape, generator=seed, dtype=dtype)
            for (shape, dtype), seed in zip(shapes, seeds, strict=True)
        ]
        return cls(functions, values, weights)

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.weights, shared(self.functions, z), strict=True)
        return torch.stack([(w * value()).sum().to(torch.float64) for w, value in pairs])

    def finite(self, rows: int) -> torch.Tensor:
        """(rows, functions): where all numbers of a function are finite."""
        return torch.stack([torch.isfinite(v[:rows].reshape(rows, -1)).all(dim=1) for v in self.values], 1)


def differentiable(
    probes: Probes, functions: Sequence[Function], values: Sequence[torch.Tensor], vectorised: bool
) -> list[tuple[bool, bool]]:
    """Whether each function (n,) or () has a gradient that accounts for it, and whether under vmap.

    Not where it cannot be taken (NumPy inside), is not finite where the value is, is another one than
    differences show (.item(), .detach()), or is zero in latents that the value depends on (round,
    argmax, comparisons). One run of the model serves all functions, unless the gradient of one fails. Where
    all their gradients at all draws are large, they are taken at the first draws.
    """
    mixed = Mixed.of(functions, values)
    for under_vmap in (True, False)[not vectorised :]:
        size = len(functions) * probes.draws.shape[1]
        count = max(SLOW_PROBES, LARGEST_JACOBIANS // max(size, 1)) if under_vmap else SLOW_PROBES
        rows = probes.draws[: min(len(values[0]), count)]
        try:
            slopes = _slopes(mixed, rows, under_vmap)
        except FAILURES:
            if len(functions) > 1:
                pairs = zip(functions, values, strict=True)
                return [differentiable(probes, [f], [value], vectorised)[0] for f, value in pairs]
            continue
        return [(smooth, under_vmap) for smooth in _accounted(probes, mixed, rows, slopes, under_vmap)]
    return [(False, vectorised)]


def _slopes(mixed: Mixed, rows: torch.Tensor, vectorised: bool) -> torch.Tensor:
    """(rows, functions, dim)."""
    if len(mixed.functions) == 1:
        slope = torch.func.grad(lambda z: mixed(z)[0])
        one: torch.Tensor = over_rows(slope, rows, vectorised, CHUNK)
        return one[:, None]
    chunk = min(CHUNK, max(1, LARGEST_JACOBIANS // (len(mixed.functions) * max(rows.shape[1], 1))))
    every: torch.Tensor = over_rows(lambda z: jacobian(mixed, z), rows, vectorised, chunk)
    return every


def _accounted(
    probes: Probes, mixed: Mixed, rows: torch.Tensor, slopes: torch.Tensor, vectorised: bool
) -> list[bool]:
    """Whether the slopes (rows, functions, dim) are finite and explain how the functions change, each."""
    finite = mixed.finite(len(rows))
    smooth = (torch.isfinite(slopes).all(dim=-1) | ~finite).all(dim=0)
    generator = torch.Generator().manual_seed(1)
    spread = probes.draws.std(dim=0) * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    precise = probes.tolerance < 1e-6
    step, tolerance, eps = (1e-5, 1e-3, 2e-16) if precise else (1e-2, 0.1, 1e-7)
    up, down = (over_rows(mixed, rows + sign * step * spread, vectorised, CHUNK) for sign in (1, -1))
    secants, tangents = (up - down) / (2 * step), torch.einsum("rfd,rd->rf", slopes, spread)
    limit = tolerance * (secants.abs() + tangents.abs()) + 100 * eps * (up.abs() + down.abs()) / step
    # a kink between two points is no fault; a slope that is mostly another one is
    explained = ((secants - tangents).abs() <= limit) & finite
    smooth = smooth & (explained.sum(dim=0) >= 0.5 * finite.sum(dim=0))
    silent = ((slopes == 0) | ~finite[..., None]).all(dim=0)
    asked = torch.nonzero(smooth & silent.any(dim=1))[:, 0].tolist()
    moved = _moved(probes, mixed, rows, {k: (silent[k], finite[:, k]) for k in asked}, vectorised)
    return [bool(one) and k not in moved for k, one in enumerate(smooth)]


def _moved(
    probes: Probes,
    mixed: Mixed,
    rows: torch.Tensor,
    asked: dict[int, tuple[torch.Tensor, torch.Tensor]],
    vectorised: bool,
) -> set[int]:
    """Which functions change when only what their gradients are silent about does.

    asked: {function: (latents (dim,) that its gradient is zero in, rows where it is finite)}.
    """
    if not asked:
        return set()
    budget = MOVED if vectorised else MOVED_SLOWLY
    least = max(1, budget // len(asked))
    owners, points = [], []
    for k, (silent, finite) in asked.items():
        kept = rows[finite][: max(2, least)]
        points.append(torch.where(silent, kept.roll(1, 0), kept)[:least])
        owners += [k] * len(points[-1])
    index = torch.tensor(owners)
    after = over_rows(mixed, torch.cat(points), vectorised, CHUNK if len(asked) == 1 else 16384)
    before, changed = over_rows(mixed, rows, vectorised, CHUNK), set()
    for k, (_, finite) in asked.items():
        new = after[index == k, k]
        old = before[finite, k][: len(new)]
        if not torch.allclose(old, new, rtol=probes.tolerance, atol=probes.tolerance, equal_nan=True):
            changed.add(k)
    return changed


# ---- Readings of several sites side by side, so that one run of the model answers what all of them ask


@dataclass(frozen=True)
class Values:
    """Asks for a function's values at the draws, or the first `rows`, and whether vmap can run it."""

    function: Function
    rows: int | None = None


@dataclass(frozen=True)
class Smooth:
    """Asks whether the function has a gradient that accounts for its values, and whether under vmap."""

    function: Function
    values: torch.Tensor
    vectorised: bool


@dataclass(frozen=True)
class Affine:
    """Asks for H and offset of a function with these values; None where it is not affine."""

    function: Function
    values: torch.Tensor


Reading = Generator[Values | Smooth | Affine, Any, T]


def read_together(readings: Sequence[Reading[T]], probes: Probes) -> list[T]:
    """What the readings return. Each asks with `yield`; what they ask at the same time is found together.

    Raises: the first error that a reading lets through.
    """
    found: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(readings)))
    while answers:
        asked = {}
        for k, answer in answers.items():
            try:
                reading = readings[k]
                asked[k] = reading.throw(answer) if isinstance(answer, Exception) else reading.send(answer)
            except StopIteration as stop:
                found[k] = stop.value
        answers = _answers(asked, probes)
    return [found[k] for k in range(len(readings))]


def _answers(asked: dict[int, Any], probes: Probes) -> dict[int, Any]:
    """{reading: answer}, an exception for a function that cannot be run."""
    alike: dict[Any, list[int]] = {}
    for k, request in asked.items():
        sort = request.rows if isinstance(request, Values) else getattr(request, "vectorised", None)
        alike.setdefault((type(request), sort), []).append(k)
    answers: dict[int, Any] = {}
    for (kind, sort), members in alike.items():
        functions = [asked[k].function for k in members]
        if kind is Values:
            found = probes.values(functions, sort)
        elif kind is Smooth:
            found = differentiable(probes, functions, [asked[k].values for k in members], sort)
        else:
            found = probes.affine(functions, [asked[k].values for k in members])
        answers |= dict(zip(members, found, strict=True))
    return answers
