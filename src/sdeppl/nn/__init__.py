"""Layer 2: torch networks."""

from .mlp import ResidualMLP
from .onnx import export_onnx
