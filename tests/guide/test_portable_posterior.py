"""Posteriors saved to a file, and sampled again without torch and Pyro."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import host

import sdeppl as sp

D = torch.float64
EXPOSURE = torch.tensor([1.0, 2.0, 3.0], dtype=D)


def model(y=None, counts=None):
    """Supports of four kinds, a heavy tail, a plate, and two observed sites."""
    level = pyro.sample("level", dist.Normal(torch.tensor(2.0, dtype=D), 3.0))
    scale = pyro.sample("scale", dist.LogNormal(torch.tensor(0.3, dtype=D), 0.5))
    share = pyro.sample("share", dist.Uniform(torch.tensor(-2.0, dtype=D), 5.0))
    heavy = pyro.sample("heavy", dist.StudentT(torch.tensor(1.5, dtype=D), 1.0, 2.0))
    with pyro.plate("three", 3):
        field = pyro.sample("field", dist.Normal(0.5 * level, torch.tensor(1.0, dtype=D)))
        pyro.sample("y", dist.Normal(field + 2.0, torch.tensor(0.4, dtype=D)), obs=y)
        pyro.sample("counts", dist.Poisson(torch.exp(0.3 * field) * EXPOSURE), obs=counts)
    return scale, share, heavy


DATA = {"y": torch.tensor([3.0, 2.0, 4.5], dtype=D), "counts": torch.tensor([1.0, 3.0, 2.0], dtype=D)}


@pytest.fixture(scope="module")
def guide():
    """A network that is kept whatever it gained: far from zero, so that it matters."""
    guide = sp.ScoreGuide(model, seed=3)
    sp.ScoreMatching(guide, draws=20_000, seed=3).fit(steps=30, progress=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in guide.net.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    guide.net, guide.use_net = guide.net.double(), True
    guide.forget()
    return guide


CASES = {
    "both sites": (DATA, {"steps": 20}),
    "one Gaussian site": ({"y": DATA["y"]}, {"steps": 30}),
    "uncorrected": ({"y": DATA["y"]}, {"likelihood": "pigdm", "correction": None}),
    "tempered": ({"y": DATA["y"]}, {"correction": sp.TemperedSMC(16, moves=2), "steps": 20}),
}


def without_model(posterior):
    """As a file has it: 'auto' knows no density but what was learned."""
    solved = posterior.arrays
    arrays = sp.Posterior(
        solved.prior, solved.observation, solved.asked_for[0], solved.steps, correction=solved.asked_for[1]
    )
    return replace(posterior, arrays=arrays)


def test_a_file_has_no_model_and_says_so(guide, tmp_path):
    with pytest.warns(UserWarning, match="does not hold the model"):
        guide.condition(DATA).save(tmp_path / "p.safetensors")
    with pytest.raises(TypeError, match="HamiltonianMC follows the model's density"):
        guide.condition(DATA, correction=sp.HamiltonianMC()).save(tmp_path / "p.safetensors")


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning", "ignore::sdeppl.ApproximateWarning")
@pytest.mark.parametrize(
    "case", [c if c != "tempered" else pytest.param(c, marks=pytest.mark.once) for c in CASES]
)
def test_the_file_gives_the_same_draws(case, guide, tmp_path, precise):
    """Of the posterior that was saved, which runs the torch module: 1e-9, on every backend."""
    data, settings = CASES[case]
    posterior = without_model(guide.condition(data, backend="numpy", **settings))
    posterior.save(tmp_path / "p.safetensors")
    selector = {"numpy": "numpy", "torch": "torch", "cupy": "cupy", "strict": "strict:device1"}[precise.name]
    loaded = sp.load_posterior(tmp_path / "p.safetensors", selector)
    assert (loaded.backend.name, loaded.backend.dtype) == (precise.name, precise.dtype)
    wanted, found = posterior.run(20, seed=5), loaded.run(20, seed=5)
    assert set(found.draws) == {"level", "scale", "share", "heavy", "field"}
    for name, values in wanted.draws.items():
        assert tuple(found.draws[name].shape) == values.shape
        np.testing.assert_allclose(host(found.draws[name]), values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert found.diagnosis.ess == pytest.approx(wanted.diagnosis.ess, rel=1e-9)
    assert found.diagnosis.why == wanted.diagnosis.why


def test_constraints_and_families_come_back(tmp_path):
    """Kept as they were: a hard constraint beside a Bernoulli site with missing values."""

    def mixed(total=None, flags=None):
        x = pyro.sample("x", dist.Normal(torch.ones(3, dtype=D), 2.0).to_event(1))
        pyro.sample("flags", dist.Bernoulli(logits=x).to_event(1), obs=flags)
        pyro.sample("total", dist.Delta(x.sum()), obs=total)

    guide = sp.ScoreGuide(mixed, net=None)
    sp.ScoreMatching(guide, draws=20_000).fit(steps=0)
    flags = torch.tensor([1.0, float("nan"), 0.0], dtype=D)
    posterior = guide.condition(total=torch.tensor(4.0, dtype=D), flags=flags, backend="numpy")
    posterior.save(tmp_path / "p.safetensors")
    found = sp.load_posterior(tmp_path / "p.safetensors", "numpy").sample(30, seed=2)["x"]
    np.testing.assert_allclose(found, posterior.sample(30, seed=2)["x"], rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 4.0, rtol=1e-6)


@pytest.mark.parametrize("net", ["the library's own", "another"])
def test_neither_torch_nor_pyro_is_imported(net, guide, others_file, tmp_path):
    path = others_file[1]
    if net != "another":
        path = tmp_path / "p.safetensors"
        guide.condition(DATA).save(path)
    script = (
        "import sys, sdeppl as sp\n"
        f"draws = sp.load_posterior({str(path)!r}, 'numpy').sample(8, seed=1)\n"
        "assert draws['field'].shape == (8, 3)\n"
        "print([name for name in ('torch', 'pyro', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


class Other(torch.nn.Module):
    """Not the library's own network."""

    def __init__(self, dim):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(dim, 9), torch.nn.Tanh(), torch.nn.Linear(9, dim))

    def forward(self, x, level):
        return self.layers(x) * torch.as_tensor(level, dtype=x.dtype).tanh()


