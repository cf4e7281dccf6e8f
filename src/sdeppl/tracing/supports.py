"""Where a distribution has mass, which is not always what it says, and its density there alone."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.poutine.messenger import Messenger
from torch.distributions import (
    AffineTransform,
    CatTransform,
    ComposeTransform,
    IndependentTransform,
    StackTransform,
    Transform,
    TransformedDistribution,
    constraints,
)
from torch.distributions.transforms import AbsTransform

from ..backend import Number
from ..distributions.typing import Bijection, Distribution, Site, Support

# drawn from one turn of the circle, while their densities go round and round
_CIRCULAR = (dist.VonMises, dist.SineBivariateVonMises, dist.SineSkewed)
# which Pyro says are positive
_MISSTATED = {T.ELUTransform: constraints.greater_than(-1.0), T.LeakyReLUTransform: constraints.real}
_REAL = type(constraints.real)
Ends = tuple[Number, Number]


class Between(constraints.Constraint):
    """low ≤ x ≤ high, number by number: tensors that broadcast, infinite where there is no bound."""

    def __init__(self, low: Number, high: Number) -> None:
        self.lower_bound, self.upper_bound = low, high
        super().__init__()

    def check(self, value: torch.Tensor) -> torch.Tensor:
        """Where each number is in between."""
        return (self.lower_bound <= value) & (value <= self.upper_bound)

    def __repr__(self) -> str:
        return f"Between({self.lower_bound}, {self.upper_bound})"


class Image(constraints.Constraint):
    """What a bijection makes of a support, where no simpler description is at hand."""

    def __init__(self, base: Distribution, part: Bijection) -> None:
        self.base, self.part = base, part
        change = part.codomain.event_dim - part.domain.event_dim
        self._event_dim = max(part.codomain.event_dim, base.event_dim + change)
        super().__init__()

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """Dimensions of one event."""
        return self._event_dim

    def check(self, value: torch.Tensor) -> torch.Tensor:
        """Where the event that it was made of is in the base's support."""
        found: torch.Tensor = self.base.check(self.part.inv(value))
        extra = found.dim() - (value.dim() - self.event_dim)
        return found.flatten(-extra).all(dim=-1) if extra > 0 else found

    def __repr__(self) -> str:
        return f"{self.part} of {self.base}"


class InSupport(Messenger):
    """Give sites whose density does not know its moving support one that does, for Pyro's own samplers."""

    def _pyro_sample(self, msg: Site) -> None:
        if needs_guard(msg["fn"]):
            msg["fn"] = _Within(msg["fn"])


class _Within(dist.TorchDistribution):
    """A distribution whose log_prob is `log_density`."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Distribution) -> None:
        self.base_dist = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Support:
        return self.base_dist.support

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "_Within":
        return _Within(self.base_dist.expand(batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return log_density(self.base_dist, value)


def true_support(fn: Distribution) -> Support:
    """The support of fn: of a transformed distribution what the transforms make of the base's support.

    torch takes the last transform's codomain: the real line for 2 + Exponential. Raises: NotImplementedError
    for a distribution that states none.
    """
    if isinstance(fn, torch.distributions.Independent):
        return _independent(true_support(fn.base_dist), fn.reinterpreted_batch_ndims)
    if isinstance(fn, (dist.MaskedDistribution, ExpandedDistribution)):
        return true_support(fn.base_dist)
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        return _hull(fn.component_distribution)
    if isinstance(fn, dist.MaskedMixture):
        return _of_two(fn)
    if isinstance(fn, _CIRCULAR):
        return _independent(constraints.interval(-math.pi, math.pi), fn.event_dim)
    if isinstance(fn, dist.FoldedDistribution) or _takes_codomain(fn):
        return _pushed(fn)
    return fn.support


def data_support(fn: Distribution) -> Support:
    """`true_support`, but that an angle may be given in any turn."""
    return fn.support if isinstance(fn, _CIRCULAR) else true_support(fn)


def fixed_support(fn: Distribution) -> Support:
    """`true_support` in torch's own words where it has them. For bounds that are numbers, not under vmap."""
    return _simplest(true_support(fn))


