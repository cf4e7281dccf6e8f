"""Layer 4: reads latents, supports, the forward SDE and the likelihood out of a Pyro model."""

from .checks import check_fixed
from .draws import Rows, SlowDrawsWarning, prior_draws, replicates
from .errors import ModelError, no_data
from .imputing import imputed, original
from .latents import HeavyTailsWarning, LatentSite, LatentSpace, SinhTransform, find_tails, with_tails
from .observe import GivenModel, Observe, data_tensor, observed_values
from .observed import (
    ConstraintSite,
    DensitySite,
    Family,
    FamilySite,
    GaussianSite,
    ObservedSite,
    grouped,
    merged,
)
from .potential import Potential, RecordedValues, UnrecordedWarning, start
from .prior_check import ROWS, OwnDensities, PriorCheck, PriorRecord, SitePriorCheck, check_prior
from .probing import over_rows
from .read_sites import read_sites
from .running import SiteReader, check_call
from .sites import ModelSites, find_sites, without_unseen
