"""Arguments of wrong kinds: an error of the library's own, that names the argument or the site."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
Y = {"y": [1.0, 2.0]}


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


class NoDraws(dist.TorchDistribution):
    support = dist.constraints.real
    arg_constraints = {}

    def __init__(self):
        super().__init__(validate_args=False)

    def log_prob(self, value):
        return -(value**2) / 2


def of_prior(prior):
    def observed(y=None):
        a = pyro.sample("a", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        x = pyro.sample("x", prior())
        pyro.sample("y", dist.Normal(a + x, 1.0), obs=y)

    return observed


UNDRAWN = of_prior(NoDraws)
IMPROPER = of_prior(lambda: dist.ImproperUniform(dist.constraints.real, (), ()))
NEGATIVE = of_prior(lambda: dist.Normal(torch.tensor(0.0, dtype=D), -1.0))
HMC = {"draws": 4, "warmup": 20, "chains": 4, "progress": False}


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)


T, M, R = TypeError, sp.ModelError, sp.reference
NO_SAMPLE = "site 'x' cannot be drawn from: {} has no sample"
GUIDE = {
    "no model": (lambda g: sp.ScoreGuide(None), T, "model must be a function.*got None"),
    "a text": (lambda g: sp.ScoreGuide("m"), T, "model must be a function.*got 'm'"),
    "latents a text": (
        lambda g: sp.ScoreGuide(model, latents="x"),
        T,
        "latents must be a list",
    ),
    "latents a number": (lambda g: sp.ScoreGuide(model, latents=3), T, "latents must be a list"),
    "args": (
        lambda g: sp.ScoreGuide(model, args=3),
        T,
        "args must be a list of.*; got 3",
    ),
    "kwargs": (
        lambda g: sp.ScoreGuide(model, kwargs=[1]),
        T,
        r"kwargs must be the model's.*got \[1\]",
    ),
    "another model": (lambda g: g.condition(Y, model=3), T, "model must be a function.*got 3"),
    "other args": (lambda g: g.condition(Y, args=3), T, "args must be a list"),
    "other kwargs": (lambda g: g.condition_many({"y": [[1.0, 2.0]]}, kwargs=3), T, "kwargs must be"),
    "a typing error": (
        lambda g: g.condition_many(y=np.ones((3, 2)), stepz=3),
        ValueError,
        "no observable site 'stepz'",
    ),
    "no draws": (lambda g: sp.ScoreGuide(UNDRAWN), M, NO_SAMPLE.format("NoDraws")),
    "improper": (lambda g: sp.ScoreGuide(IMPROPER), M, NO_SAMPLE.format("ImproperUniform")),
    "negative": (lambda g: sp.ScoreGuide(NEGATIVE), M, "site after 'a' has a parameter outside"),
    "learning rate": (lambda g: sp.ScoreMatching(g, lr="a"), T, "lr must be a real number; got 'a'"),
    "a path": (lambda g: g.save(3), T, "a path is a str or a Path; got 3"),
    "a folder": (lambda g: sp.load_posterior("."), OSError, "is a folder; give a file"),
}
REFERENCE = {
    "an array": (lambda g: R.hmc(model, np.ones(2), **HMC), T, "data are a ndarray; give"),
    "no data": (
        lambda g: R.nuts(model, None),
        T,
        "data are a NoneType; give them by site",
    ),
    "a text": (lambda g: R.exact(model, "y"), T, "data are a str; give them by site name"),
    "no model": (lambda g: R.exact(None, Y), T, "model must be a function"),
    "no site": (
        lambda g: R.exact(model, {"z": 1.0}),
        M,
        r"no site 'z'; it has \['x', 'y'\]",
    ),
    "no draws": (lambda g: R.hmc(UNDRAWN, Y, **HMC), M, NO_SAMPLE.format("NoDraws")),
    "target": (lambda g: R.hmc(model, Y, target="a", **HMC), T, "target must be a real"),
    "reparam": (
        lambda g: R.hmc(model, Y, reparam=3, **HMC),
        T,
        "reparam is a mapping.*got 3",
    ),
}
OTHERS = {
    "resampling": (
        lambda g: sp.TwistedSMC(resample_below="a"),
        T,
        "resample_below must be a real number",
    ),
    "share": (lambda g: sp.TemperedSMC(share="a"), T, "share must be a real number"),
    "level": (lambda g: sp.LangevinCorrector(level="a"), T, "level must be a real number"),
    "last level": (
        lambda g: sp.log_snr_grid(sp.VPSDE(), 9, "a"),
        T,
        "noise_to_signal must be a real",
    ),
    "tolerance": (
        lambda g: sp.compare({"x": [1.0, 2.0]}, {"x": [1.0, 2.0]}, tolerance="a"),
        T,
        "tolerance must be a real number; got 'a'",
    ),
    "a time": (
        lambda g: sp.log_density(g.denoiser(), torch.ones(2, 2, dtype=D), t="a"),
        T,
        "t must be a real number",
    ),
    "a module": (lambda g: sp.TorchFunction(3), T, "TorchFunction takes a torch module; got a int"),
    "a bound": (lambda g: sp.Interval(dist.Normal(0.0, 1.0), "a", 1.0), T, "the bound low:.*'a'"),
    "posterior_sbc": (
        lambda g: sp.posterior_sbc(3, Y),
        T,
        "posterior_sbc takes a ScoreGuide; got a int",
    ),
    "sites": (
        lambda g: sp.sbc(g, 10, 9, sites=["q"]),
        M,
        r"sites=\['q'\].* \['y'\]",
    ),
    "local_c2st": (lambda g: sp.local_c2st(3, Y, 1), T, "local_c2st takes .*; got int"),
    "log-likelihood": (
        lambda g: g.condition_many({"y": np.ones((3, 2))}).log_likelihood({"z": np.ones((3, 2))}),
        M,
        "no values of latent site 'x'",
    ),
    "numbers": (
        lambda g: sp.Simulations(np.random.randn(20), np.random.randn(20, 9)).numbers(["q"]),
        ValueError,
        r"there is no site 'q'; there are \['x'\]",
    ),
    "dims": (lambda g: sp.to_arviz({"x": np.ones(3)}, dims=3), T, "dims must be a mapping; got int"),
}
GROUPS = {"guide": GUIDE, "reference": REFERENCE, "others": OTHERS}
CASES = {(kind, name): case for kind, cases in GROUPS.items() for name, case in cases.items()}


@pytest.mark.parametrize("name", CASES, ids=" ".join)
def test_an_argument_of_a_wrong_kind_is_named(name, guide):
    call, kind, words = CASES[name]
    with pytest.raises(kind, match=words) as caught:
        call(guide)
    assert isinstance(caught.value, (TypeError, ValueError, OSError))


def test_a_warning_of_condition_points_at_the_call(guide):
    def bent(y=None):
        x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x**2, 0.5).to_event(1), obs=y)

    with pytest.warns(sp.LinearisedWarning) as caught:
        guide.condition(Y, model=bent, correction=None)
    assert caught[0].filename == __file__
