"""Checking what was learned of a prior on draws held out of the fit: what of ε is left to be explained."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.special import gammaincc, psi

from ..backend import Array, Noise, place, to_host, whole_number
from ..denoisers import Denoiser
from ..linalg import FieldShape, LinearOperator, PathShape, Stationary
from ..posterior import FitCheck, Network
from ..sde import IsotropicSDE, log_snr_grid
from ..tracing import LatentSpace
from .field_moments import field_moments, path_moments, projections, seen_of, shared, whitened_in_place
from .gaussian_part import GaussianPart

LEVELS = 8
FIRST, LAST = 20.0, 0.05  # σ/α
FREQUENCIES = (1.0, 2.0)
SURE = 4.0  # standard errors
FAR = 0.02  # nats a number from which moments are no small error
LARGEST_PAIRED = 32  # numbers in x_0 up to which every pair of a residual and an input is tested
LARGEST_MULTIPLIED = 12  # up to which products of two numbers are
LARGEST_CHUNK = 10_000_000  # numbers in one array of functions
EACH = 3  # draws for each function, at least
ROUNDING = 1e-10
AT_ONCE = 2**22  # numbers that a denoiser is asked for together
LOOKED_AT = 4_096  # numbers of a field that stand for all where functions of each are tested
MODES = 512  # wavenumbers of a stationary field at which a network is tested besides
Pairs = Iterator[tuple[np.ndarray, np.ndarray, float]]


def check_fit(
    space: LatentSpace,
    gaussian: GaussianPart,
    denoiser: Denoiser,
    network: Network,
    z: torch.Tensor,
    seed: int,
    log_prior: torch.Tensor | None = None,
    fields: Mapping[str, FieldShape | PathShape] | None = None,
) -> FitCheck:
    """What draws z (draws, dim), which neither moments nor network have seen, say of either.

    denoiser: of the standardised latents. Of the Gaussian alone: in the coordinates in which it is N(0, I)
    and as near the latents' own as can be, draws have mean 0 and covariance I (`moments`; of the sites in
    `fields`, which have a grid, by `field_moments`), and ε - ε̂ at eight noise levels is orthogonal to all
    functions of x_t, of which those that are not linear speak of what is not Gaussian; of a field 4,096
    numbers, evenly over it, stand for all. Of a network: ε - ε̂ of its own score, linear functions counted.
    Nats are ∫ E|E[ε - ε̂ given x_t]|² dλ over λ = ln(α/σ) (Song, Durkan, Murray & Ermon 2021, theorem 1).
    log_prior: ln p(z) of the first rows where the prior has a density, whose mean excess over the Gaussian's
    is the divergence itself: it counts where it is more.
    """
    x, used = gaussian.standardise(z), network == "used"
    white = _White.of(gaussian, space, x, fields or {})
    moments = (0.0, 0.0) if used and (space.dim <= LARGEST_PAIRED or fields) else white.moments(gaussian)
    if used:
        white = white.with_modes()
        pairs = white.of_some(_of_denoiser(denoiser, x.numpy(), seed))
    else:
        pairs = _of_normal(white.seen(white.in_place), seed)
    weight = white.weight
    seen, noise, p = _departure(pairs, used, weight > 0)
    total, total_noise = float((weight * seen).sum()), math.sqrt(float(np.sum((weight * noise) ** 2)))
    # the largest of many is large by chance alone
    clear = seen - math.sqrt(2 * math.log(len(seen))) * noise
    worst = int(np.argmax(clear))
    if log_prior is not None and not used and white.is_full:
        divergence, error = _divergence(log_prior.numpy(), white, gaussian)
        beyond, error = divergence - moments[0], math.hypot(error, total_noise)
        if beyond - total > SURE * error:
            p = min(p, math.erfc((beyond - total) / error / math.sqrt(2)))
            total, total_noise = beyond, error
    place = worst if white.looked_at is None else int(white.looked_at[worst])
    between, between_sites = (0.0, "") if used else white.between(space)
    return FitCheck(
        network=network,
        draws=gaussian.draws,
        held_out=len(x),
        dim=white.dim,
        moments=moments[0],
        moments_noise=moments[1],
        departure=total,
        departure_noise=total_noise,
        p=p,
        worst=max(float(clear[worst]), total / white.dim),
        site=next(site.name for site in space.sites if place < site.stop),
        structure="" if gaussian.by_eigenvectors else gaussian.kinds,
        between=between,
        between_sites=between_sites,
    )


@dataclass(frozen=True)
class _White:
    """Draws in coordinates in which the fitted Gaussian is N(0, I).

    own (draws, rank): along its eigenvectors, or `in_place`; in_place (draws, dim): as near the latents' own
    as can be; looked_at: the numbers that stand for all, weight: for how many each; fields: of each site with
    a grid its place, its part of the covariance and its shape; plain: the places of the others. modes: of
    fields that are stationary the wavenumbers of most variance, which are looked at behind these numbers,
    with weight 0: what a network does not know of them is spread over too many numbers to be seen there.
    """

    own: np.ndarray
    in_place: np.ndarray
    looked_at: np.ndarray | None
    weight: np.ndarray
    x: torch.Tensor
    fields: tuple[tuple[slice, LinearOperator, FieldShape | PathShape], ...] = ()
    plain: np.ndarray | None = None
    is_full: bool = True
    modes: tuple[tuple[slice, Stationary, torch.Tensor], ...] = ()

    @classmethod
    def of(
        cls,
        gaussian: GaussianPart,
        space: LatentSpace,
        x: torch.Tensor,
        fields: Mapping[str, FieldShape | PathShape],
    ) -> "_White":
        if gaussian.by_eigenvectors:
            basis = gaussian.basis.numpy()
            own = (x.numpy() @ basis) / np.sqrt(gaussian.eigenvalues.numpy())
            full = own.shape[1] == space.dim
            return cls(own, own @ basis.T, None, np.ones(space.dim), x, is_full=full)
        in_place = whitened_in_place(gaussian.covariance, x).numpy()
        looked_at, weight, plain, held = [], [], [], []
        for site in space.sites:
            place, numbers = slice(site.start, site.stop), np.arange(site.start, site.stop)
            field = fields.get(site.name)
            if field is None:
                plain.append(numbers)
            else:
                held.append((place, gaussian.part(place), field))
                numbers = site.start + seen_of(field, LOOKED_AT).numpy()
            looked_at.append(numbers)
            weight.append(np.full(len(numbers), (site.stop - site.start) / len(numbers)))
        return cls(
            in_place, in_place, np.concatenate(looked_at), np.concatenate(weight), x, tuple(held),
            np.concatenate(plain) if plain else None, gaussian.has_density,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """Numbers that vary."""
        return self.own.shape[1]

    def moments(self, gaussian: GaussianPart) -> tuple[float, float]:
        """Nats of mean and covariance, and their standard error."""
        if self.looked_at is None:
            return _moments(self.own, gaussian.draws)
        found = list[tuple[float, float]]()
        for own, part, shape in self.fields:
            one = self.x[:, own]
            if isinstance(shape, PathShape):
                found.append(path_moments(one, part, shape))
            else:
                found.append(field_moments(one, part, shape))
        if self.plain is not None:
            found.append(_moments(self.in_place[:, self.plain], gaussian.draws))
        return sum(nats for nats, _ in found), math.hypot(*(noise for _, noise in found))

    def between(self, space: LatentSpace) -> tuple[float, str]:
        """Nats a number of what two sites share, beyond 4 standard errors, and which these are: of those that
        share most. The Gaussian part holds sites with a structure of their own to be independent."""
        if not self.fields:
            return 0.0, ""
        white, views = torch.as_tensor(self.in_place), {}
        held = {own.start: (own, part, shape) for own, part, shape in self.fields}
        for site in space.sites:
            columns = white[:, site.start : site.stop]
            if site.start in held:
                own, part, shape = held[site.start]
                views[site.name] = projections(columns, self.x[:, own], part, shape)
            else:
                views[site.name] = [columns]
        most, sites = 0.0, ""
        plain = {site.name for site in space.sites if site.start not in held}
        for (first, mine), (second, theirs) in combinations(views.items(), 2):
            if {first, second} <= plain:  # of which one covariance is held
                continue
            for nats, noise in (shared(a, b) for a in mine for b in theirs):
                if nats - SURE * noise > most:
                    most, sites = nats - SURE * noise, f"'{first}' and '{second}'"
        return most, sites

    def with_modes(self) -> "_White":
        """With wavenumbers among what is looked at."""
        modes = []
        for own, part, _ in self.fields:
            if isinstance(part, Stationary):
                values: Any = part.eigenvalues
                modes.append((own, part, values.argsort(descending=True)[:MODES]))
        if self.looked_at is None or not modes:
            return self
        numbers = [np.full(len(index), own.start) for own, _, index in modes]
        weight = np.concatenate([self.weight, *(0.0 * mode for mode in numbers)])
        return replace(
            self, looked_at=np.concatenate([self.looked_at, *numbers]), weight=weight, modes=tuple(modes)
        )

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Of rows (draws, dim) what is looked at."""
        if self.looked_at is None:
            return x
        parts = [x[:, self.looked_at[self.weight > 0]]]
        for own, part, index in self.modes:
            inside: Any = part.inside(torch.from_numpy(x[:, own]))
            parts.append(inside[:, index].numpy())
        return np.concatenate(parts, axis=1)

    def of_some(self, pairs: Pairs) -> Pairs:
        """Of what is looked at."""
        for residual, x, step in pairs:
            yield self.seen(residual), whitened(self.seen(x)) if self.modes else self.seen(x), step


