# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Black–Scholes: from a stochastic differential equation to implied parameters
#
# In the model of Black and Scholes (1973) a stock price follows geometric Brownian motion. Under the
# pricing measure it grows on average at the interest rate r,
#
#     dx = r x dt + σ x dW,
#
# and a call option with strike K, which pays max(x_T - K, 0) at time T, costs e^{-rT} E[max(x_T - K, 0)].
# The traded prices are known and σ is not: which volatility, and which rate, do the prices imply? Here
#
# 1. the SDE is solved, and prices from its paths are held against the closed form;
# 2. σ and r are latents of a Pyro model, and noisy quotes of a few strikes give their posterior;
# 3. the posterior is held against quadrature, and prices an option that nobody quoted.

# %%
import math
import os
import sys
from pathlib import Path

import matplotlib

if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp
from sdeppl.plots import COLOURS, Band

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

SPOT, EXPIRY = 100.0, 0.5  # price now, and half a year
TRUE_SIGMA, TRUE_RATE = 0.22, 0.03

# %% [markdown]
# ## The closed form
# C = x₀ Φ(d₁) - K e^{-rT} Φ(d₂), with d₁ = [ln(x₀/K) + (r + σ²/2) T]/(σ √T) and d₂ = d₁ - σ √T.


# %%
def call_price(sigma, rate, strikes):
    """Black–Scholes' price of calls, (..., strikes), for σ and r (...)."""
    sigma, rate = sigma[..., None], rate[..., None]
    spread = sigma * math.sqrt(EXPIRY)
    d1 = (torch.log(SPOT / strikes) + (rate + 0.5 * sigma**2) * EXPIRY) / spread
    normal = torch.special.ndtr
    return SPOT * normal(d1) - strikes * torch.exp(-rate * EXPIRY) * normal(d1 - spread)


# %% [markdown]
# ## From paths
# `solve` takes the SDE, a batch of starts and a grid; the arrays decide where it runs. Milstein's scheme
# has strong order 1. Its error can be seen path by path, since the exact solution is known as well:
# `exact` puts the same Brownian path's W_T through it.

# %%
number = 20_000 if quick else 200_000
sde = sp.GeometricBrownianMotion(mu=TRUE_RATE, sigma=TRUE_SIGMA)
x_init = SPOT * backend.xp.ones((number, 1), dtype=backend.dtype, device=backend.device)
times = sp.uniform_grid(0.0, EXPIRY, 50)
noise = sp.BrownianPath(seed=0, stop=EXPIRY, cells=50)
path = sp.solve(sde, x_init, times, solver=sp.Milstein(), noise=noise)
final = sp.to_host(path.states[-1, ...])[:, 0]
W = noise.increment(0.0, EXPIRY, (number, 1), backend)
exact_final = sp.to_host(sde.exact(x_init, 0.0, EXPIRY, W / math.sqrt(EXPIRY)))[:, 0]
scheme_error = np.sqrt(np.mean((final - exact_final) ** 2))
print(f"error of a path's last price with 50 steps of Milstein's scheme: {scheme_error:.4f} (rms)")
strikes = torch.tensor([80.0, 90.0, 95.0, 100.0, 105.0, 110.0, 120.0])
payoffs = math.exp(-TRUE_RATE * EXPIRY) * np.maximum(final[:, None] - strikes.numpy(), 0.0)
simulated, simulated_error = payoffs.mean(axis=0), payoffs.std(axis=0) / math.sqrt(number)
closed = call_price(torch.tensor(TRUE_SIGMA), torch.tensor(TRUE_RATE), strikes).numpy()
print(f"{'strike':>7} {'closed form':>12} {'from paths':>11} {'± ':>7}")
for row in zip(strikes.tolist(), closed, simulated, simulated_error, strict=True):
    print("{:7.0f} {:12.4f} {:11.4f} {:7.4f}".format(*row))

# %% [markdown]
# ## The model: which σ and which r do quotes imply?
# Quotes are the closed form plus noise of 5 cents. One strike has one implied volatility for each r; it
# takes several to tell σ and r apart, and they stay correlated. NaN marks a strike that is not quoted.

# %%
TICK = 0.05


def options(y=None):
    sigma = pyro.sample("sigma", dist.LogNormal(math.log(0.25), 0.5))
    rate = pyro.sample("rate", dist.Normal(0.02, 0.03))
    pyro.sample("y", dist.Normal(call_price(sigma, rate, strikes), TICK).to_event(1), obs=y)


generator = torch.Generator().manual_seed(1)
quotes = torch.as_tensor(closed) + TICK * torch.randn(7, generator=generator)
quotes[[0, 3, 6]] = torch.nan  # 80, 100 and 120 are not quoted

guide = sp.ScoreGuide(options, net=None)  # ln σ and r are normal: the Gaussian part is the prior
sp.ScoreMatching(guide, draws=20_000 if quick else 200_000).fit(steps=0)
posterior = guide.condition(y=quotes, backend=backend)
run = posterior.run(1_000 if quick else 4_000, seed=2)
print(run.diagnosis)

