"""Observed sites of site_models as observations of standardised latents, and points to ask them at."""

from functools import cache

import numpy as np
import torch
from checks import array, host
from site_models import ALL, D, nan, own_log_prob, read, t, with_likelihood

from sdeppl.linalg import Spectral
from sdeppl.query import GaussianPart

C = torch.tensor([[1.0, 0.3, -0.2], [0.3, 1.0, 0.4], [-0.2, 0.4, 1.0]], dtype=D)
values, vectors = torch.linalg.eigh(C)
PART = GaussianPart(t(0.4, -0.3, 0.2), t(0.7, 1.5, 0.3), Spectral(vectors, values), 1000)
X = np.random.default_rng(5).normal(size=(6, 3))
Z = PART.location + PART.scale * torch.tensor(X)


def event(fn):
    """A model with independent numbers as one event."""
    return with_likelihood(lambda x: fn(x).to_event(len(fn(x).batch_shape)))


def expected_log_prob(model, **data):
    """The model's own at Z."""
    return torch.stack([own_log_prob(model, z, **data) for z in Z]).numpy()


@cache
def compiled(name, missing=False):
    """The sites of a model of site_models, and its own ln p at Z."""
    fn, y = ALL[name]
    y = [y[0], nan, y[2]] if missing else y
    model = event(fn)
    return read(model, y=y), expected_log_prob(model, y=y)


def log_prob(observation, backend, x=X):
    """Of an observation at X, on the host."""
    return host(observation.log_prob(array(x, backend)))
