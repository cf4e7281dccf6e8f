"""From traced sites to one observation of the standardised vector."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ..backend import Backend, place
from ..backend.sharing import warn
from ..likelihood import (
    DensityObservation,
    IndependentObservation,
    LinearConstraint,
    LinearGaussian,
    NonlinearGaussian,
    Observation,
    joint_observation,
)
from ..tracing import (
    ConstraintSite,
    DensitySite,
    FamilySite,
    GaussianSite,
    ModelError,
    ObservedSite,
    SlowDrawsWarning,
    grouped,
    merged,
)
from .bridge import Bridge
from .families import array_family
from .gaussian_part import GaussianPart
from .site_density import SiteDensity


def observation_of(sites: Sequence[ObservedSite], gaussian: GaussianPart, backend: Backend) -> Observation:
    """All sites as one observation of x, z = location + scale · x; sites without data are left out.

    Sites of one kind are merged (`tracing.grouped`), so that a run of the model serves all of them; y has
    their order.

    Pure array code for affine Gaussian sites and constraints, and for affine families that the array
    layers know: then sampling calls neither torch nor Pyro for the likelihood. Else the model is run.

    Raises: ModelError, naming the site, for what the observation does not take. Warns: SlowDrawsWarning.
    """
    parts = []
    for group in grouped([site for site in sites if len(site.seen)]):
        site = merged(group)
        if not site.vectorised and getattr(site, "H", None) is None:
            warn(
                f"site '{site.name}': the model cannot be run for many latents at once, so its likelihood is "
                "evaluated for one after the other; replace NumPy, .item() and branches on values by torch",
                SlowDrawsWarning,
                stacklevel=4,
            )
        try:
            parts.append(_part(site, Bridge(gaussian, backend, site.vectorised)))
        except ValueError as error:
            raise ModelError(f"site '{_at_fault(group, gaussian, backend)}': {error}") from error
    if not parts:
        nothing = torch.zeros((0, gaussian.location.shape[0]), dtype=torch.float64)
        return LinearGaussian(*(place(part, backend) for part in (nothing, nothing[:, 0], nothing[:, 0])))
    try:
        return joint_observation(parts)
    except ValueError as error:
        raise ModelError(f"sites {[site.name for site in sites]} together: {error}") from error


def _at_fault(group: Sequence[ObservedSite], gaussian: GaussianPart, backend: Backend) -> str:
    """The name of the first that cannot be observed by itself, or of all."""
    for site in group:
        try:
            _part(site, Bridge(gaussian, backend, site.vectorised))
        except ValueError:
            return site.name
    return merged(group).name


def _part(site: ObservedSite, bridge: Bridge) -> Observation:
    if isinstance(site, GaussianSite):
        return _gaussian(site, bridge)
    if isinstance(site, ConstraintSite):
        return LinearConstraint(*_standardised(site.H, site.y - site.offset, bridge))
    if isinstance(site, FamilySite):
        return _family(site, bridge)
    assert isinstance(site, DensitySite)
    gradient = bridge.gradient(site.log_prob) if site.differentiable else None
    location = place(bridge.gaussian.location, bridge.backend)
    return DensityObservation(SiteDensity(bridge, site), location.shape[0], location, gradient)


def _gaussian(site: GaussianSite, bridge: Bridge) -> Observation:
    dim, backend = bridge.gaussian.location.shape[0], bridge.backend
    R = None if site.R is None else place(site.R, backend)
    if site.H is not None and site.offset is not None:
        return LinearGaussian(*_standardised(site.H, site.y - site.offset, bridge), R)
    function = site.moments if site.R is None else partial(_alone, site.mean)
    value = bridge.values(site.moments if site.R is None else site.mean)
    with_jacobian = bridge.with_jacobian(function) if site.differentiable else None
    bend = bridge.bend(function)
    return NonlinearGaussian(with_jacobian, dim, place(site.y, backend), R, value=value, bend=bend)


def _family(site: FamilySite, bridge: Bridge) -> Observation:
    known = array_family(site, bridge.backend)
    log_density, y = known or (bridge.elementwise(site.log_density), site.y)
    y = place(y, bridge.backend)
    if site.H is not None and site.offset is not None:
        H, minus_offset = _standardised(site.H, -site.offset, bridge)
        return IndependentObservation(log_density, y, H=H, offset=-minus_offset)

    predictor = partial(_alone, site.predictor)
    return IndependentObservation(
        log_density,
        y,
        function=bridge.with_jacobian(predictor) if site.differentiable else None,
        bend=bridge.bend(predictor),
        value=bridge.values(site.predictor),
        dim=bridge.gaussian.location.shape[0],
    )


def _alone(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> tuple[torch.Tensor]:
    return (function(z),)


def _standardised(H: torch.Tensor, y: torch.Tensor, bridge: Bridge) -> tuple[Any, Any]:
    """H and y of y = H x, from those of y = H z."""
    gaussian = bridge.gaussian
    return (
        place(H * gaussian.scale, bridge.backend),
        place(y - H @ gaussian.location, bridge.backend),
    )
