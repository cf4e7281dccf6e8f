"""A residual multilayer perceptron with an embedding of the noise level."""

import math
from typing import Any

import torch
from torch import nn

from ..backend import whole_number

WIDEST = 1_000_000


class ResidualMLP(nn.Module):
    """(batch, dim), ln(α/σ) ↦ (batch, dim); returns 0 until it is trained.

    The last layer starts at zero, so an untrained network leaves the Gaussian part as it is.
    width: hidden units, 64 to 512 by dim where not given; depth: residual blocks; frequencies:
    sines and cosines in the embedding. Source of the embedding: Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, dim: int, width: int | None = None, depth: int = 3, frequencies: int = 16) -> None:
        super().__init__()
        dim = whole_number("ResidualMLP: dim", dim, 1, WIDEST)
        width = min(max(64, 4 * dim), 512) if width is None else whole_number("width", width, 1, WIDEST)
        depth = whole_number("ResidualMLP: depth", depth, 1, WIDEST)
        frequencies = whole_number("ResidualMLP: frequencies", frequencies, 1, WIDEST)
        self.config: dict[str, Any] = {
            "dim": dim,
            "width": width,
            "depth": depth,
            "frequencies": frequencies,
        }
        scales = math.pi * 2.0 ** torch.linspace(-5.0, 1.0, frequencies, dtype=torch.float32)
        self.scales: torch.Tensor
        self.register_buffer("scales", scales)
        self.enter = nn.Linear(dim, width, dtype=torch.float32)
        self.level = nn.Linear(2 * frequencies, width, dtype=torch.float32)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.leave = nn.Linear(width, dim, dtype=torch.float32)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: torch.Tensor, half_log_snr: object) -> torch.Tensor:
        """x (batch, dim); half_log_snr: ln(α/σ), a float, or (batch, 1)."""
        level = torch.as_tensor(half_log_snr, dtype=x.dtype, device=x.device).reshape(-1, 1)
        phase = level * self.scales
        embedding = self.level(torch.cat([phase.sin(), phase.cos()], dim=-1))
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.leave(nn.functional.silu(hidden))


class _Block(nn.Module):
    """hidden + MLP(normalised hidden + embedding)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, dtype=torch.float32)
        self.first = nn.Linear(width, width, dtype=torch.float32)
        self.second = nn.Linear(width, width, dtype=torch.float32)

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.silu(self.first(self.norm(hidden)) + embedding)
        return hidden + self.second(inner)
