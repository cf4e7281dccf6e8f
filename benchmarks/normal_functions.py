"""The normal distribution's functions on NumPy arrays and torch tensors, which the Array API lacks."""

import math
from typing import Any

from array_api_compat import array_namespace, is_torch_array


def ndtr(x: Any) -> Any:
    """Φ(x)."""
    return _functions(x).ndtr(x)


def ndtri(p: Any) -> Any:
    """Φ⁻¹(p)."""
    return _functions(p).ndtri(p)


def mills(x: Any) -> Any:
    """(1 - Φ(x))/φ(x), with all its digits however large x."""
    return math.sqrt(math.pi / 2) * _functions(x).erfcx(x * math.sqrt(0.5))


def truncated_normal(a: Any, b: Any, z: Any) -> Any:
    """A standard normal cut to [a, b], a < b, from a standard normal z: F⁻¹(Φ(z)), rising in z.

    With the sign at which a + b ≥ 0: where a ≤ ½, by the normal's own quantiles. In the tail as the
    root of ln (1 - Φ(x))/(1 - Φ(a)) = ln ρ, ρ = 1 - Φ(z) (1 - e^{(a² - b²)/2} R(b)/R(a)), with Mills'
    ratio R(x) = (1 - Φ(x))/φ(x), by Newton's method; 5 steps from √(a² - 2 ln ρ) leave rounding.
    """
    xp = array_namespace(z)
    negative = a + b < 0
    a, b = xp.where(negative, -b, a), xp.where(negative, -a, b)
    z = xp.where(negative, -z, z)
    above, below = ndtr(-z), ndtr(z)
    central = -ndtri(xp.clip(ndtr(-a) * above + ndtr(-b) * below, 1e-30, 1.0))
    start = xp.clip(a, 0.5, None)  # keeps the branch that is not taken finite, and its gradient
    ratio = xp.exp(-0.5 * (b - start) * (b + start)) * mills(b) / mills(start)
    log_rho = xp.log(xp.clip(above + below * ratio, 1e-30, 1.0))
    root = xp.sqrt(start * start - 2 * log_rho)
    for _ in range(5):
        step = -0.5 * (root - start) * (root + start) + xp.log(mills(root) / mills(start)) - log_rho
        root = root + step * mills(root)
    found = xp.minimum(xp.maximum(xp.where(a > 0.5, root, central), a), b)
    return xp.where(negative, -found, found)


def _functions(x: Any) -> Any:
    if is_torch_array(x):
        import torch

        return torch.special
    from scipy import special

    return special
