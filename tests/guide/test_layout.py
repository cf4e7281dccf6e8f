"""A guide whose latents have layouts: the same answers as without, what is saved, what is refused."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
N = 6
COVARIANCE = 2.0 * torch.exp(-((torch.arange(N, dtype=D)[:, None] - torch.arange(N, dtype=D)) ** 2) / 8)
COVARIANCE = COVARIANCE + 0.3 * torch.eye(N, dtype=D)


def line():
    field = pyro.sample("field", dist.MultivariateNormal(torch.full((N,), 1.5, dtype=D), COVARIANCE))
    pyro.sample("y", dist.Normal(field[::2], 0.4).to_event(1))


def field_and_numbers():
    level = pyro.sample("level", dist.Normal(torch.tensor(-2.0, dtype=D), 3.0))
    field = pyro.sample("field", dist.MultivariateNormal(torch.zeros(N, dtype=D), COVARIANCE))
    width = pyro.sample("width", dist.LogNormal(torch.tensor(0.0, dtype=D), 0.5))
    pyro.sample("y", dist.Normal(field[:3] + level, 0.4).to_event(1))
    pyro.sample("z", dist.Normal(width.log() + level, 0.2))


def test_a_dense_grid_gives_the_very_draws_of_a_vector():
    y, runs = [2.0, -1.0, 0.5], []
    for layout in (None, {"field": sp.Grid(covariance="dense")}):
        guide = sp.ScoreGuide(line, net=None, layout=layout).fit_gaussian(20_000)
        runs.append(guide.condition(y=y).sample(50, seed=3, c=1.0)["field"])
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=1e-10)


def exact(index, noise, y, mean, C):
    H = np.eye(len(mean))[index] if not isinstance(index, np.ndarray) else index
    S = H @ C @ H.T + np.diag(noise)
    gain = C @ H.T @ np.linalg.inv(S)
    return mean + gain @ (y - H @ mean), C - gain @ H @ C


def test_a_field_and_plain_numbers_in_one_guide():
    """Against the exact posterior of (level, ln width, field), independent a priori; 4,000 draws and 50,000
    of the fit: means within 5 standard errors of both, a false alarm in 10⁵ runs; seed 1."""
    layout = {"field": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(field_and_numbers, net=None, layout=layout).fit_gaussian(50_000)
    assert "field dense" in repr(guide)
    y, z = np.array([1.0, 2.5, -0.3]), 0.7
    draws = guide.condition(y=y, z=z).sample(4_000, seed=1)
    C = np.zeros((N + 2, N + 2))
    C[0, 0], C[1, 1], C[2:, 2:] = 9.0, 0.25, COVARIANCE.numpy()
    H = np.zeros((4, N + 2))
    H[:3, 0], H[:3, 2:5], H[3, :2] = 1.0, np.eye(3), 1.0
    mean, covariance = exact(H, [0.16] * 3 + [0.04], np.append(y, z), np.array([-2.0] + [0.0] * (N + 1)), C)
    found = np.column_stack([draws["level"], np.log(draws["width"]), draws["field"]])
    sd = np.sqrt(np.diag(covariance))
    off = (found.mean(axis=0) - mean) / sd
    assert np.all(np.abs(off) < 5 * np.sqrt(1 / 4_000 + 4 / 50_000))
    assert np.all(np.abs(found.std(axis=0) / sd - 1) < 5 * np.sqrt(0.5 / 4_000 + 2 / 50_000))


def test_it_is_saved_with_its_layout(tmp_path):
    layout = {"field": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(field_and_numbers, net=None, layout=layout).fit_gaussian(5_000)
    guide.save(tmp_path / "guide.safetensors")
    again = sp.ScoreGuide.load(tmp_path / "guide.safetensors", field_and_numbers, net=None, layout=layout)
    y = {"y": [1.0, 2.5, -0.3], "z": 0.7}
    one, other = (g.condition(y).sample(20, seed=2) for g in (guide, again))
    for name, draws in one.items():
        torch.testing.assert_close(draws, other[name], rtol=0, atol=0)
    with pytest.raises(sp.ModelError, match="was trained with layout"):
        sp.ScoreGuide.load(tmp_path / "guide.safetensors", field_and_numbers, net=None)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_posterior_of_it_is_saved_without_the_model(tmp_path, name):
    layout = {"field": sp.Grid(covariance="dense")}
    guide = sp.ScoreGuide(field_and_numbers, net=None, layout=layout).fit_gaussian(5_000)
    posterior = guide.condition(y=[1.0, 2.5, -0.3], z=0.7, backend=name)
    posterior.save(tmp_path / "posterior.safetensors")
    found = sp.load_posterior(tmp_path / "posterior.safetensors", name).sample(20, seed=2)
    for site, draws in posterior.sample(20, seed=2).items():
        np.testing.assert_allclose(np.asarray(found[site]), np.asarray(draws), atol=1e-9)


@pytest.mark.parametrize(
    ("layout", "error", "words"),
    [
        ({"fild": sp.Grid()}, sp.ModelError, "no latent site 'fild'; the model has"),
        ({"level": sp.Grid()}, sp.ModelError, "site 'level': shape \\(\\) does not fit"),
        ({"field": sp.Grid(channels=1)}, sp.ModelError, "site 'field': shape \\(6,\\) does not fit"),
        ({"field": "grid"}, TypeError, "site 'field' has 'grid'"),
        ([("field", sp.Grid())], TypeError, "layout must be"),
    ],
    ids=["no such site", "a number", "channels", "no Grid", "no mapping"],
)
def test_a_layout_that_does_not_fit_is_refused_by_name(layout, error, words):
    with pytest.raises(error, match=words):
        sp.ScoreGuide(field_and_numbers, layout=layout)


def simplex():
    pyro.sample("parts", dist.Dirichlet(torch.ones(5, dtype=D)))


def test_a_support_without_numbers_of_its_own_is_no_grid():
    with pytest.raises(sp.ModelError, match="site 'parts' has the support"):
        sp.ScoreGuide(simplex, layout={"parts": sp.Grid()})


def large():
    pyro.sample("field", dist.Normal(torch.zeros(50, 50, dtype=D), 1.0).to_event(2))


def test_a_grid_too_large_for_all_entries_is_refused_by_name():
    guide = sp.ScoreGuide(large, net=None, layout={"field": sp.Grid(covariance="dense")})
    with pytest.raises(sp.ModelError, match=r"site 'field': .*covariance='dense'.* of 2500 numbers"):
        guide.fit_gaussian(20)


def level_in_a_field():
    level = pyro.sample("level", dist.Normal(torch.tensor(0.0, dtype=D), 2.0))
    field = pyro.sample("field", dist.MultivariateNormal(level * torch.ones(N, dtype=D), COVARIANCE))
    pyro.sample("y", dist.Normal(field[:3], 0.4).to_event(1))


def test_numbers_that_go_with_a_field_are_not_trusted_apart():
    """The Gaussian part of a site with a layout is independent of other sites: where they are not, the fit
    check says so, in nats of what they have in common; here -½ ln(1 - R²) of level and field, about 1.4."""
    guide = sp.ScoreGuide(level_in_a_field, net=None, layout={"field": sp.Grid(covariance="dense")})
    guide.fit_gaussian(20_000)
    assert guide.fit_check.state == "do not trust" and guide.fit_check.nats > 0.5
    guide = sp.ScoreGuide(field_and_numbers, net=None, layout={"field": sp.Grid(covariance="dense")})
    assert guide.fit_gaussian(50_000).fit_check.state == "trusted"
