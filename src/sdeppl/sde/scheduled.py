"""What SDEs on a noise schedule share."""

from dataclasses import dataclass, field

from ..backend import python_floats
from .affine import IsotropicSDE
from .schedules import LinearSchedule, Schedule, check_scheduled


@dataclass(frozen=True)
class ScheduledSDE(IsotropicSDE):
    """An SDE on a schedule β(t) up to T, with f = -β/2 unless a subclass says otherwise.

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    """

    schedule: Schedule = field(default_factory=LinearSchedule)
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        check_scheduled(self)

    def rate(self, t: float) -> float:
        return -0.5 * self.schedule.beta(t)
