"""One network for all latents: on each grid a module of its own, for plain numbers a perceptron."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..linalg import FieldShape
from .mlp import ResidualMLP
from .unet import FieldFactory, UNet

EXCHANGE = 8  # channels by which a grid hears of other latents, and they of it


class FieldNetwork(nn.Module):
    """(batch, 2 dim), ln(α/σ) ↦ (batch, dim): flat rows, as the denoisers and the training have them.

    The first `dim` numbers are C_t^{-1/2} (x_t - α m), the others x_t itself; what comes back is in units of
    the conditional standard deviation, 0 for the best linear denoiser.

    parts: what the numbers of a row are, one after the other: the grid of a site, or how many plain numbers.
    factory: `FieldShape` ↦ module (x (batch, 2 channels, *grid), ln(α/σ) (batch, 1)) ↦ (batch, channels,
    *grid). Sites on the same grid are channels of one module. Plain numbers go through a `ResidualMLP`. Where
    there is more than one of all these, a module has 8 channels more: those it is given are the same all over
    the grid, a linear map of the plain numbers and of what the modules before it found; those it gives are
    averaged over the grid, and given to the others.

    Raises: ValueError where a module returns another shape; TypeError for a factory that makes no module.
    """

    def __init__(self, parts: Sequence[FieldShape | int], factory: FieldFactory | None = None) -> None:
        super().__init__()
        factory = UNet() if factory is None else factory
        self.grids: list[FieldShape] = []
        self.places: list[list[tuple[int, int, int]]] = []  # of each grid: start, stop, channels
        self.plain: list[tuple[int, int]] = []
        first = 0
        for part in parts:
            last = first + (part if isinstance(part, int) else part.size)
            if isinstance(part, int):
                self.plain.append((first, last))
            else:
                self._place(part, first, last)
            first = last
        self.dim = first
        self.plain_numbers = sum(last - start for start, last in self.plain)
        several = len(self.grids) + bool(self.plain_numbers) > 1
        self.exchange = EXCHANGE if several else 0
        self.modules_of_grids = nn.ModuleList(
            _module(factory, self._asked(k)) for k in range(len(self.grids))
        )
        told = [2 * self.plain_numbers + k * self.exchange for k in range(len(self.grids))]
        self.hears = nn.ModuleList(
            nn.Linear(count, 2 * self.exchange, dtype=torch.float32) if count else nn.Identity()
            for count in (told if self.exchange else [])
        )
        heard = 2 * self.plain_numbers + len(self.grids) * self.exchange
        self.perceptron = ResidualMLP(heard) if self.plain_numbers else None

    def _place(self, field: FieldShape, first: int, last: int) -> None:
        same = [(g.shape, g.periodic) == (field.shape, field.periodic) for g in self.grids]
        own = (first, last, field.channels)
        if True in same:
            k = same.index(True)
            channels = self.grids[k].channels + field.channels
            self.grids[k] = FieldShape(channels, field.shape, field.periodic)
            self.places[k].append(own)
        else:
            self.grids.append(field)
            self.places.append([own])

    def _asked(self, k: int) -> FieldShape:
        grid = self.grids[k]
        return FieldShape(grid.channels + self.exchange, grid.shape, grid.periodic)

    def forward(self, rows: torch.Tensor, half_log_snr: Any) -> torch.Tensor:
        """rows (batch, 2 dim); half_log_snr: ln(α/σ), a float, or (batch, 1)."""
        level = torch.as_tensor(half_log_snr, dtype=rows.dtype, device=rows.device).reshape(-1, 1)
        level = level.expand(rows.shape[0], 1)
        both = rows[:, : self.dim], rows[:, self.dim :]
        heard = [half[:, start:stop] for half in both for start, stop in self.plain]
        pieces: list[tuple[int, torch.Tensor]] = []
        for k, module in enumerate(self.modules_of_grids):
            output = self._on_grid(k, module, both, heard, level)
            channels = self.grids[k].channels
            if self.exchange:
                heard.append(output[:, channels:].mean(dim=tuple(range(2, output.dim()))))
            pieces += self._flat(k, output[:, :channels])
        if self.perceptron is not None:
            found, first = self.perceptron(torch.cat(heard, dim=-1), level), 0
            for start, stop in self.plain:
                pieces.append((start, found[:, first : first + stop - start]))
                first += stop - start
        ordered = [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]
        return torch.cat(ordered, dim=-1) if len(ordered) > 1 else ordered[0]

    def _on_grid(
        self,
        k: int,
        module: nn.Module,
        both: tuple[torch.Tensor, torch.Tensor],
        heard: list[torch.Tensor],
        level: torch.Tensor,
    ) -> torch.Tensor:
        """What a module gives for its sites, and of it the others hear: (batch, channels, *grid)."""
        grid, batch = self.grids[k], level.shape[0]
        given: list[torch.Tensor] = []
        if self.exchange:
            words = self.hears[k](torch.cat(heard, dim=-1)) if heard else level.new_zeros(batch, 2 * EXCHANGE)
            words = words.reshape(*words.shape, *(1,) * len(grid.shape))
            images = words.expand(*words.shape[:2], *grid.shape)
            given = [images[:, :EXCHANGE], images[:, EXCHANGE:]]  # `chunk` could not be written as ONNX
        seen: list[torch.Tensor] = []
        for number, half in enumerate(both):
            seen += [
                half[:, start:stop].reshape(batch, channels, *grid.shape)
                for start, stop, channels in self.places[k]
            ]
            seen += given[number : number + 1]
        x = torch.cat(seen, dim=1)
        output: torch.Tensor = module(x, level)
        expected = (batch, grid.channels + self.exchange, *grid.shape)
        if output.shape != expected:
            raise ValueError(
                f"the network {type(module).__name__} of a grid returns shape {tuple(output.shape)} for x "
                f"{tuple(x.shape)} and levels {tuple(level.shape)}; expected {expected}"
            )
        return output

    def _flat(self, k: int, output: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
        """Where the numbers of each site begin, and these."""
        pieces, first = [], 0
        for start, _, channels in self.places[k]:
            pieces.append((start, output[:, first : first + channels].flatten(1)))
            first += channels
        return pieces


def _module(factory: FieldFactory, field: FieldShape) -> nn.Module:
    module = factory(field)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"net= must make a torch module of a sp.FieldShape, as sp.UNet() does; got {module!r:.80}"
        )
    return module
