"""Layer 7: pictures."""

from .paths import Band, plot_paths

__all__ = ["Band", "plot_paths"]
