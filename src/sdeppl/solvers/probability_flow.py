"""The probability-flow ODE with its divergence, exact or by random probes."""

from collections.abc import Callable

from array_api_compat import device

from ..backend import Array, Noise, array_namespace, backend_of, jvp
from ..sde import SDE, ReverseSDE

PROBES = 2**15  # index of the probes' normals, which no start and no step draws
AT_ONCE = 64  # directions of which Jacobian–vector products are taken together


def trace(product: Callable[[Array], Array], x: Array, probes: Array | None = None) -> Array:
    """tr A of one matrix A for each row of x (..., dim), from its products alone.

    product: v ↦ A v, row by row, for v like x. probes None: Σ_i e_iᵀ A e_i, exact, dim products,
    (..., 1). probes (n, ..., dim), each with mean 0 and identity covariance: Hutchinson's vᵀ A v of
    each, n products, (..., n), whose mean over the probes is tr A. Source: Hutchinson 1989;
    Grathwohl et al. 2019 (FFJORD), section 3.1.
    """
    xp = array_namespace(x)
    if probes is not None:
        estimates = [
            xp.sum(probes[k, ...] * product(probes[k, ...]), axis=-1) for k in range(probes.shape[0])
        ]
        return xp.stack(estimates, axis=-1)
    identity = xp.eye(x.shape[-1], dtype=x.dtype, device=device(x))
    total = xp.zeros(x.shape[:-1], dtype=x.dtype, device=device(x))
    for i in range(x.shape[-1]):
        total = total + product(xp.broadcast_to(identity[i, :], x.shape))[..., i]
    return total[..., None]


def divergence(field: Callable[[Array], Array], x: Array, probes: Array | None = None) -> Array:
    """∇·F at x (batch, dim), for a field F of each row alone; (batch, 1) or (batch, n) as in `trace`.

    The Jacobian's products come from the backend: exact in torch, else by central differences; of
    several directions at once, as rows of a larger batch.
    """
    xp, (batch, dim) = array_namespace(x), x.shape
    if probes is None:
        identity = xp.eye(dim, dtype=x.dtype, device=device(x))
        probes = xp.broadcast_to(identity[:, None, :], (dim, batch, dim))
        return xp.sum(_quadratic(field, x, probes), axis=-1, keepdims=True)
    return _quadratic(field, x, probes)


def _quadratic(field: Callable[[Array], Array], x: Array, directions: Array) -> Array:
    """vᵀ (∂F/∂x) v for directions v (n, batch, dim): (batch, n)."""
    xp, dim, count, found = array_namespace(x), x.shape[1], directions.shape[0], []
    for first in range(0, count, AT_ONCE):
        v = directions[first : min(first + AT_ONCE, count), ...]
        rows = xp.reshape(xp.broadcast_to(x, v.shape), (-1, dim))
        slopes = jvp(field, rows, xp.reshape(v, (-1, dim)))
        found.append(xp.sum(v * xp.reshape(slopes, v.shape), axis=-1))
    return xp.concat(found, axis=0).T


def rademacher(seed: int, count: int, like: Array) -> Array:
    """Independent signs ±1, (count, batch, dim) for x (batch, dim).

    The same for a seed on every backend, and for the first rows whatever the batch size. Of all
    probes with independent components they give the trace with the least variance.
    """
    xp = array_namespace(like)
    shape = (like.shape[0], count, like.shape[1])
    normals = Noise(seed).stream(backend_of(like)).normal(0, shape, PROBES)  # not those of a start
    return xp.permute_dims(xp.where(normals < 0, -xp.ones_like(normals), xp.ones_like(normals)), (1, 0, 2))


class AugmentedFlow(SDE):
    """An ODE dz = F du for x in coordinates z, with dℓ = ∇·F du: states (z, ℓ), (..., dim + n).

    Along it ln p_s(x_s) - ln p_t(x_t) = ∫ ∇·F du + dim (ln scale(t) - ln scale(s)). ℓ has one column
    for the exact divergence, or one for each probe of Hutchinson's estimate. Coordinates are x and t
    themselves unless a subclass says otherwise. `evaluations`: of the score, that making it took.
    """

    noise = "additive"
    evaluations = 0

    def level(self, t: float) -> float:
        """u at t."""
        return t

    def scale(self, t: float) -> float:
        """(|∂x/∂z|)^{1/dim} at t."""
        return 1.0

    def enter(self, x: Array, t: float) -> Array:
        """z of x at t."""
        return x

    def leave(self, z: Array, t: float) -> Array:
        """x of z at t."""
        return z

    def diffusion(self, x: Array, t: float) -> float:
        return 0.0

    def deterministic(self, s: float, t: float) -> bool:
        return True


class ProbabilityFlow(AugmentedFlow):
    """dx = F(x, t) dt with F = f - ½ (∇·G + G s), which carries the marginals of a forward SDE.

    reverse: gives forward SDE and score; its c is of no account. probes (n, ..., dim), or None for
    the exact divergence, both from the Jacobian of F. Source: Song et al. 2021 (Score-based
    generative modeling through SDEs), eq. 37 and 39; Chen et al. 2018 (Neural ODEs), eq. 8.
    """

    def __init__(self, reverse: ReverseSDE, dim: int, probes: Array | None = None) -> None:
        self.flow = ReverseSDE(reverse.forward, reverse.denoiser, 0.0)
        self.dim = dim
        self.probes = probes

    def drift(self, x: Array, t: float) -> Array:
        place = x[..., : self.dim]
        rate = divergence(lambda y: self.flow.drift(y, t), place, self.probes)
        return array_namespace(x).concat([self.flow.drift(place, t), rate], axis=-1)
