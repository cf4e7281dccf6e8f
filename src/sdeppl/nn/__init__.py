"""Layer 2: torch networks."""

from .mlp import ResidualMLP

__all__ = ["ResidualMLP"]
