"""Layer 2: torch networks."""

from .mlp import ResidualMLP
from .onnx_file import export_onnx

__all__ = ["ResidualMLP", "export_onnx"]
