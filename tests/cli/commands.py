"""A model in a file, and the command run in this process or as it is installed."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).parent / "sdeppl"

MODEL = """
import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp

D = torch.float64


def gaussian(y=None):  # prior N(1, 4) and N(-2, 4), y = 2 x + noise of sd 0.5
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 2.0).to_event(1))
    pyro.sample("y", dist.Normal(2 * x, 0.5).to_event(1), obs=y)


def scaled(slope=torch.tensor(2.0, dtype=D), y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 2.0).to_event(1))
    pyro.sample("y", dist.Normal(slope * x, 0.5).to_event(1), obs=y)


def mixture(y=None):
    parts = dist.Normal(torch.tensor([-2.0, 2.0], dtype=D), 0.5)
    x = pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7], dtype=D)), parts))
    pyro.sample("y", dist.Normal(x, 3.0), obs=y)


def broken(y=None):
    x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
    undefined_name(x)


class Simulated(dist.TorchDistribution):  # the mixture's draws, without their density
    arg_constraints, support, has_rsample = {}, dist.constraints.real, False

    def __init__(self):
        super().__init__(validate_args=False)

    def sample(self, sample_shape=()):
        low = torch.rand(sample_shape, dtype=D) < 0.3
        return torch.where(low, -2.0, 2.0) + 0.5 * torch.randn(sample_shape, dtype=D)


def simulated(y=None):
    pyro.sample("y", dist.Normal(pyro.sample("x", Simulated()), 3.0), obs=y)


small = sp.ScoreGuide(gaussian, net=None)
number = 3
"""


def installed(*words, cwd, **environment):
    """The entry point, as a user runs it."""
    return subprocess.run(
        [str(SCRIPT), *map(str, words)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