# %% [markdown]
# ## Against quadrature
# Two unknowns: sums over a grid of (ln σ, r) are exact to many digits.


# %%
def quadrature():
    """p(ln σ, r given the quotes) on a grid, with σ (n, 1), r (m,) and the mean and sd of both."""
    sigma = torch.exp(torch.linspace(math.log(0.19), math.log(0.25), 401))[:, None]
    rate = torch.linspace(-0.06, 0.12, 401)
    seen = ~torch.isnan(quotes)
    prices = call_price(*torch.broadcast_tensors(sigma, rate), strikes[seen])
    log_p = -0.5 * (((quotes[seen] - prices) / TICK) ** 2).sum(dim=-1)
    log_p = log_p - 0.5 * ((sigma.log() - math.log(0.25)) / 0.5) ** 2 - 0.5 * ((rate - 0.02) / 0.03) ** 2
    p = torch.exp(log_p - log_p.max())
    p = (p / p.sum()).numpy()
    moments = {}
    for name, values in (("sigma", sigma.numpy()), ("rate", rate.numpy())):
        mean = np.sum(p * values)
        moments[name] = sp.reference.Exact(mean, np.sqrt(np.sum(p * (values - mean) ** 2)))
    return sigma[:, 0].numpy(), rate.numpy(), p, moments


sigma_grid, rate_grid, p, exact = quadrature()
comparison = sp.compare(run.draws, exact)
for name, truth in (("sigma", TRUE_SIGMA), ("rate", TRUE_RATE)):
    found, error = exact[name], comparison[name].mean_error
    print(f"{name}: {found.mean:.4f} ± {found.sd:.4f} (true {truth}); sdeppl's mean is {error:.3f} sd off")

# %% [markdown]
# ## The picture
# Left: paths of the price. Middle: the posterior, a narrow ridge. Right: every strike's price less the
# true one. Between the quotes the posterior is sharper than the quotes are (their bars are one standard
# deviation, the band holds 90%).

# %%
draws = {name: torch.as_tensor(sp.to_host(value)) for name, value in run.draws.items()}
every_strike = torch.linspace(78.0, 122.0, 89)
true_price = call_price(torch.tensor(TRUE_SIGMA), torch.tensor(TRUE_RATE), every_strike)
band = Band.of_draws(call_price(draws["sigma"], draws["rate"], every_strike) - true_price)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 4), layout="constrained")
left.plot(times, sp.to_host(path.states[:, :60, 0]), color=COLOURS[0], linewidth=0.5, alpha=0.5)
left.set(xlabel="t, years", ylabel="price x", title="dx = r x dt + σ x dW")
middle.plot(draws["sigma"][:2000], draws["rate"][:2000], ".", color="0.6", markersize=2, label="sdeppl")
levels = np.sort(p.ravel())[::-1]
levels = [levels[np.searchsorted(np.cumsum(levels), share)] for share in (0.95, 0.5)]
middle.contour(sigma_grid, rate_grid, p.T, levels, colors=COLOURS[1], linewidths=1.4)
middle.plot([], [], color=COLOURS[1], label="quadrature, 50 and 95%")
middle.plot(TRUE_SIGMA, TRUE_RATE, "k*", markersize=10, label="true")
spans = [exact[name].mean + 4.5 * exact[name].sd * np.array([-1, 1]) for name in ("sigma", "rate")]
middle.set(xlabel="σ", ylabel="r", xlim=spans[0], ylim=spans[1], title="posterior of σ and r")
middle.legend(fontsize=8)
right.fill_between(every_strike, band.low, band.high, color=COLOURS[0], alpha=0.25, label="posterior, 90%")
right.plot(every_strike, band.mean, color=COLOURS[0], label="posterior mean")
right.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
right.errorbar(strikes, quotes - closed, TICK, fmt="ko", markersize=4, capsize=2, label="quotes ± 5 cents")
right.errorbar(
    strikes + 0.6,
    simulated - closed,
    2 * simulated_error,
    fmt="s",
    color=COLOURS[1],
    markersize=3,
    capsize=2,
    label="paths ± 2 standard errors",
)
right.set(xlabel="strike K", ylabel="price less the true price", title="prices of all strikes")
right.legend(fontsize=8)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "10_black_scholes.png", dpi=120)
print(f"figure: {os.path.relpath(output / '10_black_scholes.png')}")

# %%
assert scheme_error < 0.05, scheme_error  # Euler–Maruyama has 0.25
assert np.all(np.abs(simulated - closed) < 4 * simulated_error), (simulated, closed)
limit = 0.15 if quick else 0.08  # 4,000 draws: 0.016 standard deviations of noise
for name in ("sigma", "rate"):
    assert comparison[name].mean_error < limit, (name, comparison[name])
    assert comparison[name].sd_error < limit, (name, comparison[name])
