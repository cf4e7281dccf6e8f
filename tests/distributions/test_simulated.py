"""A simulator as a distribution: how it is called, what it draws, what is refused by name."""

import random
import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest

import sdeppl as sp
from sdeppl.distributions import SamplerError
from sdeppl.tracing import SlowDrawsWarning, prior_draws

D = torch.float64
MEAN, SD = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 3.0])


def by_program(seed):
    code = f"import random; r = random.Random({seed}); print([r.gauss(0, 1) for _ in range(3)])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return MEAN + SD * np.array(eval(found.stdout))


SAMPLERS = {
    "n, rng": lambda n, rng: MEAN + SD * rng.standard_normal((n, 3)),
    "rng": lambda rng: MEAN + SD * rng.standard_normal(3),
    "n, generator": lambda n, generator: (
        torch.as_tensor(MEAN) + torch.as_tensor(SD) * torch.empty(n, 3, dtype=D).normal_(generator=generator)
    ),
    "generator": lambda generator: (
        torch.as_tensor(MEAN) + torch.as_tensor(SD) * torch.randn(3, generator=generator, dtype=D)
    ),
    "seed": lambda seed: MEAN + SD * np.random.default_rng(seed).standard_normal(3),
    "n, seed": lambda n, seed: MEAN + SD * np.random.default_rng(seed).standard_normal((n, 3)),
    "NumPy's global state": lambda: MEAN + SD * np.random.standard_normal(3),
    "Python's global state": lambda: MEAN + SD * [random.gauss(0, 1) for _ in range(3)],
    "torch's global state": lambda n: (
        torch.as_tensor(MEAN) + torch.as_tensor(SD) * torch.randn(n, 3, dtype=D)
    ),
    "a list": lambda rng: list(MEAN + SD * rng.standard_normal(3)),
}


def model_of(sampler, shape=3, **given):
    def model(y=None):
        x = pyro.sample("x", sp.Simulated(sampler, shape, **given))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    return model


@pytest.mark.parametrize("how", SAMPLERS)
def test_draws_are_the_samplers_and_repeat_with_the_seed(how):
    """Kolmogorov–Smirnov of each of 3 numbers against its normal, 2,000 draws: a false alarm in 10⁶ tests;
    seed 5. Nothing is left of the seeds in the global generators."""
    model = model_of(SAMPLERS[how])
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    one, other = (prior_draws(model, ["x"], 2_000, (5,))["x"] for _ in range(2))
    assert torch.equal(one, other) and len(one.unique(dim=0)) == 2_000
    assert not torch.equal(one, prior_draws(model, ["x"], 2_000, (6,))["x"])
    for k in range(3):
        assert kstest((one[:, k].numpy() - MEAN[k]) / SD[k], "norm").pvalue > 1e-6 / 3
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[2])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_a_program_draws_the_same_in_any_number_of_threads():
    found = []
    for workers in (1, 4):
        fn = sp.Simulated(by_program, 3, workers=workers)
        pyro.set_rng_seed(0)
        found.append(fn.sample((6,)))
    assert torch.equal(*found) and found[0].shape == (6, 3)


def test_many_draws_are_one_call_of_a_sampler_that_takes_n():
    calls = []

    def sampler(n, rng):
        calls.append(n)
        return rng.standard_normal((n, 4, 5)).astype("float32")

    found = prior_draws(model_of(sampler, (4, 5)), ["x"], 1_000, (0,))["x"]
    assert max(calls) == 1_000 and len(calls) == 3  # two look whether the seed reaches it
    assert found.shape == (1_000, 4, 5) and found.dtype == torch.float32


