"""Layer 8: the page that says whether to believe an answer."""

from .report import Check, Report, report
