"""A prior that is another than when the guide was fitted is refused, however it has changed."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam

import sdeppl as sp
from sdeppl.backend.files import read

D = torch.float64
ZERO = torch.tensor(0.0, dtype=D)
SETTINGS = {"scale": 1.0, "noise": 1.0, "count": 3}


@pytest.fixture(autouse=True)
def as_it_was():
    SETTINGS.update(scale=1.0, noise=1.0, count=3)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def by_global(y=None):
    x = pyro.sample("x", dist.Normal(ZERO, SETTINGS["scale"]))
    pyro.sample("y", dist.Normal(x, SETTINGS["noise"]), obs=y)


def by_param(y=None):
    x = pyro.sample("x", dist.Normal(ZERO, pyro.param("scale", torch.tensor(1.0, dtype=D))))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def by_argument(scales, y=None):
    x = pyro.sample("x", dist.Normal(ZERO, scales[0]))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def by_bounds(y=None):
    x = pyro.sample("x", dist.Uniform(ZERO, 2 * SETTINGS["scale"]))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def by_shape(y=None):
    x = pyro.sample("x", dist.Normal(torch.zeros(SETTINGS["count"], dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x[0], 1.0), obs=y)


class Simulator(dist.TorchDistribution):
    """Draws without a density."""

    arg_constraints = {}
    support = dist.constraints.real

    def __init__(self, draw):
        super().__init__(validate_args=False)
        self.draw = draw

    def sample(self, sample_shape=()):
        return self.draw()

    def log_prob(self, value):
        raise NotImplementedError


def by_program(y=None):
    x = pyro.sample("x", Simulator(lambda: SETTINGS["scale"] * torch.randn((), dtype=D)))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


NUMPY = np.random.default_rng(5)


def by_numpy(y=None):
    draw = lambda: torch.tensor(SETTINGS["scale"] * NUMPY.standard_normal(), dtype=D)  # noqa: E731
    x = pyro.sample("x", Simulator(draw))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


class Module(PyroModule):
    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.tensor(1.0, dtype=D), dist.constraints.positive)

    def forward(self, y=None):
        x = pyro.sample("x", dist.Normal(ZERO, self.scale))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def set_scale():
    SETTINGS["scale"] = 3.0


def set_param():
    pyro.get_param_store()["scale"] = torch.tensor(3.0, dtype=D)


def fitted(model, draws=2_000, **arguments):
    guide = sp.ScoreGuide(model, net=None, latents=["x"], **arguments)
    return guide.fit_gaussian(draws, progress=False)


def cases():
    scales, module = [1.0], Module()
    closure = {"scale": 1.0}

    def by_closure(y=None):
        x = pyro.sample("x", dist.Normal(ZERO, closure["scale"]))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    tensor = torch.ones(1, dtype=D)
    return {
        "global": (by_global, {}, set_scale),
        "pyro.param": (by_param, {}, set_param),
        "closure": (by_closure, {}, lambda: closure.update(scale=3.0)),
        "list among args": (by_argument, {"args": (scales,)}, lambda: scales.__setitem__(0, 3.0)),
        "tensor among args": (by_argument, {"args": (tensor,)}, lambda: tensor.fill_(3.0)),
        "module": (module, {}, lambda: setattr(module, "scale", torch.tensor(3.0, dtype=D))),
        "bounds": (by_bounds, {}, set_scale),
        "shape": (by_shape, {}, lambda: SETTINGS.update(count=2)),
        "fewer numbers that broadcast": (by_shape, {}, lambda: SETTINGS.update(count=1)),
        "program": (by_program, {}, set_scale),
        "program with NumPy's generator": (by_numpy, {}, set_scale),
    }


@pytest.mark.parametrize("case", list(cases()))
@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
def test_a_changed_prior_is_refused(case):
    model, arguments, change = cases()[case]
    guide = fitted(model, 1_000, **arguments)
    guide.condition(y=0.5)  # as it was
    guide.condition_many(y=[0.5, 0.7])
    change()
    match = "latent site 'x'|latents are not those the guide was trained on"
    with pytest.raises(sp.ModelError, match=match):
        guide.condition(y=0.5)
    with pytest.raises(sp.ModelError, match=match):
        guide.condition_many(y=[0.5, 0.7])
    with pytest.raises(sp.ModelError, match=match):
        guide.condition(y=0.5, model=model)


@pytest.mark.parametrize(
    ("model", "change"), [(by_global, set_scale), (by_param, set_param), (by_program, set_scale)]
)
def test_as_a_pyro_guide_too(model, change):
    guide = fitted(model)
    y = torch.tensor(0.5, dtype=D)
    guide(y=y)
    guide(y=y)
    change()
    with pytest.raises(sp.ModelError, match="latent site 'x' has another prior here"):
        for _ in range(300):  # of draws kept for the next calls, a program's may still come
            guide(y=y)


@pytest.mark.parametrize(
    ("model", "change"), [(by_global, set_scale), (by_param, set_param), (by_program, set_scale)]
)
def test_a_file_holds_the_prior_of_the_fit_not_of_the_saving(model, change, tmp_path):
    """Also where the guide that loads has a seed of its own."""
    guide = fitted(model)
    guide.save(tmp_path / "g")
    loaded = sp.ScoreGuide.load(tmp_path / "g", model, net=None, latents=["x"], seed=3)
    loaded.condition(y=0.5)
    change()
    guide.save(tmp_path / "later")
    for path in (tmp_path / "g", tmp_path / "later"):
        with pytest.raises(sp.ModelError, match="another prior of latent site 'x'"):
            loaded.restore(*read(path, "guide"), path)
    with pytest.raises(sp.ModelError, match="latent site 'x' has another prior here"):
        loaded.condition(y=0.5)


def test_what_only_the_likelihood_reads_may_change():
    """Prior N(0, 1), y = 2: mean 2/(1 + noise²)."""
    guide = fitted(by_global, 200_000)
    for noise in (1.0, 0.5):
        SETTINGS["noise"] = noise
        x = guide.condition(y=2.0, backend="numpy").sample(4_000)["x"]
        sd = noise / np.sqrt(1 + noise**2)
        assert abs(x.mean() - 2 / (1 + noise**2)) < 5 * sd / np.sqrt(4_000) + 0.01
