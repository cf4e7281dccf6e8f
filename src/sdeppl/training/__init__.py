"""Layer 7: denoising score matching."""

from .score_matching import Gain, ScoreMatching