def _divergence(log_p: np.ndarray, white: _White, gaussian: GaussianPart) -> tuple[float, float]:
    """E[ln p - ln N] over the first draws, N the fitted Gaussian, and its standard error."""
    determinant: Any = gaussian.covariance.logdet()
    deviations = gaussian.scale.log().sum() + determinant / 2
    constant = float(deviations) + white.dim * math.log(2 * math.pi) / 2
    ratio = log_p + constant + np.sum(white.own[: len(log_p)] ** 2, axis=1) / 2
    return float(ratio.mean()), float(ratio.std(ddof=1)) / math.sqrt(len(ratio))


def _moments(w: np.ndarray, fitted: int) -> tuple[float, float]:
    """KL(N(m, S) | N(0, I)) of the mean and covariance of what w (draws, rank) is drawn from, and its
    standard error where there is none.

    |m|²/2 + |S - I|²/4 without a draw's product with itself, of mean 0 where m = 0 and S = I. Where that is
    large (the moments of a few draws), (|m|² + tr S - rank - ln|S|)/2 instead, with ln|S| as of a covariance
    estimated from `fitted` normal draws.
    """
    draws, rank = w.shape
    square = np.sum(w**2, axis=1)
    products = w.T @ w - draws * np.eye(rank)
    own = float(np.sum(square**2 - 2 * square + rank))
    pairs = draws * (draws - 1)
    mean = float(np.sum(w.sum(axis=0) ** 2) - square.sum()) / pairs
    spread = (float(np.sum(products**2)) - own) / pairs
    noise = math.sqrt(rank / 2 + rank * (rank + 1) / 4) / draws
    small = mean / 2 + spread / 4
    if small < FAR * rank or fitted < rank + 2:
        return small, noise
    wishart = float(np.sum(psi((fitted - np.arange(1, rank + 1)) / 2))) + rank * math.log(2 / (fitted - 1))
    return (float(square.mean()) - rank + wishart) / 2, noise


