"""Layer 7: how far one posterior is from another."""

from .compare import Comparison, SiteComparison, compare

__all__ = ["Comparison", "SiteComparison", "compare"]
