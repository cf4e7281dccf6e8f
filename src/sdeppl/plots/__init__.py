"""Layer 7: pictures."""

from .calibration import plot_comparison, plot_coverage, plot_sbc
from .corner import plot_corner
from .curves import plot_convergence, plot_training
from .density import plot_density, plot_fields
from .fields import plot_coverage_map, plot_field
from .paths import COLOURS, Band, plot_paths
from .trajectories import animate_trajectories, plot_trajectories

__all__ = [
    "COLOURS",
    "Band",
    "animate_trajectories",
    "plot_comparison",
    "plot_convergence",
    "plot_corner",
    "plot_coverage",
    "plot_coverage_map",
    "plot_density",
    "plot_field",
    "plot_fields",
    "plot_paths",
    "plot_sbc",
    "plot_training",
    "plot_trajectories",
]
