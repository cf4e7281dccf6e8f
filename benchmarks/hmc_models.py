"""The models of hmc.py, in Pyro and in NumPyro, with their data and exact or published moments."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nile
import numpy as np
import pyro
import pyro.distributions as dist
import references
import torch

import sdeppl as sp

D = torch.float64
RHO = np.array([[1.0, 0.9], [0.9, 1.0]])
FILE = Path(__file__).resolve().parents[1] / "tests" / "references" / "inference_gym.json"
GYM = json.loads(FILE.read_text("utf-8"))
BRIDGE = np.array(GYM["brownian_bridge"]["observed"], dtype=float)  # None becomes NaN
INNOVATION, OBSERVATION = 0.1, 0.15
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """model(y) in Pyro, its data, columns of its draws, and their exact or published (mean, sd)."""

    model: Callable[..., None]
    y: Any
    columns: Callable[[Columns], Columns]
    exact: dict[str, tuple[Any, Any]]


def gaussian(y: torch.Tensor | None = None) -> None:
    """Standard normals with correlation .9; what is observed says nothing."""
    x = pyro.sample("x", dist.MultivariateNormal(torch.zeros(2, dtype=D), torch.from_numpy(RHO)))
    pyro.sample("y", dist.Normal(x.sum(), 1e6), obs=y)


def bridge(y: torch.Tensor | None = None) -> None:
    """inference-gym's Brownian motion of 30 steps, the middle ten not observed."""
    start = dist.Normal(torch.tensor(0.0, dtype=D), INNOVATION)
    locs = pyro.sample("locs", sp.SDEPath(sp.LinearSDE(a=0.0, b=INNOVATION), start, range(30)))
    pyro.sample("y", dist.Normal(locs, OBSERVATION).to_event(1), obs=y)


class RandomWalk(dist.TorchDistribution):
    """x_0 ~ N(0, scale), x_t ~ N(x_{t-1}, scale), for a scale that is latent; event shape (steps,)."""

    support = dist.constraints.real_vector

    def __init__(self, scale: torch.Tensor, steps: int) -> None:
        self.scale = scale
        super().__init__(event_shape=torch.Size([steps]), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """By cumulative sums."""
        noise = torch.randn((*sample_shape, *self.event_shape), dtype=self.scale.dtype)
        return self.scale * noise.cumsum(dim=-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Of the increments."""
        steps = torch.cat([value[..., :1], value[..., 1:] - value[..., :-1]], dim=-1)
        return dist.Normal(0.0, self.scale).log_prob(steps).sum(dim=-1)


def bridge_unknown_scales(y: torch.Tensor | None = None) -> None:
    """The same with both scales latent; the path centred, as published."""
    innovation = pyro.sample("innovation_noise_scale", dist.LogNormal(torch.tensor(0.0, dtype=D), 2.0))
    observation = pyro.sample("observation_noise_scale", dist.LogNormal(torch.tensor(0.0, dtype=D), 2.0))
    locs = pyro.sample("locs", RandomWalk(innovation, 30))
    pyro.sample("y", dist.Normal(locs, observation).to_event(1), obs=y)


def bridge_about_data(y: torch.Tensor | None = None) -> None:
    """The same posterior, with latents that keep their scale where one of the scales is small.

    The path is what the data say, interpolated, plus e times its standard deviation given its neighbours and
    its own observation; the walk's density is carried over to e.
    """
    innovation = pyro.sample("innovation_noise_scale", dist.LogNormal(torch.tensor(0.0, dtype=D), 2.0))
    observation = pyro.sample("observation_noise_scale", dist.LogNormal(torch.tensor(0.0, dtype=D), 2.0))
    seen = ~np.isnan(BRIDGE)
    centre = torch.from_numpy(np.interp(np.arange(30), np.flatnonzero(seen), BRIDGE[seen]))
    sd = (torch.from_numpy(seen) / observation**2 + 2 / innovation**2) ** -0.5
    to_e = dist.transforms.AffineTransform(-centre / sd, 1 / sd, event_dim=1)
    e = pyro.sample("e", dist.TransformedDistribution(RandomWalk(innovation, 30), [to_e]))
    locs = pyro.deterministic("locs", centre + sd * e)
    pyro.sample("y", dist.Normal(locs, observation).to_event(1), obs=y)


def gym_schools(y: torch.Tensor | None = None) -> None:
    """inference-gym's eight schools, centred, with its own priors."""
    effect = pyro.sample("avg_effect", dist.Normal(torch.tensor(0.0, dtype=D), 10.0))
    log_sd = pyro.sample("log_stddev", dist.Normal(torch.tensor(5.0, dtype=D), 1.0))
    with pyro.plate("schools", 8):
        effects = pyro.sample("school_effects", dist.Normal(effect, log_sd.exp()))
        pyro.sample("y", dist.Normal(effects, torch.from_numpy(references.ERRORS)), obs=y)


def lorenz_path(e: torch.Tensor) -> torch.Tensor:
    """x, y, z of inference-gym's Lorenz system by Euler-Maruyama, from standard normals; (..., 30, 3)."""
    given = GYM["convection_lorenz_bridge"]
    h, noise = given["step_size"], given["innovation_scale"] * math.sqrt(given["step_size"])
    path = [e[..., 0, :]]
    for k in range(1, 30):
        x, y, z = path[-1].unbind(dim=-1)
        slope = torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], dim=-1)
        path.append(path[-1] + h * slope + noise * e[..., k, :])
    return torch.stack(path, dim=-2)


