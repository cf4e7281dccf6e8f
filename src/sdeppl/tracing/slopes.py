"""Whether functions of the latents have gradients that account for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .probing import CHUNK, FAILURES, SLOW_PROBES, Function, Probes, jacobian, over_rows
from .reader import shared

LARGEST = 2**24  # numbers in the Jacobians of one chunk, and of all
MOVED, MOVED_SLOWLY = 2**14, 64  # runs in which latents are moved that a gradient is silent about


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
        count = max(SLOW_PROBES, LARGEST // max(size, 1)) if under_vmap else SLOW_PROBES
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
    chunk = min(CHUNK, max(1, LARGEST // (len(mixed.functions) * max(rows.shape[1], 1))))
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
