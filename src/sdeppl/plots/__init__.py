"""Layer 7: pictures."""

from .animation import animate_trajectories
from .calibration import plot_coverage, plot_sbc
from .comparison import plot_comparison
from .convergence import plot_convergence
from .corner import plot_corner
from .density import plot_density
from .fields import plot_fields
from .paths import COLOURS, Band, plot_paths
from .training import plot_training
from .trajectories import plot_trajectories

__all__ = [
    "COLOURS",
    "Band",
    "animate_trajectories",
    "plot_comparison",
    "plot_convergence",
    "plot_corner",
    "plot_coverage",
    "plot_density",
    "plot_fields",
    "plot_paths",
    "plot_sbc",
    "plot_training",
    "plot_trajectories",
]
