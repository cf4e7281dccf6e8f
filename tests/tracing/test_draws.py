"""Vectorised prior draws: laws, independence, and the random state.

Each law is tested by Kolmogorov–Smirnov at p > 1e-6 with a fixed seed: a false alarm once in a million
for a seed chosen at random.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from sdeppl.tracing import SlowDrawsWarning, prior_draws
from sdeppl.tracing.randomness import BatchedRandomness, batched, derive_seed

N = 20_000
LAWS = {
    "normal": (dist.Normal(2.0, 3.0), stats.norm(2, 3)),
    "gamma": (dist.Gamma(2.5, 0.5), stats.gamma(2.5, scale=2)),
    "exponential": (dist.Exponential(0.25), stats.expon(scale=4)),
    "uniform": (dist.Uniform(-3.0, 7.0), stats.uniform(-3, 10)),
    "cauchy": (dist.Cauchy(1.0, 2.0), stats.cauchy(1, 2)),
    "lognormal": (dist.LogNormal(0.5, 0.8), stats.lognorm(0.8, scale=math.exp(0.5))),
    "studentt": (dist.StudentT(3.0, 1.0, 2.0), stats.t(3, 1, 2)),
    "halfnormal": (dist.HalfNormal(2.0), stats.halfnorm(scale=2)),
    "laplace": (dist.Laplace(1.0, 2.0), stats.laplace(1, 2)),
    "weibull": (dist.Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2)),
}


@pytest.mark.filterwarnings("error::sdeppl.tracing.SlowDrawsWarning")
@pytest.mark.parametrize("law", LAWS)
def test_law_in_one_batch(law):
    fn, reference = LAWS[law]

    def model():
        pyro.sample("x", fn)
        pyro.sample("twin", fn)
        pyro.sample("two", fn.expand([2]).to_event(1))

    draws = {k: v.numpy() for k, v in prior_draws(model, ["x", "twin", "two"], N, (3, 1)).items()}
    assert {k: v.shape for k, v in draws.items()} == {"x": (N,), "twin": (N,), "two": (N, 2)}
    columns = [draws["x"], draws["twin"], draws["two"][:, 0], draws["two"][:, 1]]
    for column in columns:
        assert stats.kstest(column, reference.cdf).pvalue > 1e-6
        assert len(np.unique(column)) > 0.99 * N
    # independent of each other and from row to row: 6 + 4 rank correlations, each below 5/√N
    uniform = np.array([reference.cdf(column) for column in columns])
    assert np.all(np.abs(np.corrcoef(uniform)[np.triu_indices(4, 1)]) < 5 / math.sqrt(N))
    for row in uniform:
        assert abs(np.corrcoef(row[1:], row[:-1])[0, 1]) < 5 / math.sqrt(N)


@pytest.mark.filterwarnings("error::sdeppl.tracing.SlowDrawsWarning")
def test_multivariate_empirical_and_dependent_sites():
    C = torch.tensor([[2.0, -1.1], [-1.1, 1.5]], dtype=torch.float64)
    support = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])

    def model():
        x = pyro.sample("x", dist.MultivariateNormal(torch.tensor([1.0, -2.0]).double(), C))
        pyro.sample("e", dist.Empirical(support, torch.tensor([0.2, 0.3, 0.5]).log()))
        pyro.sample("child", dist.Normal(2 * x, 0.1).to_event(1))

    draws = prior_draws(model, ["x", "e", "child"], N, (0,))
    x, e = draws["x"].numpy(), draws["e"].numpy()
    assert x.dtype == np.float64 and x.shape == (N, 2)
    assert np.all(np.abs(x.mean(0) - [1, -2]) < 5 * np.sqrt(np.diag(C) / N))
    np.testing.assert_allclose(np.cov(x.T), C, atol=5 * 2.0 * math.sqrt(2 / N))
    whole, counts = np.unique(e, axis=0, return_counts=True)
    np.testing.assert_array_equal(whole, support)  # rows are kept together
    assert stats.chisquare(counts, N * np.array([0.2, 0.3, 0.5])).pvalue > 1e-6
    noise = (draws["child"] - 2 * draws["x"]).numpy() / 0.1
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(noise[:, 0], x[:, 0])[0, 1]) < 5 / math.sqrt(N)


def test_more_than_a_chunk_has_no_repeats():
    def model():
        pyro.sample("x", dist.Normal(torch.tensor(0.0).double(), 1.0))

    draws = prior_draws(model, ["x"], 20_000, (5,))["x"]
    assert len(torch.unique(draws)) == 20_000
    assert torch.equal(draws[:8192], prior_draws(model, ["x"], 8192, (5,))["x"])


def test_seeds_and_the_global_state():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    one, again, other = (prior_draws(model, ["x"], 50, seed)["x"] for seed in [(1, 2), (1, 2), (1, 3)])
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(one, again)
    assert not torch.isin(one, other).any()


def test_keys_are_told_apart():
    keys = [(0,), (0, 0), (0, 0, 0), (1,), (1, 0), (0, 1), (2**32,), (-1,), (1, 2), (12,)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def slow_branch():
    x = pyro.sample("x", dist.Normal(1.0, 2.0))
    scale = 0.5 if x > 1 else 3.0
    pyro.sample("z", dist.Normal(torch.tensor(4.0), scale))


def test_what_cannot_be_vectorised_is_run_one_by_one():
    """Seed 0; false alarm rate 1e-6."""
    n = 1500
    with pytest.warns(SlowDrawsWarning, match=f"running it {n} times"):
        z = prior_draws(slow_branch, ["z"], n, (0,))["z"].numpy()
    assert len(np.unique(z, axis=0)) == n
    law = lambda q: 0.5 * stats.norm(4, 0.5).cdf(q) + 0.5 * stats.norm(4, 3).cdf(q)  # noqa: E731
    assert stats.kstest(z, law).pvalue > 1e-6


@pytest.mark.filterwarnings("error::sdeppl.tracing.draws.SlowDrawsWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beta_and_dirichlet_are_drawn_in_batches(dtype):
    """Laws of each number, also given a latent concentration; seed 0; false alarm rate 6e-6."""
    concentration = torch.tensor([2.0, 3.0, 5.0], dtype=dtype)

    def model():
        scale = pyro.sample("scale", dist.Uniform(torch.tensor(1.0, dtype=dtype), 3.0))
        pyro.sample("z", dist.Dirichlet(concentration))
        pyro.sample("b", dist.Beta(torch.tensor(2.0, dtype=dtype), torch.tensor(0.7, dtype=dtype)))
        pyro.sample("given", dist.Beta(scale, torch.tensor(1.0, dtype=dtype)))

    found = {k: v.numpy() for k, v in prior_draws(model, ["z", "b", "scale", "given"], 9_000, (0,)).items()}
    for i, a in enumerate([2, 3, 5]):
        assert stats.kstest(found["z"][:, i], stats.beta(a, 10 - a).cdf).pvalue > 1e-6
    assert stats.kstest(found["b"], stats.beta(2.0, 0.7).cdf).pvalue > 1e-6
    assert found["given"].dtype == np.dtype(str(dtype).removeprefix("torch."))
    # the distribution function of Beta(a, 1) is xᵃ
    assert stats.kstest(found["given"] ** found["scale"], "uniform").pvalue > 1e-6
    before = torch.distributions.dirichlet._Dirichlet
    assert issubclass(before, torch.autograd.Function)  # put back


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_uniform_of_zero_gives_no_draw_on_an_edge(monkeypatch, dtype):
    """torch.rand is 0 once in 2^24; an exponential or a Cauchy draw from it would be on its edge."""
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape, **options))
    eps = torch.finfo(dtype).eps
    with BatchedRandomness():
        exponential = torch.empty(3, dtype=dtype).exponential_(2.0)
        cauchy = torch.empty(3, dtype=dtype).cauchy_()
    torch.testing.assert_close(exponential, torch.full((3,), eps / 8, dtype=dtype), rtol=1e-5, atol=0)
    assert bool((cauchy < -1e5).all()) and bool(torch.isfinite(cauchy).all())


def test_numpy_randomness_is_drawn_anew_for_each_row():
    """vmap would run the model once and give every row of a batch the same NumPy draw."""
    generator = np.random.default_rng(8)

    def simulator():
        x = torch.as_tensor(3.0 + 2.0 * generator.standard_normal(2))
        pyro.sample("x", dist.Normal(x, 0.01).to_event(1))

    with pytest.warns(UserWarning, match="another generator than torch's"):
        draws = prior_draws(simulator, ["x"], 2_000, (5,))["x"]
    # standard errors: mean 2/√2000 = 0.045, sd 0.032; four of them
    assert draws.shape == (2_000, 2)
    np.testing.assert_allclose(draws.mean(0), 3.0, atol=0.18)
    np.testing.assert_allclose(draws.std(0), 2.0, atol=0.13)


def test_categories_have_their_probabilities():
    """Of one distribution for all draws, and of one that depends on a draw; one of four has none. Chi-squared
    of 20,000 draws below its quantile at 1 - 1e-4, means within 3.9 standard errors (seed 5)."""
    shares = torch.tensor([0.5, 0.0, 0.2, 0.3])

    def model():
        side = pyro.sample("side", dist.Categorical(shares))
        tilt = torch.where(side == 0, 0.9, 0.25)
        pyro.sample("then", dist.Categorical(torch.stack([tilt, 1 - tilt]) * 7.0).expand([2]).to_event(1))

    found = prior_draws(model, ["side", "then"], 20_000, (5,))
    side, then = found["side"], found["then"]
    assert side.shape == (20_000,) and then.shape == (20_000, 2) and side.dtype == torch.int64
    counts = torch.bincount(side, minlength=4).to(torch.float64)
    assert counts[1] == 0
    expected = 20_000 * shares[[0, 2, 3]]
    assert float(((counts[[0, 2, 3]] - expected) ** 2 / expected).sum()) < 18.4  # 2 degrees of freedom
    for value, share in ((side == 0, 0.1), (side != 0, 0.75)):
        both = then[value].to(torch.float64)
        noise = (share * (1 - share) / len(both)) ** 0.5
        assert (abs(both.mean(0) - share) < 3.9 * noise).all()
        assert abs(float((both[:, 0] * both[:, 1]).mean()) - share**2) < 3.9 * noise  # independent


def test_a_large_data_set_is_drawn_from_without_a_copy_for_each_draw():
    """200,000 rows: probabilities for each of 20,000 draws would be 32 gigabytes."""
    rows = torch.arange(200_000.0)[:, None] + torch.tensor([0.0, 0.5])

    def model():
        pyro.sample("x", dist.Empirical(rows, torch.zeros(len(rows))))

    found = prior_draws(model, ["x"], 20_000, (6,))["x"]
    assert found.shape == (20_000, 2) and bool((found[:, 1] - found[:, 0] == 0.5).all())
    assert abs(float(found[:, 0].mean()) / 200_000 - 0.5) < 4 * (1 / 12 / 20_000) ** 0.5


def test_a_row_without_a_factor_is_nan_and_spares_the_others():
    """-I has no Cholesky factor, diag(0, 2) no inverse; the other rows have what they have alone."""

    def log_p(variances):
        def normal():
            covariance = torch.diag(variances)
            return dist.MultivariateNormal(torch.zeros(2), covariance, validate_args=False)

        return batched(lambda: normal().log_prob(torch.ones(2)), variances)

    def inverse(variances):
        return batched(lambda: torch.linalg.inv(torch.diag(variances)), variances)

    rows = torch.tensor([[1.0, 2.0], [-1.0, -1.0], [4.0, 0.5], [0.0, 2.0]])
    found, slopes = torch.func.vmap(log_p)(rows), torch.func.vmap(torch.func.grad(log_p))(rows)
    inverses = torch.func.vmap(inverse)(rows)
    assert torch.isnan(found[[1, 3]]).all() and torch.isnan(inverses[3]).all()
    assert torch.equal(inverses[1], -torch.eye(2))
    for k in (0, 2):
        sd = rows[k].sqrt()
        torch.testing.assert_close(found[k], dist.Normal(0.0, sd).log_prob(torch.ones(2)).sum())
        torch.testing.assert_close(slopes[k], 0.5 / rows[k] ** 2 - 0.5 / rows[k])
    with pytest.raises(torch.linalg.LinAlgError):
        log_p(rows[1])
