"""The six tasks as Pyro models: a latent site "theta" and an observed site "y"."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from sbibm_tasks import (
    LINEAR_VARIANCE,
    MIXTURE_SCALES,
    MOON_OFFSET,
    MOON_RADIUS,
    MOON_WIDTH,
    SLCP_JITTER,
    Task,
    design_matrix,
    moons_log_likelihood,
)

SLCP_POINTS = 4


class TwoMoons(dist.TorchDistribution):
    """p(y | θ) of two_moons, θ (*batch, 2): a half ring round a point that folds the plane of θ."""

    arg_constraints = {"theta": dist.constraints.real_vector}
    support = dist.constraints.real_vector

    def __init__(self, theta: torch.Tensor, validate_args: bool | None = None) -> None:
        self.theta = theta
        super().__init__(theta.shape[:-1], theta.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "TwoMoons":
        return TwoMoons(self.theta.expand(*batch_shape, 2))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))[:-1]
        angle = math.pi * (torch.rand(shape, dtype=self.theta.dtype) - 0.5)
        radius = MOON_RADIUS + MOON_WIDTH * torch.randn(shape, dtype=self.theta.dtype)
        first, second = self.theta[..., 0], self.theta[..., 1]
        u = MOON_OFFSET + radius * torch.cos(angle) - torch.abs(first + second) / math.sqrt(2)
        return torch.stack([u, radius * torch.sin(angle) + (second - first) / math.sqrt(2)], dim=-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return moons_log_likelihood(self.theta, value)


def pyro_model(task: Task) -> Callable[..., Any]:
    """model(y=None) of the task."""
    likelihood = LIKELIHOODS[task.name]
    if task.covariance is None:
        prior: Any = dist.Uniform(-task.bound * torch.ones(task.dim), task.bound * torch.ones(task.dim))
        prior = prior.to_event(1)
    else:
        prior = dist.MultivariateNormal(torch.zeros(task.dim), torch.as_tensor(task.covariance()))

    def model(y: torch.Tensor | None = None) -> None:
        likelihood(pyro.sample("theta", prior), y)

    return model


def data(task: Task, y: np.ndarray) -> torch.Tensor:
    """y as the model's site "y" takes it."""
    values = torch.as_tensor(y, dtype=torch.get_default_dtype())
    return values.reshape(SLCP_POINTS, 2) if task.name == "slcp" else values


def _linear(theta: torch.Tensor, y: torch.Tensor | None) -> None:
    pyro.sample("y", dist.Normal(theta, math.sqrt(LINEAR_VARIANCE)).to_event(1), obs=y)


def _mixture(theta: torch.Tensor, y: torch.Tensor | None) -> None:
    scales = torch.tensor(MIXTURE_SCALES)[:, None]
    parts = dist.Normal(theta[..., None, :], scales).to_event(1)
    pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5])), parts), obs=y)


def _moons(theta: torch.Tensor, y: torch.Tensor | None) -> None:
    pyro.sample("y", TwoMoons(theta), obs=y)


def _slcp(theta: torch.Tensor, y: torch.Tensor | None) -> None:
    s, q = theta[2] ** 4, theta[3] ** 4
    covariance = theta[2] ** 2 * theta[3] ** 2 * torch.tanh(theta[4])
    # the Cholesky factor by hand: 1 - tanh² would lose its digits where the correlation nears 1
    determinant = s * q / torch.cosh(theta[4]) ** 2 + SLCP_JITTER * (s + q + SLCP_JITTER)
    first = torch.sqrt(s + SLCP_JITTER)
    second = torch.stack([covariance / first, torch.sqrt(determinant) / first])
    root = torch.stack([torch.stack([first, torch.zeros_like(first)]), second])
    with pyro.plate("points", SLCP_POINTS):
        pyro.sample("y", dist.MultivariateNormal(theta[:2], scale_tril=root), obs=y)


def _glm(theta: torch.Tensor, y: torch.Tensor | None) -> None:
    design = torch.as_tensor(design_matrix(), dtype=theta.dtype)
    pyro.sample("y", dist.Bernoulli(logits=design @ theta).to_event(1), obs=y)


LIKELIHOODS = {
    "gaussian_linear": _linear,
    "gaussian_linear_uniform": _linear,
    "gaussian_mixture": _mixture,
    "two_moons": _moons,
    "slcp": _slcp,
    "bernoulli_glm": _glm,
}