def test_what_it_is_given_goes_with_each_draw():
    """x = a · noise + b with a and b of the same draw: regressed by row; exact up to rounding."""

    def sampler(n, generator, a, b):
        assert a.shape == (n,) and b.shape == (n, 2)
        return a[:, None] * torch.ones(n, 2, dtype=D) + b

    def model():
        a = pyro.sample("a", dist.LogNormal(torch.tensor(0.0, dtype=D), 1.0))
        b = pyro.sample("b", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
        pyro.sample("x", sp.Simulated(sampler, 2, given={"a": a, "b": b}))

    found = prior_draws(model, ["a", "b", "x"], 50, (0,))
    torch.testing.assert_close(found["x"], found["a"][:, None] + found["b"])


def test_given_numbers_are_arrays_for_a_numpy_sampler_and_make_it_depend_on_their_sites():
    def sampler(rng, length):
        assert isinstance(length, np.ndarray | np.floating)
        return length * rng.standard_normal(3)

    def model(y=None):
        length = pyro.sample("length", dist.LogNormal(torch.tensor(0.0, dtype=D), 1.0))
        x = pyro.sample("x", sp.Simulated(sampler, 3, given={"length": length}))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    guide = sp.ScoreGuide(model)
    assert guide.space.names == ["length", "x"] and guide.observable == ("y",)


def test_a_plate_and_a_sample_shape_repeat_it():
    fn = sp.Simulated(SAMPLERS["n, rng"], 3)
    with pyro.plate("plate", 4):
        assert pyro.sample("x", fn).shape == (4, 3)
    assert fn.expand([2, 4]).sample((5,)).shape == (5, 2, 4, 3)
    assert fn.event_dim == 1 and not fn.has_rsample and fn.support.event_dim == 1
    assert sp.Simulated(lambda rng: rng.normal(), ()).sample((7,)).shape == (7,)


def test_it_is_learned_and_conditioned():
    """x ~ N(MEAN, SD²) drawn by NumPy, y = x + noise: the exact posterior mean and deviation of each, to
    5 standard errors of 20,000 and 4,000 draws, a false alarm in 10⁵; seed 1."""

    def model(y=None):
        x = pyro.sample("x", sp.Simulated(SAMPLERS["n, rng"], 3))
        pyro.sample("y", dist.Normal(x, 0.7).to_event(1), obs=y)

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(20_000)
    y = np.array([0.3, 1.0, -4.0])
    draws = np.asarray(guide.condition(y=y).sample(4_000, seed=1)["x"])
    gain = SD**2 / (SD**2 + 0.49)
    mean, sd = MEAN + gain * (y - MEAN), np.sqrt((1 - gain) * SD**2)
    off = np.abs(draws.mean(axis=0) - mean) / sd
    assert np.all(off < 5 * np.sqrt(1 / 4_000 + (1 + ((y - MEAN) / SD) ** 2) / 20_000))
    assert np.all(np.abs(draws.std(axis=0) / sd - 1) < 5 * np.sqrt(0.5 / 4_000 + 0.5 / 20_000))


BAD = {
    "another shape": (lambda rng: rng.standard_normal(4), r"gave shape \(4,\) for one draw; expected \(3,\)"),
    "one for many": (lambda n: torch.zeros(3), r"gave shape \(3,\) for n=1; expected \(1, 3\)"),
    "NaN": (lambda rng: np.array([1.0, np.nan, 2.0]), "draw 0 of 1 has 1 of 3 numbers that are not finite"),
    "infinite": (lambda rng: np.array([1.0, np.inf, 2.0]), "that are not finite \\(infinite\\)"),
    "complex": (lambda rng: 1j * rng.standard_normal(3), "expected real numbers"),
    "no numbers": (lambda rng: "three", "expected numbers"),
    "its own error": (lambda rng: 1 / 0, "sampler <lambda> raised ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_draw_is_refused_by_the_name_of_the_site(what):
    sampler, words = BAD[what]
    with pytest.raises(sp.ModelError, match=f"site 'x': .*{words}"):
        sp.ScoreGuide(model_of(sampler))
    with pytest.raises(SamplerError, match=words):
        sp.Simulated(sampler, 3).sample()


def test_nan_in_one_of_many_draws_is_found_and_counted(recwarn):
    def sampler(n, rng):
        found = rng.standard_normal((n, 3))
        found[20:, 1] = np.nan
        return found

    with pytest.raises(sp.ModelError, match=r"site 'x': .*draw 20 of 100 has 1 of 3 numbers"):
        prior_draws(model_of(sampler), ["x"], 100, (0,))
    assert not [w for w in recwarn if issubclass(w.category, SlowDrawsWarning)]


ARGUMENTS = {
    "no function": (TypeError, lambda: sp.Simulated(3, 3), "sampler must be a function; got 3"),
    "a strange parameter": (TypeError, lambda: sp.Simulated(lambda x: x, 3), "sampler <lambda> needs 'x'"),
    "not taken": (
        TypeError,
        lambda: sp.Simulated(lambda n: n, 3, given={"a": 1.0}),
        "does not take 'a', which it is given",
    ),
    "no mapping": (TypeError, lambda: sp.Simulated(lambda: 0, 3, given=[1.0]), "given must be {name: value}"),
    "no size": (ValueError, lambda: sp.Simulated(lambda n: n, (3, 0)), "shape must be a whole number"),
    "threads": (ValueError, lambda: sp.Simulated(lambda n, rng: n, 3, workers=2), "run a sampler of single"),
    "dims": (ValueError, lambda: sp.Simulated(lambda: 0, 3, dims=("x", "y")), "dims must name the 1 axes"),
    "coords alone": (ValueError, lambda: sp.Simulated(lambda: 0, 3, coords={"x": [1, 2, 3]}), "need dims="),
    "coords too short": (
        ValueError,
        lambda: sp.Simulated(lambda: 0, 3, dims="x", coords={"x": [1, 2]}),
        r"coordinate 'x' has shape \(2,\); expected \(3,\)",
    ),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_wrong_arguments(what):
    error, call, words = ARGUMENTS[what]
    with pytest.raises(error, match=words):
        call()


def test_it_has_no_density_and_says_so():
    fn = sp.Simulated(SAMPLERS["rng"], 3)
    with pytest.raises(NotImplementedError, match="has no density: it can only be sampled"):
        fn.log_prob(torch.zeros(3))
    check = sp.check_prior(model_of(SAMPLERS["rng"]), latents=["x"], draws=200)
    assert check.good and "no density" in check.sites[0].skipped
