"""Layer 2: torch networks."""

from .mlp import ResidualMLP
from .on_grid import FieldNetwork
from .onnx import export_onnx
from .unet import UNet
