"""A twist that never rules out what it cannot be sure of."""

import math
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from ..likelihood import Guided, MeanLikelihood

SHARE = 0.1  # of l at T: 0.01 leaves heavy tails, 1 keeps too many particles that are to no avail


@dataclass(frozen=True)
class DefensiveTwist:
    """l(y given x_t) + floor in place of l(y given x_t), floor = 0.1 × l(y given x_T).

    A mean likelihood that takes p(x_0 given x_t) for too narrow calls data impossible that are not. The few
    particles that come through in spite of it then have nearly all of the weight, and in most solves there
    are none: ln p(y) comes out low, and its standard error too small to tell. l at T knows nothing of x_0:
    it is the prior's predictive density of y, and wide. Above the floor, l and the floor cannot be short of
    the true l by more than the true l over the floor. Guidance stays that of l.

    log_floor: (1,), or one for each particle. Source: defensive importance sampling (Hesterberg 1995), here
    of twists.
    """

    log_floor: Any

    @classmethod
    def of(cls, twist: MeanLikelihood, x: Any) -> "DefensiveTwist":
        """From l at x = E[x_T], (dim,), of each data set where there are many."""
        xp, rows = array_namespace(x), twist.observation.sets or 1
        return cls(
            twist.log_likelihood(xp.broadcast_to(x, (rows, x.shape[0])), twist.sde.T) + math.log(SHARE)
        )

    def __call__(self, guided: Guided) -> Guided:
        """With l defended."""
        xp = array_namespace(self.log_floor)
        return replace(guided, log_likelihood=xp.logaddexp(guided.log_likelihood, self.log_floor))
