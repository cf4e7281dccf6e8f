"""ln P(X ≤ v) and ln P(X > v) of univariate distributions, right in far tails, in torch."""

import math
from typing import Any

import pyro.distributions as dist
import torch

from .typing import Distribution


def has_tails(fn: Distribution) -> bool:
    """Whether `log_cdf` and `log_survival` know the distribution fn: continuous, with a cdf."""
    fn = _unwrapped(fn)
    if isinstance(fn, (torch.distributions.HalfNormal, torch.distributions.HalfCauchy)):
        return True
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return all(_is_monotone(part) for part in fn.transforms) and has_tails(fn.base_dist)
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        return has_tails(fn.component_distribution)
    return not fn.support.is_discrete and type(fn).cdf is not torch.distributions.Distribution.cdf


def log_cdf(fn: Distribution, value: torch.Tensor) -> torch.Tensor:
    """ln P(X ≤ value), elementwise and differentiable; value may be infinite."""
    return _log_tail(_unwrapped(fn), value, upper=False)


def log_survival(fn: Distribution, value: torch.Tensor) -> torch.Tensor:
    """ln P(X > value), elementwise and differentiable; value may be infinite."""
    return _log_tail(_unwrapped(fn), value, upper=True)


def log_between(fn: Distribution, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """ln P(low < X ≤ high), from the tail that both bounds lie in, else from both tails.

    In a tail the relative error of the probability is that of the difference of two logarithms.
    """
    below_low, below_high = log_cdf(fn, low), log_cdf(fn, high)
    above_low, above_high = log_survival(fn, low), log_survival(fn, high)
    half = -math.log(2)
    left, right = below_high < half, above_low < half
    empty = torch.isinf(below_high) | torch.isinf(above_low)
    tail = (left | right) & ~empty
    # where a branch is not taken it is given harmless numbers, since its gradient is computed too
    large = torch.where(tail, torch.where(left, below_high, above_low), 0.0)
    small = torch.where(tail, torch.where(left, below_low, above_high), -1.0)
    outside = torch.where(tail | empty, -1.0, torch.logaddexp(below_low, above_high))
    found = torch.where(tail, large + log1mexp(small - large), log1mexp(outside))
    return torch.where(empty, -math.inf, found)


def log1mexp(x: torch.Tensor) -> torch.Tensor:
    """ln(1 - e^x) for x ≤ 0. Source: Mächler, Accurately computing log(1 - exp(-|a|)), 2012."""
    near = x > -math.log(2)
    inner, outer = torch.where(near, x, -1.0), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(inner)), torch.log1p(-torch.exp(outer)))


def log_ndtr(x: torch.Tensor) -> torch.Tensor:
    """ln Φ(x), with its gradient; below -1 as ln(erfcx(-x/√2)/2) - x²/2.

    `vmap` has no rule for torch's own, and runs it number by number.
    """
    far = x < -1
    low, high = torch.where(far, x, -1.0), torch.where(far, -1.0, x)
    tail = torch.log(torch.special.erfcx(-low / math.sqrt(2)) / 2) - low**2 / 2
    return torch.where(far, tail, torch.log1p(-torch.special.erfc(high / math.sqrt(2)) / 2))


def _laplace(z: torch.Tensor) -> torch.Tensor:
    right = z > 0
    inner = torch.where(right, z, 1.0)
    return torch.where(right, torch.log1p(-0.5 * torch.exp(-inner)), z - math.log(2))


def _cauchy(z: torch.Tensor) -> torch.Tensor:
    return torch.log(torch.atan2(torch.ones_like(z), -z) / math.pi)


# ln of the cdf at z = (value - loc) / scale; the upper tail is the lower one at -z
_SYMMETRIC = (
    (torch.distributions.Normal, log_ndtr),
    (torch.distributions.Laplace, _laplace),
    (torch.distributions.Cauchy, _cauchy),
    (dist.Logistic, torch.nn.functional.logsigmoid),
)


def _log_tail(fn: Distribution, value: torch.Tensor, upper: bool) -> torch.Tensor:
    """Beyond the support, and at infinity, the probability is 0 or 1; inside it the family says."""
    low, high = _bounds(fn)
    under, over = value <= low, value >= high
    beyond = under | over
    inside = torch.where(beyond, _middle(low, high), value)
    none, all_of_it = (over, under) if upper else (under, over)
    found = torch.where(beyond, 0.0, _inside(fn, inside, upper))
    return torch.where(none, -math.inf, torch.where(all_of_it, 0.0, found))


def _inside(fn: Distribution, value: torch.Tensor, upper: bool) -> torch.Tensor:
    for family, log_tail in _SYMMETRIC:
        if isinstance(fn, family):
            z = (value - fn.loc) / fn.scale
            return log_tail(-z if upper else z)
    if isinstance(fn, torch.distributions.Exponential):
        return -fn.rate * value if upper else torch.log(-torch.expm1(-fn.rate * value))
    if isinstance(fn, (torch.distributions.HalfNormal, torch.distributions.HalfCauchy)):
        survival = math.log(2) + _log_tail(_unwrapped(fn.base_dist), value, upper=True)
        return survival if upper else log1mexp(survival)
    if isinstance(fn, torch.distributions.TransformedDistribution):
        return _transformed(fn, value, upper)
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        parts = _log_tail(_unwrapped(fn.component_distribution), value.unsqueeze(-1), upper)
        return torch.logsumexp(parts + torch.log_softmax(fn.mixture_distribution.logits, -1), dim=-1)
    return torch.log1p(-fn.cdf(value)) if upper else torch.log(fn.cdf(value))


def _transformed(fn: Distribution, value: torch.Tensor, upper: bool) -> torch.Tensor:
    base, sign = _unwrapped(fn.base_dist), 1
    for part in reversed(fn.transforms):
        value, sign = part.inv(value), sign * part.sign
    if isinstance(sign, int):
        return _log_tail(base, value, upper if sign > 0 else not upper)
    return torch.where(sign > 0, _log_tail(base, value, upper), _log_tail(base, value, not upper))


def _bounds(fn: Distribution) -> tuple[Any, Any]:
    support: Any = getattr(fn, "support", None)
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)


def _middle(low: object, high: object) -> torch.Tensor:
    """Some number inside the bounds."""
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    left = torch.where(torch.isinf(low), torch.where(torch.isinf(high), -1.0, high - 2.0), low)
    return 0.5 * (left + torch.where(torch.isinf(high), left + 2.0, high))


def _is_monotone(part: Any) -> bool:
    try:
        return part.domain.event_dim == 0 and part.sign is not None
    except NotImplementedError:
        return False


def _unwrapped(fn: Distribution) -> Distribution:
    """What lies inside `mask` and `expand`."""
    while isinstance(fn, (dist.MaskedDistribution, dist.torch_distribution.ExpandedDistribution)):
        fn = fn.base_dist
    return fn
