# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Eight schools, centred and not
#
# Eight schools tried a coaching programme; each reports the effect on its pupils' test scores, y_j, and
# the standard error of that, σ_j (Rubin 1981; Gelman et al., *Bayesian Data Analysis*, section 5.5). How
# much of the differences between schools is real?
#
#     μ ~ N(0, 5²),   τ ~ HalfCauchy(5),   θ_j ~ N(μ, τ²),   y_j ~ N(θ_j, σ_j²)
#
# The posterior of (μ, τ, θ) is a funnel: where τ is small, the eight θ are tied to μ. This is the
# example on which everybody learns that the same model, written in another way, can be easy or hard to
# sample. Here you see:
#
# 1. the model written twice, *centred* (θ_j itself is a site) and *non-centred* (θ_j = μ + τ η_j);
# 2. `sp.reference.nuts` and `sp.reference.hmc` on both, each with its verdict in words;
# 3. the guide, and what its checks can and cannot tell;
# 4. all of them against the exact answer, which two integrals give here.

# %%
import os
import sys
import warnings
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
from sdeppl.plots import plot_corner

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # the arrays are small: threads would wait for each other
quick = os.environ.get("SDEPPL_TUTORIAL") == "quick"  # small settings, for the tests
backend = sp.resolve()  # from SDEPPL_BACKEND
print(f"backend: {backend}")

# %% [markdown]
# ## The model, twice
# Both say the same about μ, τ and θ. `[..., None]` lets all draws of the prior be made in one batch.

