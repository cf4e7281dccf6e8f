"""Checking what was learned of a prior on draws held out of the fit."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.special import gammaincc, psi

from ..backend import to_host
from ..denoisers import Denoiser
from ..posterior import FitCheck, Network
from ..tracing import LatentSpace
from .gaussian_part import GaussianPart
from .noised import LARGEST_PAIRED, explained, level_spacing, noised_levels, whitened

LEVELS = 8
FIRST, LAST = 20.0, 0.05  # σ/α
FREQUENCIES = (1.0, 2.0)
SURE = 4.0  # standard errors
FAR = 0.02  # nats a number from which moments are no small error


def check_fit(
    space: LatentSpace,
    gaussian: GaussianPart,
    denoiser: Denoiser,
    network: Network,
    z: torch.Tensor,
    seed: int,
    log_prior: torch.Tensor | None = None,
) -> FitCheck:
    """What draws z (draws, dim), which neither moments nor network have seen, say of either.

    denoiser: of the standardised latents. Of the Gaussian alone: in the coordinates in which it is N(0, I)
    and as near the latents' own as can be, draws have mean 0 and covariance I (`moments`), and ε - ε̂ at eight
    noise levels is orthogonal to all functions of x_t, of which those that are not linear speak of what is
    not Gaussian. Of a network: ε - ε̂ of its own score, linear functions counted. Nats are ∫ E|E[ε - ε̂ given
    x_t]|² dλ over λ = ln(α/σ) (Song, Durkan, Murray & Ermon 2021, theorem 1). log_prior: ln p(z) of the first
    rows where the prior has a density, whose mean excess over the Gaussian's is the divergence itself: it
    counts where it is more.
    """
    x = gaussian.standardise(z).numpy()
    basis = gaussian.basis.numpy()
    white = (x @ basis) / np.sqrt(gaussian.eigenvalues.numpy())
    used = network == "used"
    moments = (0.0, 0.0) if used and space.dim <= LARGEST_PAIRED else _moments(white, gaussian.draws)
    pairs = _of_denoiser(denoiser, x, seed) if used else _of_normal(white @ basis.T, seed)
    seen, noise, p = _departure(pairs, used)
    total, total_noise = float(seen.sum()), math.sqrt(float(np.sum(noise**2)))
    # the largest of many is large by chance alone
    clear = seen - math.sqrt(2 * math.log(len(seen))) * noise
    worst = int(np.argmax(clear))
    if log_prior is not None and not used and white.shape[1] == space.dim:
        divergence, error = _divergence(log_prior.numpy(), white, gaussian)
        beyond, error = divergence - moments[0], math.hypot(error, total_noise)
        if beyond - total > SURE * error:
            p = min(p, math.erfc((beyond - total) / error / math.sqrt(2)))
            total, total_noise = beyond, error
    return FitCheck(
        network=network,
        draws=gaussian.draws,
        held_out=len(x),
        dim=white.shape[1],
        moments=moments[0],
        moments_noise=moments[1],
        departure=total,
        departure_noise=total_noise,
        p=p,
        worst=max(float(clear[worst]), total / white.shape[1]),
        site=next(site.name for site in space.sites if worst < site.stop),
    )


def _divergence(log_p: np.ndarray, white: np.ndarray, gaussian: GaussianPart) -> tuple[float, float]:
    """E[ln p - ln N] over the first draws, N the fitted Gaussian, and its standard error."""
    deviations = gaussian.scale.log().sum() + gaussian.eigenvalues.log().sum() / 2
    constant = float(deviations) + white.shape[1] * math.log(2 * math.pi) / 2
    ratio = log_p + constant + np.sum(white[: len(log_p)] ** 2, axis=1) / 2
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
    pairs: Iterator[tuple[np.ndarray, np.ndarray, float]], linear: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Nats by number, their standard errors, and the probability of as many by chance.

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
    z = np.asarray(np.sum(seen) / max(math.sqrt(np.sum(variance)), 1e-300))
    total = float(_tail(z, freedom * len(seen)))
    return seen, noise, min(1.0, 2 * min(each, total))


def _tail(z: np.ndarray, freedom: float) -> np.ndarray:
    """P(Z ≥ z) of a χ² of `freedom` in units of its standard deviation, from its mean."""
    return np.asarray(gammaincc(freedom / 2, np.maximum(freedom + z * math.sqrt(2 * freedom), 0.0) / 2))


def _of_denoiser(
    denoiser: Denoiser, x0: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """ε - ε̂, x_t in its standard deviations, and the step in ln(α/σ), level by level."""
    step = level_spacing(denoiser.sde, LEVELS)
    for pair in noised_levels(denoiser, x0, LEVELS, seed):
        guess = np.asarray(to_host(denoiser.eps(pair.x, pair.t)), float)
        yield pair.eps - guess, whitened(np.asarray(to_host(pair.x), float)), step


def _of_normal(w: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """The same of ε̂ = σ x_t, the score of N(0, I) where α² + σ² = 1."""
    rng = np.random.default_rng(seed)
    levels = np.geomspace(FIRST, LAST, LEVELS + 1)
    step = math.log(levels[0] / levels[1])
    for ratio in levels[1:]:
        alpha, sigma = 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)
        eps = rng.standard_normal(w.shape)
        x = alpha * w + sigma * eps
        yield eps - sigma * x, x, step