def plain(support: Support) -> Support:
    """The constraint inside `independent`."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def bounds(support: Support) -> Ends | None:
    """The ends of a support of single numbers, infinite for none; None for another kind of support."""
    inner = plain(support)
    if isinstance(inner, _REAL):
        return -math.inf, math.inf
    found = getattr(inner, "lower_bound", None), getattr(inner, "upper_bound", None)
    if found == (None, None) or inner.is_discrete:
        return None
    return -math.inf if found[0] is None else found[0], math.inf if found[1] is None else found[1]


def log_density(fn: Distribution, value: torch.Tensor) -> torch.Tensor:
    """ln p(value), and -∞ outside the support, in fn's batch shape.

    With validation off, as a support that moves with the latents needs it, many densities go on outside as
    if they had no bounds: that of 2 + Exponential, a Pareto, a mixture of such.
    """
    if isinstance(fn, torch.distributions.Independent):
        return sum_rightmost(log_density(fn.base_dist, value), fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.MaskedDistribution) and fn._mask is not False:
        return scale_and_mask(log_density(fn.base_dist, value), mask=fn._mask)
    if isinstance(fn, ExpandedDistribution):
        batch = value.shape[: value.dim() - fn.event_dim]
        return log_density(fn.base_dist, value).expand(torch.broadcast_shapes(fn.batch_shape, batch))
    if isinstance(fn, torch.distributions.MixtureSameFamily) and _moves(fn.component_distribution):
        parts = log_density(fn.component_distribution, value.unsqueeze(-1 - len(fn.event_shape)))
        weights = torch.log_softmax(fn.mixture_distribution.logits, dim=-1)
        return torch.logsumexp(parts + weights, dim=-1)
    if isinstance(fn, _CIRCULAR) or not _moves(fn):  # an angle may be given in any turn
        found: torch.Tensor = fn.log_prob(value)
        return found
    return _inside(fn, true_support(fn), value)


def _inside(fn: Distribution, support: Support, value: torch.Tensor) -> torch.Tensor:
    """ln p where the value is in the support, which depends on parameters; else -∞, and no NaN in a slope."""
    inside, ends = support.check(value), bounds(support)
    if ends is not None:
        each = inside if inside.shape == value.shape else plain(support).check(value)
        value = torch.where(each, value, _points(ends, value)[0].detach().to(value.dtype))
    terms: torch.Tensor = fn.log_prob(value)
    return torch.where(inside, terms, -math.inf)


def _moves(fn: Distribution) -> bool:
    """Whether parameters are among the bounds of the support, and its density may not say so by itself."""
    if isinstance(fn, torch.distributions.Uniform):
        return False
    try:
        support = true_support(fn)
    except (NotImplementedError, AttributeError):  # as of the indices of a plate's subsample
        return False
    inner = plain(support)
    if inner.is_discrete:
        return False
    ends = bounds(inner)
    return isinstance(inner, Image) or any(isinstance(end, torch.Tensor) for end in ends or ())


def needs_guard(fn: Distribution) -> bool:
    """Whether `log_density` is another than the distribution's own where a support moves."""
    if isinstance(fn, (torch.distributions.Independent, dist.MaskedDistribution, ExpandedDistribution)):
        return needs_guard(fn.base_dist)
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        return _moves(fn.component_distribution)
    return not isinstance(fn, _CIRCULAR) and _moves(fn)


def _takes_codomain(fn: Distribution) -> bool:
    """Whether its support is what torch says of every transformed distribution, and not its class's own."""
    if not isinstance(fn, TransformedDistribution):
        return False
    return type(fn).support is TransformedDistribution.support


def _pushed(fn: Distribution) -> Support:
    support = true_support(fn.base_dist)
    shape = fn.base_dist.batch_shape + fn.base_dist.event_shape
    for part in _parts(fn.transforms):
        support = _image(support, part, shape)
        shape = part.forward_shape(shape)
    return _independent(support, len(fn.event_shape) - support.event_dim)


def _parts(transforms: Sequence[Bijection]) -> list[Bijection]:
    """The transforms one after the other, in the order in which they are applied."""
    found = []
    for part in transforms:
        if isinstance(part, ComposeTransform):
            found += _parts(part.parts)
        elif isinstance(part.inv, ComposeTransform):  # the inverse of several
            found += [inner.inv for inner in reversed(_parts(part.inv.parts))]
        else:
            found.append(part)
    return found


def _image(support: Support, part: Bijection, shape: Sequence[int]) -> Support:
    """What one transform makes of a support of values of this shape."""
    codomain = _MISSTATED.get(type(part), part.codomain)
    ends, single = bounds(support), _by_number(part)
    if isinstance(single, AbsTransform) and ends is not None:
        return _independent(_folded(*ends), support.event_dim)
    if isinstance(part, (CatTransform, StackTransform)):
        return _side_by_side(support, part, shape)
    if _covers(support, part.domain):
        return _independent(codomain, support.event_dim - part.domain.event_dim)
    if not part.bijective:
        return _independent(codomain, support.event_dim - part.domain.event_dim)
    if single is not None and ends is not None:
        return _independent(Between(*_moved(ends, single)), support.event_dim)
    return Image(support, part)


def _side_by_side(support: Support, part: Bijection, shape: Sequence[int]) -> Support:
    """Of transforms of neighbouring slices; their codomains where a slice is not bounded number by number."""
    ends, stacked = bounds(support), isinstance(part, StackTransform)
    found = []
    if ends is not None:
        sizes = [1] * len(part.transforms) if stacked else part.lengths
        lows, highs = (_number(end).expand(shape).split(sizes, dim=part.dim) for end in ends)
        found = [
            bounds(_image(Between(low, high), inner, low.shape))
            for low, high, inner in zip(lows, highs, part.transforms, strict=True)
        ]
    if not found or None in found:
        return _independent(part.codomain, support.event_dim - part.domain.event_dim)
    sides = (
        [_number(end).expand(low.shape) for end, low in zip(side, lows, strict=True)]
        for side in zip(*found, strict=True)
    )
    return _independent(Between(*(torch.cat(side, dim=part.dim) for side in sides)), support.event_dim)