# %%
effects = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
errors = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def centred(y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    school = dist.Normal(mu[..., None], tau[..., None]).expand([*mu.shape, 8])
    theta = pyro.sample("theta", school.to_event(1))
    pyro.sample("y", dist.Normal(theta, errors).to_event(1), obs=y)


def non_centred(y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    eta = pyro.sample("eta", dist.Normal(torch.zeros(8), 1.0).to_event(1))
    theta = mu[..., None] + tau[..., None] * eta
    pyro.sample("y", dist.Normal(theta, errors).to_event(1), obs=y)


def effects_of(draws):
    """μ, τ and θ of draws of the non-centred model, as NumPy arrays."""
    mu, tau, eta = (sp.to_host(draws[name]) for name in ("mu", "tau", "eta"))
    return {"mu": mu, "tau": tau, "theta": mu[:, None] + tau[:, None] * eta}


# %% [markdown]
# ## The exact answer
# Given μ and τ everything is normal: y_j ~ N(μ, τ² + σ_j²), and E[θ_j | μ, τ, y] is a weighted mean of μ
# and y_j. So p(μ, ln τ | y) is known on a grid, and sums over it give every moment.


# %%
def exact_moments():
    """{site: (mean, standard deviation)} of μ, τ and θ, by quadrature over μ and ln τ."""
    y, variance = effects.numpy(), errors.numpy() ** 2
    mu = np.linspace(-35.0, 40.0, 751)[:, None]
    tau = np.exp(np.linspace(-9.0, 7.0, 801))
    log_p = -0.5 * (mu / 5.0) ** 2 + np.log(tau) - np.log1p((tau / 5.0) ** 2)
    for y_j, v_j in zip(y, variance, strict=True):
        log_p = log_p - 0.5 * np.log(tau**2 + v_j) - 0.5 * (y_j - mu) ** 2 / (tau**2 + v_j)
    p = np.exp(log_p - log_p.max())
    p = p / p.sum()

    def moments(mean, variance=0.0):
        first = np.sum(p * mean)
        return first, np.sqrt(np.sum(p * (variance + (mean - first) ** 2)))

    share = [tau**2 / (tau**2 + v_j) for v_j in variance]
    schools = [moments(mu + s * (y_j - mu), s * v_j) for s, y_j, v_j in zip(share, y, variance, strict=True)]
    return {
        "mu": moments(mu),
        "tau": moments(tau + 0.0 * mu),
        "theta": tuple(np.array([school[k] for school in schools]) for k in (0, 1)),
    }


exact = {site: sp.reference.Exact(*moments) for site, moments in exact_moments().items()}

# %% [markdown]
# ## NUTS and HMC
# `nuts` is Pyro's, chain after chain. `hmc` runs hundreds of chains in one batch. Each says in words
# whether to trust it: in the centred model the chains get stuck at the neck of the funnel.

# %%
found, verdicts = {}, {}
short = {"draws": 30, "warmup": 60} if quick else {"draws": 100, "warmup": 200}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", sp.reference.ChainWarning)  # we print the verdicts instead
    for model in (centred, non_centred):
        run = sp.reference.hmc(model, {"y": effects}, chains=128 if quick else 256, **short)
        verdicts[f"HMC, {model.__name__}"] = run.verdict
        found[f"HMC, {model.__name__}"] = effects_of(run.draws) if model is non_centred else run.draws
        if not quick:
            run = sp.reference.nuts(model, {"y": effects}, draws=600, warmup=300, chains=1, seed=1)
            verdicts[f"NUTS, {model.__name__}"] = run.verdict
for name, verdict in verdicts.items():
    print(f"{name}: {verdict}")

# %% [markdown]
# ## The guide
# It learns the prior of (μ, ln τ, η) from draws. μ and η are normal and ln τ is nearly so: the Gaussian
# part alone is already close, and a network must be trained for longer until it sees what is left.
# Then the eight effects come in. They are a nonlinear observation of the latents (τ times η), so there
# is no closed form, and twisted sequential Monte Carlo corrects for the approximation.

# %%
guide = sp.ScoreGuide(non_centred)
training = sp.ScoreMatching(guide)
training.fit(steps=20 if quick else 2_000)
kept = "kept" if training.gain.useful else "left out"
print(f"the network takes off {training.gain.mean:.5f} of the loss: {kept}")
posterior = guide.condition(y=effects, backend=backend, steps=50 if quick else 100)
run = posterior.run(1_000 if quick else 4_000, seed=1)
print(run.diagnosis)
found["sdeppl, non_centred"] = effects_of(run.draws)

# %% [markdown]
# ## Should I believe it?
# The diagnosis above judges the *guidance*, by its weights. It cannot see an error of the learned
# prior. Two things can: `sp.check_score(guide)`, which tests the score on fresh draws of the model, and
# another sampler. After 2,000 steps the check still finds the *bend* of ln τ's score: what the network
# has not learned yet. The table says what that costs: τ is 0.03 standard deviations off, of which the
# noise of the draws is 0.016. Train for only 20 steps and see: the network is left out, ln τ counts as
# normal, which its prior is not, and τ comes out about a tenth of a standard deviation off.

# %%
print(sp.check_score(guide, draws=4_096 if quick else 16_384))
table = {name: sp.compare(draws, exact) for name, draws in found.items()}
print(f"\n{'error against the exact moments':34}{'μ':>10}{'τ':>10}{'θ':>10}")
for name, errors_of in table.items():
    print(f"{name:34}" + "".join(f"{errors_of[s].mean_error:7.3f} sd" for s in ("mu", "tau", "theta")))

# %% [markdown]
# Try `sp.ScoreGuide(centred)` too. Its prior is a funnel with heavy tails, so there is far more to learn:
# after 3,000 steps μ was still 0.08 standard deviations off. The lesson for NUTS holds for the guide:
# write the model so that its prior is simple.
#
# ## The picture
# The mean effect, the spread between schools, and the schools with the largest and the smallest effect.
# 28 and -3 were reported; the posterior draws both towards the mean, since τ may well be small.

# %%
numbers = {"mu": "μ", "tau": "τ", "theta[0]": "θ₁ (28 reported)", "theta[2]": "θ₃ (−3 reported)"}
figure = plt.figure(figsize=(8, 8), layout="constrained")
plot_corner(
    figure,
    found["sdeppl, non_centred"],
    found["HMC, non_centred"],
    list(numbers),
    numbers,
    names=("sdeppl", "HMC, many chains"),
)
output = Path(__file__).parent / ("output/quick" if quick else "output")
output.mkdir(parents=True, exist_ok=True)
figure.savefig(output / "06_eight_schools.png", dpi=120)
print(f"figure: {os.path.relpath(output / '06_eight_schools.png')}")

# %%
limit = 0.2 if quick else 0.06  # 4,000 draws: 0.016 standard deviations of noise
for name in ("sdeppl, non_centred", "HMC, non_centred"):
    for site in ("mu", "tau", "theta"):
        assert table[name][site].mean_error < limit, (name, site, table[name][site])
        assert table[name][site].sd_error < 1.5 * limit, (name, site, table[name][site])
