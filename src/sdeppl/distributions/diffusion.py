"""The forward SDE from x0 to noise as a Pyro distribution."""

from collections.abc import Sequence

import torch

from ..sde import IsotropicSDE
from .path import SDEPath


class Diffusion(SDEPath):
    """x_t at `times` for the forward SDE that starts from the site x0: event shape (times, *x0).

    sde: an affine SDE; x0: the value of a site, a number or (..., dim); times: rising, in (0, T].
    Sampling it shows the noising; `ScoreGuide` reads the forward SDE from it and reverses it. No
    posterior query and no NUTS run includes it, since nothing that is observed depends on it.

    Raises: ValueError for times outside (0, T] or not rising; TypeError for an SDE that is not
    affine.
    """

    def __init__(
        self,
        sde: IsotropicSDE,
        x0: torch.Tensor,
        times: Sequence[float] | torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(sde, x0, times, t0=0.0, validate_args=validate_args)
        if self.times[-1] > sde.T:
            raise ValueError(f"Diffusion: times must be in (0, {sde.T}]; got {self.times[-1]}")
