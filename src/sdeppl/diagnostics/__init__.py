"""Layer 7: how far one posterior is from another, and a learned score from the prior's."""

from .arviz import to_arviz
from .compare import compare
from .comparison import Comparison, SiteComparison
from .score import LevelCheck, ScoreCheck, check_score

__all__ = ["Comparison", "LevelCheck", "ScoreCheck", "SiteComparison", "check_score", "compare", "to_arviz"]
