"""Reading an observed site by its density alone, and a Delta as a hard constraint."""

from functools import partial

import torch

from .asking import Affine, Reading, Smooth, Values
from .errors import ModelError, cannot_leave_out, depends_on_no_latent
from .observed import ConstraintSite, DensitySite
from .reader import Nodes
from .target import Target


def read_density(target: Target) -> Reading[DensitySite]:
    """The site as z ↦ ln p(y | z).

    Raises: ModelError for a multivariate event that was observed in part; a density that is NaN, or
    zero at every draw, or depends on no latent, or on something random.
    """
    name, y = target.name, target.y.reshape(-1)
    if not bool(target.kept.any()) and not target.partly:
        return DensitySite(name, y, True, True, _nothing)
    if target.partly:
        raise cannot_leave_out(name, target.base(target.runs.at()))
    target.require_fixed(lambda nodes: (target.log_prob(nodes),))
    log_prob = target.function(target.log_prob)
    values, vectorised = yield Values(log_prob)
    target.require_density(values)
    if bool((values == values[0]).all()):
        raise depends_on_no_latent(name)
    smooth, vectorised = yield Smooth(log_prob, values, vectorised)
    return DensitySite(name, y, smooth, vectorised, log_prob, target.runs.reader.space)


def _nothing(z: torch.Tensor) -> torch.Tensor:
    return 0.0 * z.sum()


def read_constraint(target: Target) -> Reading[ConstraintSite]:
    """A Delta of an affine function of the latents as y = H z + offset.

    Raises: ModelError for one that is not affine, or has a log_density, or depends on no latent, or on
    something random.
    """
    name = target.name
    if bool((target.base(target.runs.at()).log_density != 0).any()):
        raise ModelError(
            f"site '{name}' is a Delta with a log_density, which is a pyro.factor, and prior draws do not "
            "show it; write it as an observed site"
        )
    target.require_fixed(lambda nodes: (target.base(nodes).v,))
    function = target.function(partial(_constrained, target))
    values, vectorised = yield Values(function)
    if bool((values == values[0]).all()):
        raise depends_on_no_latent(name)
    smooth, vectorised = yield Smooth(function, values, vectorised)
    found = (yield Affine(function, values)) if smooth else None
    if found is None:
        raise ModelError(
            f"site '{name}' is a Delta of something that is not affine in the unconstrained latents, and "
            "only affine constraints can be hard; give it a little noise, as Normal(..., 0.01), instead"
        )
    return ConstraintSite(name, target.y.reshape(-1), smooth, vectorised, *found)


def _constrained(target: Target, nodes: Nodes) -> torch.Tensor:
    v: torch.Tensor = target.base(nodes).v
    return v.expand(target.y.shape).reshape(-1).to(torch.float64)
