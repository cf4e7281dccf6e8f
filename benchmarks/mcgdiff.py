"""MCGDiff (Cardoso et al. 2023) and DDRM (Kawar et al. 2022), from the published algorithms, as peers."""

from collections.abc import Callable

import numpy as np
from mixture_problems import Problem

import sdeppl as sp


def chain(sde: sp.IsotropicSDE, times: list[float], ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """α and σ from T to 0, with the levels σ/α = ratios among them."""
    levels = {sde.sigma(t) / sde.alpha(t) for t in times}
    levels |= {float(r) for r in ratios if 1e-3 < r < max(levels)}
    noise = np.array(sorted(levels, reverse=True))
    alpha = 1 / np.sqrt(1 + noise**2)
    return alpha, noise * alpha


def denoiser(problem: Problem, sde: sp.IsotropicSDE) -> Callable[[np.ndarray, float], np.ndarray]:
    """(x_t, σ/α) ↦ E[x_0 given x_t], for x_t = (x_0 + σ/α ε)/√(1 + σ²/α²); exact."""
    eye = np.broadcast_to(np.eye(problem.dim), (len(problem.weights), problem.dim, problem.dim))
    prior = sp.GaussianMixtureDenoiser(sp.EDMSDE(), problem.weights, problem.means, eye)
    return lambda x, noise: prior.mean(x * np.sqrt(1 + noise**2), noise)


def mcgdiff(problem: Problem, n: int, seed: int, sde: sp.IsotropicSDE, times: list[float]) -> np.ndarray:
    """One run of n particles, resampled at every step; n particles at the end.

    In the frame of A's singular vectors α_τ y'_i is distributed as coordinate i of x_τ, where σ_τ/α_τ =
    sd/s_i, so a noisy coordinate is an exact one at its own level τ_i. Until there particles are weighed by
    N(x_s; α_s y', σ_s² - α_s² sd²/s²), and move by the reverse step times that; from there on unguided.
    """
    rng = np.random.default_rng([seed, 7])
    V, s, y = problem.frame()
    ratios = problem.sd / s
    alpha, sigma = chain(sde, times, ratios)
    clean = denoiser(problem, sde)

    def spread(k: int) -> np.ndarray:
        """Variances of coordinates at level k about α_k y'; negative below their own level."""
        variances: np.ndarray = sigma[k] ** 2 - (alpha[k] * ratios) ** 2
        return np.where(np.abs(variances) < 1e-9 * sigma[k] ** 2, 0.0, variances)

    x = rng.standard_normal((n, problem.dim))
    seen = spread(0) > 0
    x = conditioned(x, 0 * x, 1.0, V[:, seen], alpha[0] * y[seen], spread(0)[seen], rng)
    for k in range(len(alpha) - 1):
        mean, scale = reverse_step(x, clean(x, sigma[k] / alpha[k]), alpha[k : k + 2], sigma[k : k + 2])
        seen = spread(k + 1) >= 0
        W, goal, now, then = V[:, seen], y[seen], spread(k)[seen], spread(k + 1)[seen]
        ahead, here = mean @ W - alpha[k + 1] * goal, x @ W - alpha[k] * goal
        log_weight = -0.5 * (ahead**2 / (scale**2 + then) - here**2 / now).sum(axis=1)
        weight = np.exp(log_weight - log_weight.max())
        mean = mean[rng.choice(n, size=n, p=weight / weight.sum())] if np.any(seen) else mean
        x = mean + scale * rng.standard_normal(x.shape)
        x = conditioned(x, mean, scale, W, alpha[k + 1] * goal, then, rng)
    return x


def conditioned(
    x: np.ndarray,
    mean: np.ndarray,
    scale: float,
    W: np.ndarray,
    goal: np.ndarray,
    variance: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """x ~ N(mean, scale² I) made a draw of N(x; mean, scale² I) N(Wᵀ x; goal, variance), normalised."""
    gain = scale**2 / (scale**2 + variance)
    centre = (1 - gain) * (mean @ W) + gain * goal
    along = centre + np.sqrt(variance * gain) * rng.standard_normal(centre.shape)
    return x + (along - x @ W) @ W.T


def reverse_step(
    x: np.ndarray, clean: np.ndarray, alpha: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, float]:
    """Mean and standard deviation of the ancestral step between two levels."""
    kept = (alpha[0] * sigma[1] / (alpha[1] * sigma[0])) ** 2
    residual = (x - alpha[0] * clean) / sigma[0]
    return alpha[1] * clean + sigma[1] * np.sqrt(kept) * residual, float(sigma[1] * np.sqrt(1 - kept))


def ddrm(
    problem: Problem,
    n: int,
    seed: int,
    sde: sp.IsotropicSDE,
    times: list[float],
    eta: float = 0.85,
    eta_b: float = 1.0,
) -> np.ndarray:
    """n independent draws, with the paper's η = .85 and η_b = 1.

    In x/α, whose noise is σ/α: coordinate i of the frame moves to y'_i where sd/s_i is below the next noise,
    and is pulled towards it where it is above; other directions take a step of DDIM.
    """
    rng = np.random.default_rng([seed, 8])
    V, s, y = problem.frame()
    ratios = problem.sd / s
    alpha, sigma = chain(sde, times, np.array([]))
    clean, noise = denoiser(problem, sde), sigma / alpha
    x = noise[0] * rng.standard_normal((n, problem.dim))
    above = np.sqrt(np.maximum(noise[0] ** 2 - ratios**2, 0))
    x = x + (y + above * rng.standard_normal((n, len(s))) - x @ V) @ V.T
    for k in range(len(noise) - 1):
        mean = clean(x / np.sqrt(1 + noise[k] ** 2), noise[k])
        then, z = noise[k + 1], rng.standard_normal(x.shape)
        keep = np.sqrt(1 - eta**2) * then
        moved = mean + keep * (x - mean) / noise[k] + eta * then * z
        guess, fresh = mean @ V, z @ V
        pulled = guess + keep * (y - guess) / ratios + eta * then * fresh
        spread = np.sqrt(np.maximum(then**2 - (eta_b * ratios) ** 2, 0))
        replaced = (1 - eta_b) * guess + eta_b * y + spread * fresh
        x = moved + (np.where(then >= ratios, replaced, pulled) - moved @ V) @ V.T
    return x
