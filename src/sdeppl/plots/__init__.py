"""Layer 7: pictures."""

from .density import plot_density
from .paths import Band, plot_paths

__all__ = ["Band", "plot_density", "plot_paths"]
