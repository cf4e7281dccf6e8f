"""Layer 8: the page that says whether to believe an answer."""

from .checks import Check
from .report import Report, report

__all__ = ["Check", "Report", "report"]