def _by_number(part: Bijection) -> Bijection | None:
    """The transform of single numbers that it is, or None."""
    while isinstance(part, IndependentTransform):
        part = part.base_transform
    inner = part.inv if isinstance(part.inv, AffineTransform) else part
    if isinstance(inner, AffineTransform) or part.domain.event_dim == part.codomain.event_dim == 0:
        return part
    return None


def _covers(support: Support, domain: Support) -> bool:
    """Whether the support is all that the transform takes."""
    ends, wanted = bounds(support), bounds(domain)
    if ends is None or wanted is None:
        return type(plain(support)) is type(plain(domain))
    if any(isinstance(end, torch.Tensor) for end in (*ends, *wanted)):
        return False
    return ends[0] <= wanted[0] and wanted[1] <= ends[1]


def _moved(ends: Ends, part: Bijection) -> tuple[torch.Tensor, torch.Tensor]:
    """The ends after a monotone transform; an end of its domain goes to that of its codomain."""
    low, high = (_number(end) for end in ends)
    domain_low, domain_high = bounds(part.domain) or (-math.inf, math.inf)
    least, most = bounds(_MISSTATED.get(type(part), part.codomain)) or (-math.inf, math.inf)
    first, second = (_applied(part, point) for point in _points((low, high), low))
    rises = first <= second
    from_low, from_high = _applied(part, low), _applied(part, high)
    at_low, at_high = torch.where(rises, least, most), torch.where(rises, most, least)
    from_low = torch.where((low <= domain_low) | torch.isnan(from_low), at_low, from_low)
    from_high = torch.where((high >= domain_high) | torch.isnan(from_high), at_high, from_high)
    return torch.minimum(from_low, from_high), torch.maximum(from_low, from_high)


def _applied(part: Bijection, value: torch.Tensor) -> torch.Tensor:
    """The transform, past what it keeps of the last draw."""
    inverse = type(part)._call is Transform._call
    found: torch.Tensor = part.inv._inverse(value) if inverse else part._call(value)
    return found


def _points(ends: Ends, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two points inside, in order."""
    low, high = torch.broadcast_tensors(*(_number(end) for end in ends))
    below, above = torch.isfinite(low), torch.isfinite(high)
    start = torch.where(below, low, torch.where(above, high - 3, -1.5))
    width = torch.where(below & above, high - low, 3.0)
    return start + width / 3, start + 2 * width / 3


def _number(end: Number) -> torch.Tensor:
    return torch.as_tensor(end, dtype=torch.float64)


def _folded(low: Number, high: Number) -> Support:
    """The absolute values of what is between."""
    if (low, high) == (-math.inf, math.inf):
        return constraints.positive
    low, high = _number(low), _number(high)
    nearest = torch.where(low > 0, low, torch.where(high < 0, -high, 0.0))
    return Between(nearest, torch.maximum(low.abs(), high.abs()))


def _hull(component: Distribution) -> Support:
    """From the least to the largest number that a component of a mixture takes."""
    support = true_support(component)
    inner, ends = plain(support), bounds(support)
    while isinstance(inner, Image):
        inner, ends = inner.part.codomain, None
    if ends is None or not any(isinstance(end, torch.Tensor) for end in ends):
        return inner if inner.event_dim else _independent(inner, component.event_dim)
    dim, shape = -1 - component.event_dim, component.batch_shape + component.event_shape
    low, high = (_number(end).expand(shape) for end in ends)
    return _independent(Between(low.amin(dim), high.amax(dim)), component.event_dim)


def _of_two(fn: Distribution) -> Support:
    """Of a mixture by a mask: of the component that the mask takes."""
    ends = [bounds(true_support(part)) for part in (fn.component0, fn.component1)]
    if None in ends:
        return fn.support
    mask = fn.mask.reshape(fn.mask.shape + (1,) * fn.event_dim)
    low, high = (torch.where(mask, _number(b), _number(a)) for a, b in zip(*ends, strict=True))
    return _independent(Between(low, high), fn.event_dim)


def _independent(support: Support, dims: int) -> Support:
    return constraints.independent(support, dims) if dims > 0 else support


def _simplest(support: Support) -> Support:
    """Torch's own constraint for bounds that are alike in kind for all numbers."""
    if hasattr(support, "base_constraint"):
        return _independent(_simplest(support.base_constraint), support.reinterpreted_batch_ndims)
    if not isinstance(support, (Between, constraints.interval)):
        return support
    low, high = _number(support.lower_bound), _number(support.upper_bound)
    below, above = torch.isfinite(low), torch.isfinite(high)
    if not below.any() and not above.any():
        return constraints.real
    if below.all() and not above.any():
        return constraints.greater_than(low) if low.any() else constraints.positive
    if above.all() and not below.any():
        return constraints.less_than(high)
    if (below & above).all():
        return constraints.interval(low, high) if isinstance(support, Between) else support
    return Between(low, high)
