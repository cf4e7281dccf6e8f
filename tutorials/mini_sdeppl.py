# %% [markdown]
# # The whole idea in one file
# To be read from top to bottom; it needs NumPy and nothing else (matplotlib for the picture).
#
# 1. A forward SDE carries data to noise: x_t = α x_0 + σ ε (`VPSDE`).
# 2. A denoiser guesses x_0 from x_t: m = E[x_0 | x_t], C = Cov[x_0 | x_t] (`Mixture`, `Learned`).
# 3. That is the score, by which time is reversed: noise becomes data (`sample`).
# 4. Data y enter by the mean likelihood l(y | x_t) = ∫ p(y | x_0) p(x_0 | x_t) dx_0 (`Observation`).
# 5. l is approximate; weights mend it: draws of p(x_0 | y), and ln p(y) (`posterior`).
#
# The library does the same for any Pyro model, any array library, likelihoods of every kind, and networks.

# %%
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# %% [markdown]
# ## 1. The forward SDE


# %%
@dataclass(frozen=True)
class VPSDE:
    """dx = -β/2 x dt + √β dW, β linear in t: α² = e^{-B}, σ² = 1 - α², B = ∫_0^t β (Song et al. 2021)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha_sigma(self, t):
        """α(t) and σ(t)."""
        B = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        return np.exp(-0.5 * B), np.sqrt(-np.expm1(-B))

    def times(self, steps, last=1e-3):
        """steps + 1 falling times, from 1 evenly in ln(σ/α) to σ/α = `last`, then 0."""
        alpha, sigma = self.alpha_sigma(1.0)
        ratio = np.geomspace(sigma / alpha, last, steps)
        B, slope = np.log1p(ratio**2), self.beta_max - self.beta_min
        return np.append(2 * B / (self.beta_min + np.sqrt(self.beta_min**2 + 2 * slope * B)), 0.0)


# %% [markdown]
# ## 2. Denoisers
# A denoiser is called with x (n, d) and t and returns m (n, d) and C (n, d, d). Tweedie's formulas tie both
# to the score: s = (α m - x)/σ², and C = σ²/α ∂m/∂x.


# %%
def gaussian(x, mean, covariance):
    """ln N(x; mean, covariance), by rows."""
    d = x.shape[-1]
    L = np.linalg.cholesky(covariance)
    white = np.linalg.solve(L, (x - mean)[..., None])[..., 0]
    log_det = np.sum(np.log(np.diagonal(L, axis1=-2, axis2=-1)), axis=-1)
    return -0.5 * np.sum(white**2, axis=-1) - log_det - 0.5 * d * np.log(2 * np.pi)


class Mixture:
    """x_0 ~ Σ_k w_k N(m_k, C_k), exactly; with one component, a Gaussian."""

    def __init__(self, sde, weights, means, covariances):
        self.sde, self.weights, self.means, self.covariances = sde, weights, means, covariances
        self.mean = weights @ means
        centred = means - self.mean
        self.covariance = np.tensordot(weights, covariances, 1) + (weights[:, None] * centred).T @ centred

    def __call__(self, x, t):
        alpha, sigma = self.sde.alpha_sigma(t)
        V = alpha**2 * self.covariances + sigma**2 * np.eye(x.shape[1])
        joint = np.log(self.weights) + gaussian(x[:, None], alpha * self.means, V)  # (n, k)
        share = np.exp(joint - joint.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        gain = alpha * self.covariances @ np.linalg.inv(V)
        each = self.means + np.einsum("kij,nkj->nki", gain, x[:, None] - alpha * self.means)
        m = np.einsum("nk,nki->ni", share, each)
        off = each - m[:, None]
        within = np.einsum("nk,kij->nij", share, self.covariances - alpha * gain @ self.covariances)
        return m, within + np.einsum("nk,nki,nkj->nij", share, off, off)

    def draw(self, n, rng):
        chosen = rng.choice(len(self.weights), n, p=self.weights)
        z = rng.standard_normal((n, self.means.shape[1]))
        return self.means[chosen] + np.einsum("nij,nj->ni", np.linalg.cholesky(self.covariances)[chosen], z)


class Learned:
    """From draws of x_0 alone: the best linear guess, and a network for what is left of it.

    The network has one hidden layer, cos(u ω + b) of the whitened x_t, with random ω; its last layer is
    fitted by least squares, one for each noise level: denoising score matching without a gradient step. At
    high noise every prior looks Gaussian, and the linear guess is left alone.
    """

    def __init__(self, sde, draws, times, rng, features=160, ridge=1e-4, highest=3.0):
        self.sde, self.mean, self.covariance = sde, draws.mean(axis=0), np.cov(draws.T)
        d = draws.shape[1]
        self.omega = rng.standard_normal((d, features)) * rng.uniform(0.5, 4.0, features)
        self.b = rng.uniform(0, 2 * np.pi, features)
        self.last_layer = {}
        for t in times:
            alpha, sigma = sde.alpha_sigma(t)
            if 0 < sigma < highest * alpha:
                x = alpha * draws + sigma * rng.standard_normal(draws.shape)
                linear, _, _, phase = self._parts(x, t)
                design = np.cos(phase)
                normal = design.T @ design + ridge * len(draws) * np.eye(features)
                self.last_layer[t] = np.linalg.solve(normal, design.T @ (draws - linear))

    def _parts(self, x, t):
        """The linear guess, its slope, the whitening, and what the hidden layer takes the cosine of."""
        alpha, sigma = self.sde.alpha_sigma(t)
        V = alpha**2 * self.covariance + sigma**2 * np.eye(x.shape[1])
        slope, whitening = alpha * self.covariance @ np.linalg.inv(V), np.linalg.inv(np.linalg.cholesky(V))
        centred = x - alpha * self.mean
        return self.mean + centred @ slope.T, slope, whitening, centred @ whitening.T @ self.omega + self.b

    def __call__(self, x, t):
        alpha, sigma = self.sde.alpha_sigma(t)
        m, slope, whitening, phase = self._parts(x, t)
        slope = np.broadcast_to(slope, (len(x), *slope.shape))
        if t in self.last_layer:
            W = self.last_layer[t]
            m = m + np.cos(phase) @ W
            slope = slope - np.einsum("fi,nf,fj->nij", W, np.sin(phase), self.omega.T @ whitening)
        C = sigma**2 / alpha * 0.5 * (slope + np.swapaxes(slope, 1, 2))
        values, vectors = np.linalg.eigh(C)  # a learned C need not be a covariance
        low, high = 1e-2 * sigma**2, np.linalg.eigvalsh(self.covariance)[-1] * 2
        return m, (vectors * np.clip(values, low, high)[:, None]) @ np.swapaxes(vectors, 1, 2)


# %% [markdown]
# ## 3. The reverse SDE


# %%
def step(sde, s, t, c=1.0):
    """x_t = decay x_s + first m(x_s) + noise z: dx = [f - (1 + c²)/2 g² score] dt + c g dW, s down to t.

    The linear part is solved exactly (DDIM for c = 0, the ancestral step for c = 1). c ≥ 0 is free.
    """
    (alpha_s, sigma_s), (alpha_t, sigma_t) = sde.alpha_sigma(s), sde.alpha_sigma(t)
    r, k = (alpha_s * sigma_t) / (sigma_s * alpha_t), c**2
    return sigma_t / sigma_s * r**k, alpha_t * (1 - r ** (1 + k)), sigma_t * np.sqrt(1 - r ** (2 * k))


def start(denoiser, n, rng):
    """x_T: at T the prior is noise, but for its mean and covariance."""
    alpha, sigma = denoiser.sde.alpha_sigma(1.0)
    L = np.linalg.cholesky(alpha**2 * denoiser.covariance + sigma**2 * np.eye(len(denoiser.mean)))
    return alpha * denoiser.mean + rng.standard_normal((n, len(L))) @ L.T


def sample(denoiser, n, times, rng, c=1.0):
    """Draws of the prior, (n, d)."""
    x = start(denoiser, n, rng)
    for s, t in itertools.pairwise(times):
        decay, first, noise = step(denoiser.sde, s, t, c)
        x = decay * x + first * denoiser(x, s)[0] + noise * rng.standard_normal(x.shape)
    return x


# %% [markdown]
# ## 4. The mean likelihood


# %%
@dataclass(frozen=True)
class Observation:
    """y = H x_0 + noise of covariance R."""

    H: np.ndarray
    y: np.ndarray
    R: np.ndarray

    def log_density(self, x):
        """ln p(y | x_0 = x)."""
        return gaussian(self.y, x @ self.H.T, self.R)

    def condition(self, m, C):
        """E and Cov of x_0 given x_t and y, and ln l(y | x_t), as if x_0 given x_t were N(m, C).

        l = N(y; H m, H C Hᵀ + R). To write N(y; H x_t, R) instead would be to take x_t for x_0.
        """
        CH = C @ self.H.T
        S = self.H @ CH + self.R
        gain = np.swapaxes(np.linalg.solve(S, np.swapaxes(CH, 1, 2)), 1, 2)
        guided = m + np.einsum("nij,nj->ni", gain, self.y - m @ self.H.T)
        return guided, C - gain @ np.swapaxes(CH, 1, 2), gaussian(self.y, m @ self.H.T, S)


# %% [markdown]
# ## 5. The posterior


# %%
def posterior(denoiser, observation, n, times, rng, corrected=True):
    """n draws of p(x_0 | y), ln p(y), and the smallest effective share of the weights on the way.

    Particles take guided steps; the weight of each is (unguided/guided density of the step) × l_t/l_s, so
    that in all they stand for unguided paths times p(y | x_0), whatever l was on the way (twisted sequential
    Monte Carlo). Where half of the particles count for nothing they are resampled. Both steps have mean *and
    covariance* of x_t given x_s right: for a Gaussian prior the weights stay even, with few steps too.
    """
    identity = np.eye(len(denoiser.mean))
    x = start(denoiser, n, rng)
    m, C = denoiser(x, times[0])
    m_y, C_y, log_l = observation.condition(m, C)
    log_w, log_evidence, worst = log_l.copy(), 0.0 if corrected else np.nan, 1.0
    for s, t in itertools.pairwise(times):
        decay, first, noise = step(denoiser.sde, s, t)
        V, V_y = noise**2 * identity + first**2 * C, noise**2 * identity + first**2 * C_y
        mean, mean_y = decay * x + first * m, decay * x + first * m_y
        z = rng.standard_normal(x.shape)
        x = mean_y + np.einsum("nij,nj->ni", np.linalg.cholesky(V_y), z)
        log_w += gaussian(x, mean, V) - gaussian(x, mean_y, V_y) - log_l
        if t > 0:
            m, C = denoiser(x, t)
            m_y, C_y, log_l = observation.condition(m, C)
        else:
            log_l = observation.log_density(x)
        log_w += log_l
        if not corrected:
            continue
        w = np.exp(log_w - log_w.max())
        share = w.sum() ** 2 / (w**2).sum() / n
        worst = min(worst, share)
        if share < 0.5 or t == 0:
            log_evidence += log_w.max() + np.log(w.mean())
            # systematic resampling: n evenly spaced pointers, one random shift
            chosen = np.searchsorted(np.cumsum(w) / w.sum(), (np.arange(n) + rng.random()) / n)
            chosen = np.minimum(chosen, n - 1)
            x, m, C, m_y, C_y, log_l = (values[chosen] for values in (x, m, C, m_y, C_y, log_l))
            log_w = np.zeros(n)
    return x, log_evidence, worst


# %% [markdown]
# ## The checks: a posterior that is known


# %%
def exact_posterior(prior, observation):
    """The posterior of a mixture, again a mixture, and ln p(y)."""
    k = len(prior.weights)
    m, C, log_l = observation.condition(prior.means, prior.covariances)
    joint = np.log(prior.weights) + log_l
    log_evidence = joint.max() + np.log(np.sum(np.exp(joint - joint.max())))
    return Mixture(prior.sde, np.exp(joint - log_evidence), m, C.reshape(k, *C.shape[1:])), log_evidence


def main():
    quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"
    rng, sde = np.random.default_rng(0), VPSDE()
    means = np.array([[-1.5, 1.5], [-0.5, -1.2], [0.8, 1.2], [1.6, -0.6]])
    prior = Mixture(sde, np.array([0.2, 0.3, 0.3, 0.2]), means, np.stack([0.08 * np.eye(2)] * 4))
    observation = Observation(np.array([[1.0, 0.0]]), np.array([0.2]), np.array([[0.1]]))
    truth, log_evidence = exact_posterior(prior, observation)
    number, times = (2_000, sde.times(50)) if quick else (8_000, sde.times(100))
    learned = Learned(sde, prior.draw(10_000 if quick else 50_000, rng), times, rng)
    found = {
        "exact": (truth.draw(number, rng), log_evidence, 1.0),
        "guided alone": posterior(prior, observation, number, times, rng, corrected=False),
        "corrected": posterior(prior, observation, number, times, rng),
        "learned from draws": posterior(learned, observation, number, times, rng),
    }
    for name, (x, evidence, share) in found.items():
        print(f"{name:20} x₂ > 0: {np.mean(x[:, 1] > 0):.3f}   ln p(y) {evidence:7.3f}   share {share:.2f}")
    draw(found, Path(__file__).parent / ("output/quick" if quick else "output"))
    upper = {name: np.mean(x[:, 1] > 0) for name, (x, _, _) in found.items()}
    assert abs(upper["guided alone"] - upper["exact"]) > 0.05
    assert abs(upper["corrected"] - upper["exact"]) < (0.08 if quick else 0.04)
    assert abs(found["corrected"][1] - log_evidence) < (0.1 if quick else 0.05)


def draw(found, output):
    """The draws side by side, in a picture in the folder `output`."""
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    figure, axes = plt.subplots(
        1, len(found), figsize=(12, 3.4), sharex=True, sharey=True, layout="constrained"
    )
    for panel, (name, (x, _, _)) in zip(axes, found.items(), strict=True):
        panel.plot(*x[:2_000].T, ".", markersize=2, alpha=0.6, color="#0072B2")
        panel.axhline(0.0, color="0.6", linewidth=0.8)
        panel.set(title=f"{name}: {np.mean(x[:, 1] > 0):.2f} above", xlabel="x₁, seen", xlim=(-2, 2.4))
    axes[0].set_ylabel("x₂, unseen")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "mini_sdeppl.png", dpi=120)


# %%
if __name__ == "__main__":
    main()
