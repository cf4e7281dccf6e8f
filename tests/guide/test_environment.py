"""SDEPPL_BACKEND decides where every public entry point works that makes arrays of its own."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.backend import backend_of

D = torch.float64
Y = torch.tensor([1.5, 0.5], dtype=D)


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 0.7).to_event(1))
    pyro.sample("y", dist.Normal(2 * x, 0.4).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    found = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(found, draws=4_000).fit(0, progress=False)
    return found


@pytest.fixture(scope="module")
def saved(guide, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "p.safetensors"
    guide.condition(y=Y, backend="numpy").save(path)
    return path


ENTRY_POINTS = {
    "condition": lambda guide, path: guide.condition(y=Y).sample(4)["x"],
    "denoiser": lambda guide, path: guide.denoiser().location,
    "load_posterior": lambda guide, path: sp.load_posterior(path).sample(4)["x"],
    "FokkerPlanckGrid": lambda guide, path: sp.FokkerPlanckGrid(sp.VPSDE(), -3.0, 3.0, 31).density_of(
        lambda x: x[:, 0] ** 2
    ),
    "BrownianPath": lambda guide, path: sp.BrownianPath(0, stop=1.0, cells=4).increment(0.0, 0.5, (3,)),
}


@pytest.mark.parametrize("selector", ["numpy", "torch", "strict:device1"])
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_variable_is_honoured(name, selector, guide, saved, monkeypatch):
    monkeypatch.setenv("SDEPPL_BACKEND", selector)
    wanted = sp.resolve(selector)
    found = backend_of(ENTRY_POINTS[name](guide, saved))
    assert (found.name, found.device, found.dtype) == (wanted.name, wanted.device, wanted.dtype)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_what_is_unknown_or_unavailable_raises(name, guide, saved, monkeypatch):
    monkeypatch.setenv("SDEPPL_BACKEND", "jax")
    with pytest.raises(ValueError, match="SDEPPL_BACKEND='jax' names no backend"):
        ENTRY_POINTS[name](guide, saved)
    monkeypatch.setenv("SDEPPL_BACKEND", "torch:cuda:77")
    with pytest.raises(sp.BackendUnavailable, match="SDEPPL_BACKEND='torch:cuda:77'"):
        ENTRY_POINTS[name](guide, saved)


def test_arrays_of_two_backends_do_not_mix():
    mixed = np.ones((1, 2)), torch.ones(1, dtype=D)
    with pytest.raises(sp.BackendMismatch, match="y is of torch on cpu, expected numpy on cpu"):
        sp.LinearGaussian(*mixed, 0.5)
