"""A posterior of a field and two numbers with a U-Net goes into a file and is drawn without torch."""

import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
N = 12


def model(y=None):
    level = pyro.sample("level", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
    field = pyro.sample("field", dist.Laplace(torch.full((N,), 3.0, dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(field[::3] + level, 0.5).to_event(1), obs=y)


@pytest.fixture(scope="module")
def posterior():
    """With weights far from zero, so that they matter."""
    layout = {"field": sp.Grid(periodic=True)}
    guide = sp.ScoreGuide(model, layout=layout, net=sp.UNet(width=4, depth=1))
    sp.ScoreMatching(guide, batch=64, draws=4_000).fit(2, progress=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in guide.net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    guide.use_net = True
    guide.forget()
    return guide.condition(y=np.array([4.0, 6.0, 3.0, 5.0]), likelihood="sda", correction=None, steps=20)


def test_the_same_draws_without_torch(posterior, tmp_path):
    """On NumPy in a process that never imports torch, to the rounding of float32 and four steps' growth."""
    pytest.importorskip("onnxruntime")
    posterior.save(tmp_path / "p")
    code = (
        "import sys, numpy as np, sdeppl as sp\n"
        f"run = sp.load_posterior({str(tmp_path / 'p')!r}, backend='numpy').run(20, seed=3)\n"
        f"np.savez({str(tmp_path / 'draws.npz')!r}, **run.draws)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)
    found, wanted = np.load(tmp_path / "draws.npz"), posterior.run(20, seed=3).draws
    assert set(found) == set(wanted) == {"level", "field"}
    for name, value in wanted.items():
        assert np.asarray(value).std() > 0.1
        np.testing.assert_allclose(found[name], np.asarray(value), rtol=2e-3, atol=2e-3)