def lorenz_bridge(y: torch.Tensor | None = None) -> None:
    """inference-gym's Lorenz system, of which x is seen; the path's noise as latents."""
    e = pyro.sample("e", dist.Normal(torch.zeros((30, 3), dtype=D), 1.0).to_event(2))
    locs = pyro.deterministic("locs", lorenz_path(e))
    scale = GYM["convection_lorenz_bridge"]["observation_scale"]
    pyro.sample("y", dist.Normal(locs[..., 0], scale).to_event(1), obs=y)


def published(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(mean, sd) by site of inference-gym's ground truth."""
    truth = GYM[name]["ground_truth"]
    return {site: (np.array(found["mean"]), np.array(found["sd"])) for site, found in truth.items()}


def exact_scales() -> dict[str, tuple[float, float]]:
    """Of the scales, on a grid of their logarithms: given these the observations are Gaussian."""
    seen = np.flatnonzero(~np.isnan(BRIDGE))
    variances, basis = np.linalg.eigh(np.minimum.outer(seen + 1.0, seen + 1.0))
    projected = basis.T @ BRIDGE[seen]
    innovation, observation = np.linspace(-7, 2, 601)[:, None], np.linspace(-12, 3, 1201)[None, :]
    log_p = -(innovation**2 + observation**2) / 8
    for variance, value in zip(variances, projected, strict=True):
        total = np.exp(2 * innovation) * variance + np.exp(2 * observation)
        log_p = log_p - 0.5 * np.log(total) - 0.5 * value**2 / total
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    return {
        "innovation_noise_scale": references.moments(p, np.exp(innovation) + 0 * observation),
        "observation_noise_scale": references.moments(p, np.exp(observation) + 0 * innovation),
    }


def problems() -> dict[str, Problem]:
    """By name."""
    flow = nile.observations()
    level = nile.kalman_smoother(flow)

    def whole(draws: Columns) -> Columns:
        return draws

    return {
        "eight schools": Problem(
            references.non_centred,
            references.tensor(references.EFFECTS),
            references.schools_columns,
            references.exact_schools(),
        ),
        "Gaussian, correlation .9": Problem(gaussian, torch.tensor(0.0, dtype=D), whole, {"x": (0.0, 1.0)}),
        "the Nile's level": Problem(nile.nile, flow, whole, {"level": (level.mean, level.sd)}),
        "Brownian bridge": Problem(bridge, BRIDGE, whole, published("brownian_bridge")),
        "Brownian bridge, unknown scales": Problem(bridge_unknown_scales, BRIDGE, whole, exact_scales()),
    }


def numpyro_models() -> dict[str, Callable[..., Any]]:
    """The same models for NumPyro; empty where it is not installed."""
    try:
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as nd
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)
    errors, flow = jnp.asarray(references.ERRORS), nile.observations()
    seen, known = ~np.isnan(flow), ~np.isnan(BRIDGE)
    step, noise = math.sqrt(nile.LEVEL_VARIANCE), math.sqrt(nile.NOISE_VARIANCE)

    def schools() -> None:
        mu = numpyro.sample("mu", nd.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", nd.HalfCauchy(5.0))
        with numpyro.plate("schools", 8):
            eta = numpyro.sample("eta", nd.Normal(0.0, 1.0))
            numpyro.sample("y", nd.Normal(mu + tau * eta, errors), obs=jnp.asarray(references.EFFECTS))

    def normal() -> None:
        numpyro.sample("x", nd.MultivariateNormal(jnp.zeros(2), jnp.asarray(RHO)))

    def level() -> None:
        x = numpyro.sample("level", nd.ImproperUniform(nd.constraints.real_vector, (), (100,)))
        numpyro.factor("path", nd.Normal(0.0, step).log_prob(jnp.diff(x)).sum())
        numpyro.factor("start", nd.Normal(1000.0, 500.0).log_prob(x[0]))
        numpyro.sample("y", nd.Normal(x[seen], noise), obs=jnp.asarray(flow[seen]))

    def walk(innovation: Any, observation: Any) -> None:
        locs = numpyro.sample("locs", nd.GaussianRandomWalk(innovation, 30))
        numpyro.sample("y", nd.Normal(locs[known], observation), obs=jnp.asarray(BRIDGE[known]))

    def unknown() -> None:
        innovation = numpyro.sample("innovation_noise_scale", nd.LogNormal(0.0, 2.0))
        walk(innovation, numpyro.sample("observation_noise_scale", nd.LogNormal(0.0, 2.0)))

    return {
        "eight schools": schools,
        "Gaussian, correlation .9": normal,
        "the Nile's level": level,
        "Brownian bridge": lambda: walk(INNOVATION, OBSERVATION),
        "Brownian bridge, unknown scales": unknown,
    }