def _departure(
    pairs: Pairs, linear: bool, counted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Nats by number, their standard errors, and the probability of as many by chance.

    counted: which count in the sum of all numbers, by default each.

    Under chance they are a sum of squares as of levels × functions, by number and of all numbers; of half
    as many, since levels share x_0.
    """
    seen = variance = np.zeros(())
    freedom = 0.0
    for residual, x, step in pairs:
        functions = [x, *(f(k * x) for k in FREQUENCIES for f in (np.sin, np.cos))]
        found, noise, functions_each = explained(residual, functions, linear)
        seen, variance = seen + step * found, variance + (step * noise) ** 2
        freedom += functions_each / 2
    noise = np.sqrt(variance)
    each = len(seen) * float(np.min(_tail(seen / np.maximum(noise, 1e-300), freedom)))
    some = slice(None) if counted is None else counted
    z = np.asarray(np.sum(seen[some]) / max(math.sqrt(np.sum(variance[some])), 1e-300))
    total = float(_tail(z, freedom * len(seen[some])))
    return seen, noise, min(1.0, 2 * min(each, total))


def _tail(z: np.ndarray, freedom: float) -> np.ndarray:
    """P(Z ≥ z) of a χ² of `freedom` in units of its standard deviation, from its mean."""
    return np.asarray(gammaincc(freedom / 2, np.maximum(freedom + z * math.sqrt(2 * freedom), 0.0) / 2))


def _of_denoiser(denoiser: Denoiser, x0: np.ndarray, seed: int) -> Pairs:
    """ε - ε̂, x_t in its standard deviations, and the step in ln(α/σ), level by level."""
    step = level_spacing(denoiser.sde, LEVELS)
    for pair in noised_levels(denoiser, x0, LEVELS, seed):
        guess = np.asarray(to_host(denoiser.eps(pair.x, pair.t)), float)
        yield pair.eps - guess, whitened(np.asarray(to_host(pair.x), float)), step


def _of_normal(w: np.ndarray, seed: int) -> Pairs:
    """The same of ε̂ = σ x_t, the score of N(0, I) where α² + σ² = 1."""
    rng = np.random.default_rng(seed)
    levels = np.geomspace(FIRST, LAST, LEVELS + 1)
    step = math.log(levels[0] / levels[1])
    for ratio in levels[1:]:
        alpha, sigma = 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)
        eps = rng.standard_normal(w.shape)
        x = alpha * w + sigma * eps
        yield eps - sigma * x, x, step


# ---- A denoiser with fresh pairs (x_0, ε) at noise levels, and what of ε functions of x_t still explain


@dataclass(frozen=True)
class Noised:
    """At time t: x_t (draws, dim) on the denoiser's backend, and x_0 and ε on the host, in float64."""

    t: float
    alpha: float
    sigma: float
    x: Array
    clean: np.ndarray
    eps: np.ndarray

    @property
    def noise_to_signal(self) -> float:
        """σ/α."""
        return self.sigma / self.alpha

    def guess(self, denoiser: Denoiser) -> np.ndarray:
        """ε̂ (draws, dim). Raises: FloatingPointError for NaN or infinity."""
        rows, count = max(1, AT_ONCE // self.x.shape[1]), self.x.shape[0]
        parts = (self.x[k : min(k + rows, count), ...] for k in range(0, count, rows))
        found = np.concatenate([np.asarray(to_host(denoiser.eps(part, self.t)), float) for part in parts])
        if not np.isfinite(found).all():
            raise FloatingPointError(f"the denoiser gives NaN or infinity at t = {self.t:.4g}")
        return found


def noised_levels(denoiser: Denoiser, x0: Array, levels: int, seed: int) -> Iterator[Noised]:
    """x_0 under fresh noise at levels evenly in ln(α/σ), from T to σ/α = 0.05. Raises: ValueError."""
    levels = whole_number("levels", levels, 1)
    backend, sde = denoiser.backend, denoiser.sde
    stream, clean = Noise(seed).stream(backend), place(x0, backend)
    host = np.asarray(to_host(clean), float)
    for k, t in enumerate(_times(sde, levels)):
        eps = stream.normal(k, tuple(clean.shape))
        alpha, sigma = sde.alpha_sigma(t)
        x = alpha * clean + sigma * eps + sde.shift(t)
        yield Noised(t, alpha, sigma, x, host, np.asarray(to_host(eps), float))


def _times(sde: IsotropicSDE, levels: int) -> list[float]:
    return log_snr_grid(sde, levels + 1, LAST)[1:-1] if levels > 1 else [0.5 * sde.T]


def level_spacing(sde: IsotropicSDE, levels: int) -> float:
    """The step in ln(α/σ) from one of two or more such levels to the next."""
    first, second = (sde.alpha_sigma(t) for t in _times(sde, levels)[:2])
    return math.log(first[1] / first[0]) - math.log(second[1] / second[0])


def whitened(x: np.ndarray) -> np.ndarray:
    """Each number of x (draws, dim) without its mean, in units of its standard deviation."""
    white: np.ndarray = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)
    return white


def explained(
    residual: np.ndarray, functions: Sequence[np.ndarray], linear: bool = True, products: bool = True
) -> tuple[np.ndarray, np.ndarray, int]:
    """How much of each number's E[r²] least squares on functions of x_t explain, less what chance would; its
    standard error where they explain nothing, two (dim,); and how many functions a number is told by.

    residual (draws, dim); functions: each (draws, dim), the first x_t. All functions of all numbers tell
    each, and if asked for products of x_t by pairs where they are few; from 33 numbers on, or
    of few draws, each its own.
    linear: whether 1 and x_t count, or only what is orthogonal to them.
    """
    count = residual.shape[1]
    pairs = [_products(functions[0])] if products and count <= LARGEST_PAIRED else []
    if count <= LARGEST_PAIRED and len(residual) >= EACH * sum(f.shape[1] for f in (*functions, *pairs)):
        known = np.concatenate([*functions, *pairs], axis=1)
        return _explained(residual, _orthonormal(known)[:, 0 if linear else 1 + count :])
    size = max(1, LARGEST_CHUNK // (len(functions) * len(residual)))
    seen, noise, each = np.zeros(count), np.zeros(count), 0
    for first in range(0, count, size):
        part = slice(first, first + size)
        known = np.stack([f[:, part].T for f in functions], axis=-1)
        basis = _orthonormal(known)[..., 0 if linear else 2 :]
        found, chance, each = _explained(residual[:, part].T[..., None], basis)
        seen[part], noise[part] = found[..., 0], chance[..., 0]
    return seen, noise, each


def _explained(residual: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Σ_{i≠j} r_i r_j b_i·b_j / draws for r (..., draws, numbers), b (..., draws, functions), orthonormal.

    Without a draw's product with itself the mean is 0 for whatever is orthogonal to the functions, also where
    the variance of what is left depends on them.
    """
    draws, functions = basis.shape[-2:]
    chance = np.sum(np.sum(basis**2, axis=-1)[..., None] * residual**2, axis=-2)
    total = np.sum((np.swapaxes(basis, -1, -2) @ residual) ** 2, axis=-2)
    return (total - chance) / draws, chance * math.sqrt(2 / max(functions, 1)) / draws, functions


def _orthonormal(functions: np.ndarray) -> np.ndarray:
    """1 and functions (..., draws, count) as orthonormal columns in that order; what is left of one that the
    earlier ones give is about zero."""
    known = np.concatenate([np.ones_like(functions[..., :1]), functions], axis=-1)
    scale = np.sqrt(np.sum(known**2, axis=-2, keepdims=True))
    known = known / np.where(scale > 0, scale, 1.0)
    products = np.swapaxes(known, -1, -2) @ known + ROUNDING * np.eye(known.shape[-1])
    basis: np.ndarray = known @ np.swapaxes(np.linalg.inv(np.linalg.cholesky(products)), -1, -2)
    return basis


def _products(x: np.ndarray) -> np.ndarray:
    """x_i x_j by pairs, of few numbers."""
    count = x.shape[1]
    first, second = np.triu_indices(count if count <= LARGEST_MULTIPLIED else 0, k=1)
    found: np.ndarray = x[:, first] * x[:, second]
    return found