class Peak(Other):
    """With a layer that ONNX has for one number of rows alone."""

    def forward(self, x, level):
        return torch.nn.functional.max_pool1d(super().forward(x, level)[:, None, :], 1)[:, 0, :]


@pytest.fixture(scope="module")
def others_file(tmp_path_factory):
    """A posterior with a network of another kind, in float64; and its file."""
    guide = sp.ScoreGuide(model, net=Other, seed=3)
    sp.ScoreMatching(guide, draws=20_000, seed=3).fit(steps=5, progress=False)
    guide.net, guide.use_net = guide.net.double(), True
    guide.forget()
    # the file has no model, whose density 'auto' would take here
    posterior = guide.condition(DATA, backend="numpy", steps=40, correction=sp.TwistedSMC())
    path = tmp_path_factory.mktemp("other") / "p.safetensors"
    posterior.save(path)
    return posterior, path


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
def test_a_network_of_another_kind_goes_along_as_onnx(others_file, precise):
    """The same draws as by the torch module, to 1e-8, on every backend."""
    posterior, path = others_file
    selector = {"numpy": "numpy", "torch": "torch", "cupy": "cupy", "strict": "strict:device1"}[precise.name]
    wanted, found = posterior.run(40, seed=5).draws, sp.load_posterior(path, selector).run(40, seed=5).draws
    for name, values in wanted.items():
        np.testing.assert_allclose(host(found[name]), values, rtol=1e-8, atol=1e-8, err_msg=name)


def test_what_needs_torch_is_refused(guide, tmp_path):
    curved = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(curved, draws=5_000).fit(steps=0)

    def bent(y=None):
        level = pyro.sample("level", dist.Normal(torch.tensor(2.0, dtype=D), 3.0))
        pyro.sample("y", dist.Normal(level**2, torch.tensor(1.0, dtype=D)), obs=y)

    def simplex(y=None):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3, dtype=D)))
        pyro.sample("y", dist.Normal(p[0], torch.tensor(1.0, dtype=D)), obs=y)

    def linear(y=None):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3, dtype=D)))
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        pyro.sample("y", dist.Normal(x, torch.tensor(1.0, dtype=D)), obs=y)
        return p

    cases = (
        (bent, None, r"NonlinearGaussian holds a function of the latents\. Affine"),
        (simplex, None, "holds a function of the latents"),
        (linear, None, "latent site 'p' has the bijection StickBreakingTransform"),
        (model, Peak, "its network is not the library's own, and a Peak cannot be written as ONNX"),
    )
    for function, net, match in cases:
        other = sp.ScoreGuide(function, net=net)
        sp.ScoreMatching(other, draws=5_000).fit(steps=0 if net is None else 2, progress=False)
        if net is not None:
            other.use_net = True
            other.forget()
        data = DATA if function is model else {"y": torch.tensor(1.0, dtype=D)}
        with pytest.raises(TypeError, match=match):
            other.condition(data, backend="numpy").save(tmp_path / "p.safetensors")
    assert not (tmp_path / "p.safetensors").exists()
    with pytest.raises(FileNotFoundError, match="make it first"):
        guide.condition(DATA).save(tmp_path / "nowhere" / "p.safetensors")


def test_files_that_are_no_posterior(guide, tmp_path):
    guide.save(tmp_path / "guide.safetensors")
    with pytest.raises(sp.CorruptFile, match="holds a 'guide' of version 4; expected a 'posterior'"):
        sp.load_posterior(tmp_path / "guide.safetensors", "numpy")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        sp.load_posterior(tmp_path / "missing.safetensors", "numpy")
    with pytest.raises(ValueError, match="names no backend"):
        sp.load_posterior(tmp_path / "guide.safetensors", "jax")
