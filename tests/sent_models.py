"""Small models in a file, one for each way in which an observed site is read."""

import pyro
import pyro.distributions as dist
import torch

D = torch.float64
T = torch.arange(5.0, dtype=D)


def number(value):
    return torch.tensor(value, dtype=D)


def affine(y=None):
    x = pyro.sample("x", dist.Normal(number([1.0, -2.0]), number([2.0, 0.5])).to_event(1))
    pyro.sample("y", dist.Normal(x.sum().expand(3), 0.5).to_event(1), obs=y)


def bent(y=None):
    """Gaussian about a mean that is not affine, of a positive latent and a real one."""
    a = pyro.sample("a", dist.LogNormal(number(0.0), 0.7))
    b = pyro.sample("b", dist.Normal(number(0.0), 1.0))
    pyro.sample("y", dist.Normal(b * torch.exp(-a * T), 0.2).to_event(1), obs=y)


def counts(y=None):
    """A family of one predictor, of latents on an interval."""
    p = pyro.sample("p", dist.Beta(number([2.0, 3.0]), number([4.0, 3.0])).to_event(1))
    pyro.sample("y", dist.Poisson(5.0 * p[0] + p[1] * T).to_event(1), obs=y)


def shares(y=None):
    """Known by its density alone, of a latent on the simplex."""
    w = pyro.sample("w", dist.Dirichlet(number([2.0, 3.0, 4.0])))
    pyro.sample("y", dist.StudentT(4.0, 3.0 * w[0] * T, 0.5 + w[1]).to_event(1), obs=y)


def bound(y=None):
    """A hard constraint."""
    x = pyro.sample("x", dist.Normal(number([0.0, 1.0]), number([1.0, 2.0])).to_event(1))
    pyro.sample("y", dist.Delta(x.sum(-1, keepdim=True), event_dim=1), obs=y)


DATA = {
    affine: [1.0, -0.5, 0.2],
    bent: [1.0, 0.5, 0.2, 0.1, 0.0],
    counts: [1.0, 2.0, 0.0, 3.0, 2.0],
    shares: [0.1, 0.5, 1.2, 2.0, 2.2],
    bound: [0.7],
}
