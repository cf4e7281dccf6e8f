"""Layer 7: how far one posterior is from another, and a learned score from the prior's."""

from .arviz import to_arviz
from .calibration import Calibration, coverage, posterior_sbc, sbc, tarp
from .compare import Comparison, SiteComparison, compare
from .coverage_map import CoverageMap, coverage_map
from .denoiser_checks import (
    CovarianceCheck,
    CovarianceLevel,
    LevelCheck,
    ScoreCheck,
    check_covariance,
    check_score,
)
from .local_c2st import LocalC2ST, local_c2st
from .loss_check import LossCheck, LossLevel, check_loss
from .ranks import RankTest, simultaneous_band
from .simulations import Simulations, simulate_posteriors
