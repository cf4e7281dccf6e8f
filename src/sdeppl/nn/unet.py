"""A U-Net on regular grids of one to three axes, and what every factory of networks on a grid promises."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from ..backend import whole_number
from ..linalg import FieldShape

FieldFactory: TypeAlias = Callable[[FieldShape], nn.Module]

WIDTHS = {1: 64, 2: 32, 3: 24}  # channels at full resolution, by the number of axes
FINEST, DEEPEST, WIDEST = 16, 4, 4  # an axis of 16 points is halved; so often; times the width
FREQUENCIES = 16
MOST_WIDTH = 65_536
CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class UNet:
    """Field ↦ module (x (batch, 2 channels, *grid), ln(α/σ) (batch, 1)) ↦ (batch, channels, *grid).

    width: channels at full resolution, doubled with each halving up to four times; by default 64, 32 or 24
    for one, two or three axes. depth: how often the grid is halved; by default until an axis has below 16
    points, at most 4 times. blocks: residual blocks at each resolution, going down and going up again.
    attention: whether the coarsest grid attends to itself.

    Axes are padded by their other end where they are periodic, else by zeros, and may have any number of
    points: odd ones are repeated once before they are halved. On periodic grids that divide by 2^depth the
    module commutes with shifts by 2^depth points. It returns 0 until it is trained, so that the Gaussian part
    stays as it is; float32. Normalisation is over the channels at each point, not over the grid, so that what
    happens at one place leaves others alone. Time and memory grow with batch × points × width².

    Raises: ValueError, TypeError for arguments out of range. Source: Ronneberger et al. 2015; modulation by
    the noise level as in Dhariwal & Nichol 2021.
    """

    width: int | None = None
    depth: int | None = None
    blocks: int = 1
    attention: bool = False

    def __post_init__(self) -> None:
        if self.width is not None:
            whole_number("UNet: width", self.width, 1, MOST_WIDTH)
        if self.depth is not None:
            whole_number("UNet: depth", self.depth, 0, 16)
        whole_number("UNet: blocks", self.blocks, 1, 64)
        if not isinstance(self.attention, bool):
            raise TypeError(f"UNet: attention must be True or False; got {self.attention!r}")

    def __call__(self, field: FieldShape) -> nn.Module:
        """An untrained module for one grid. Raises: TypeError for what is no `FieldShape`."""
        if not isinstance(field, FieldShape):
            raise TypeError(
                f"UNet() makes networks of a sp.FieldShape; got {field!r:.80}. Say what is next to "
                "what by layout={site: sp.Grid(...)}; for plain numbers there is sp.ResidualMLP"
            )
        width = WIDTHS[len(field.shape)] if self.width is None else self.width
        depth = _halvings(min(field.shape)) if self.depth is None else self.depth
        return UNetModule(field, width, depth, self.blocks, self.attention)


def _halvings(size: int) -> int:
    """Of an axis, until it has fewer than 16 points."""
    found = 0
    while size >= FINEST and found < DEEPEST:
        size, found = -(-size // 2), found + 1
    return found


class UNetModule(nn.Module):
    """What `UNet` makes: (batch, 2 channels, *grid), ln(α/σ) ↦ (batch, channels, *grid)."""

    def __init__(self, field: FieldShape, width: int, depth: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.field, self.depth = field, depth
        self.config = {"width": width, "depth": depth, "blocks": blocks, "attention": attention}
        widths = [width * min(2**k, WIDEST) for k in range(depth + 1)]
        embedded = 4 * width
        scales = math.pi * 2.0 ** torch.linspace(-5.0, 1.0, FREQUENCIES, dtype=torch.float32)
        self.scales: torch.Tensor
        self.register_buffer("scales", scales)
        self.level = nn.Linear(2 * FREQUENCIES, embedded, dtype=torch.float32)
        periodic = field.periodic
        self.enter = Convolution(2 * field.channels, width, periodic)
        self.down = nn.ModuleList(Column(w, embedded, periodic, blocks) for w in widths)
        pairs = list(pairwise(widths))
        self.coarser = nn.ModuleList(Halving(fine, coarse, periodic) for fine, coarse in pairs)
        self.attend = Attention(widths[-1]) if attention else nn.Identity()
        self.finer = nn.ModuleList(Convolution(coarse, fine, periodic, size=1) for fine, coarse in pairs)
        self.up = nn.ModuleList(Column(w, embedded, periodic, blocks) for w in widths[:-1])
        self.norm = PointNorm(width)
        self.leave = Convolution(width, field.channels, periodic)
        nn.init.zeros_(self.leave.inner.weight)
        nn.init.zeros_(self.leave.inner.bias)
        if len(field.shape) == 2:  # convolutions in two dimensions are up to twice as fast so
            layout: Any = {"memory_format": torch.channels_last}
            self.to(**layout)

    def forward(self, x: torch.Tensor, half_log_snr: Any) -> torch.Tensor:
        """x (batch, 2 channels, *grid); half_log_snr: ln(α/σ), a float, or (batch, 1)."""
        level = torch.as_tensor(half_log_snr, dtype=x.dtype, device=x.device).reshape(-1, 1)
        phase = level * self.scales
        embedding = F.silu(self.level(torch.cat([phase.sin(), phase.cos()], dim=-1)))
        hidden, passed = self.enter(x), []
        for k, column in enumerate(self.down):
            hidden = column(hidden, embedding)
            if k < self.depth:
                passed.append(hidden)
                hidden = self.coarser[k](hidden)
        hidden = self.attend(hidden)
        for k in reversed(range(self.depth)):
            hidden = passed[k] + _doubled(self.finer[k](hidden), passed[k].shape[2:])
            hidden = self.up[k](hidden, embedding)
        return self.leave(F.silu(self.norm(hidden)))


class Convolution(nn.Module):
    """Of an odd size, to a grid of the same points: each axis is padded by its other end, or by zeros."""

    def __init__(self, entering: int, leaving: int, periodic: tuple[bool, ...], size: int = 3) -> None:
        super().__init__()
        reach = size // 2
        self.wrapped = tuple(axis for axis, ends in enumerate(periodic, 2) if ends and reach)
        padding = tuple(0 if ends else reach for ends in periodic)
        kind = CONVOLUTIONS[len(periodic)]
        self.inner = kind(entering, leaving, size, padding=padding, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in self.wrapped:
            x = torch.cat([x.narrow(axis, x.shape[axis] - 1, 1), x, x.narrow(axis, 0, 1)], dim=axis)
        return self.inner(x)


class PointNorm(nn.Module):
    """Zero mean and unit variance over the channels at each point, and learned scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.LayerNorm(width, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """hidden + two convolutions of it, normalised and modulated by the noise level in between."""

    def __init__(self, width: int, embedded: int, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        self.norm = PointNorm(width)
        self.first = Convolution(width, width, periodic)
        self.modulation = nn.Linear(embedded, 2 * width, dtype=torch.float32)
        self.second = Convolution(width, width, periodic)

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        found = self.modulation(embedding)
        scale, shift = found.reshape(*found.shape, *(1,) * (hidden.dim() - 2)).chunk(2, dim=1)
        inner = self.first(F.silu(self.norm(hidden)))
        return hidden + self.second(F.silu(inner * (1 + scale) + shift))


class Column(nn.Module):
    """Blocks one after the other."""

    def __init__(self, width: int, embedded: int, periodic: tuple[bool, ...], blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, embedded, periodic) for _ in range(blocks))

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return hidden


class Halving(nn.Module):
    """A grid of half the points along each axis, by 2 × … × 2 points each; odd axes are repeated once."""

    def __init__(self, entering: int, leaving: int, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        self.periodic = periodic
        self.inner = CONVOLUTIONS[len(periodic)](entering, leaving, 2, stride=2, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, ends in enumerate(self.periodic, 2):
            if x.shape[axis] % 2:
                x = torch.cat([x, x.narrow(axis, 0 if ends else x.shape[axis] - 1, 1)], dim=axis)
        return self.inner(x)


def _doubled(x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Each point twice along each axis, cut to `shape`."""
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    for axis, size in enumerate(shape, 2):
        if x.shape[axis] != size:
            x = x.narrow(axis, 0, size)
    return x


class Attention(nn.Module):
    """hidden + attention of each point to all; it does not know where points are. Memory: points²."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PointNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, dtype=torch.float32) for _ in range(3))
        self.leave = nn.Linear(width, width, dtype=torch.float32)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        points = self.norm(hidden).flatten(2).transpose(1, 2)
        found = F.scaled_dot_product_attention(self.query(points), self.key(points), self.value(points))
        found = self.leave(found)
        return hidden + found.transpose(1, 2).reshape(hidden.shape)
