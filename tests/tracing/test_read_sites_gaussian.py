"""Likelihoods read as y = A(z) + N(0, R)."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import sdeppl as sp
from sdeppl.tracing import ModelError, find_sites, prior_draws, read_sites

D = torch.float64
A = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.0, 4.0]], dtype=D)
B = torch.tensor([7.0, -3.0], dtype=D)


def prior(dtype=D):
    loc = torch.tensor([1.0, -1.0, 2.0], dtype=dtype)
    return pyro.sample("x", dist.Normal(loc, torch.tensor(2.0, dtype=dtype)).to_event(1))


def read(model, draws=256, latents=None, **data):
    space = find_sites(model, latents=latents).space
    values = prior_draws(model, space.names, draws, (0,))
    data = {name: torch.as_tensor(value, dtype=D) for name, value in data.items()}
    return read_sites(model, space, data, space.flatten(values))


def check(site, H, offset, R, y, tolerance=1e-12):
    for found, expected in [(site.H, H), (site.offset, offset), (site.R, R), (site.y, y)]:
        assert found.dtype == D
        expected = torch.as_tensor(expected, dtype=D)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_matrix_scaling_and_intercept():
    def model():
        x = prior()
        pyro.sample("y", dist.Normal(3 * (A @ x) + B, torch.tensor([0.5, 2.0], dtype=D)).to_event(1))

    (site,) = read(model, y=[1.0, float("nan")])
    check(site, 3 * A, B, [0.25, 4.0], [1.0, float("nan")])
    z = torch.tensor([0.1, 0.2, 0.3], dtype=D)
    torch.testing.assert_close(site.mean(z), 3 * A @ z + B)


def test_float32_model():
    def model():
        x = prior(torch.float32)
        pyro.sample("y", dist.Normal(A.float() @ x + 1000 * B.float(), 0.5).to_event(1))

    (site,) = read(model, y=[1.0, 2.0])
    check(site, A, 1000 * B, [0.25, 0.25], [1.0, 2.0], tolerance=1e-3)
    torch.testing.assert_close(site.H, A, rtol=1e-6, atol=1e-7)


def test_plates_and_two_latents():
    rows = torch.tensor([0, 0, 1, 2])

    def model():
        mu = pyro.sample("mu", dist.Normal(torch.tensor(1.0, dtype=D), 3.0))
        with pyro.plate("groups", 3):
            theta = pyro.sample("theta", dist.Normal(mu, 0.5))
        with pyro.plate("data", 4):
            pyro.sample("y", dist.Normal(theta[rows] - 2 * mu + 1, 0.1))

    (site,) = read(model, latents=["mu", "theta"], y=[1.0, 2.0, 3.0, 4.0])
    H = [[-2.0, 1, 0, 0], [-2, 1, 0, 0], [-2, 0, 1, 0], [-2, 0, 0, 1]]
    check(site, H, [1.0] * 4, [0.01] * 4, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("low_rank", [False, True])
def test_multivariate_noise(low_rank):
    factor, diagonal = torch.tensor([[1.0], [0.5]], dtype=D), torch.tensor([0.3, 0.7], dtype=D)
    C = factor @ factor.T + diagonal.diag()

    def model():
        x = prior()
        if low_rank:
            fn = dist.LowRankMultivariateNormal(A @ x + B, factor, diagonal)
        else:
            fn = dist.MultivariateNormal(A @ x + B, C)
        pyro.sample("y", fn)

    (site,) = read(model, y=[1.0, 2.0])
    check(site, A, B, C, [1.0, 2.0])


def test_batched_multivariate_noise():
    C = torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[3.0, -1.0], [-1.0, 4.0]]], dtype=D)

    def model():
        x = prior()
        with pyro.plate("pair", 2):
            pyro.sample("y", dist.MultivariateNormal(torch.stack([A @ x, -(A @ x)]), C))

    (site,) = read(model, y=[[1.0, 2.0], [3.0, 4.0]])
    check(site, torch.cat([A, -A]), torch.zeros(4), torch.block_diag(*C), [1.0, 2.0, 3.0, 4.0])


MASK = torch.tensor([[True, False, True], [False, True, True]])
nan = float("nan")


@pytest.mark.parametrize("kind", ["handler", "batch handler", "own", "own inside an event", "false"])
def test_masks_become_missing(kind):
    y = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    expected = [1.0, nan, 3.0, nan, 5.0, 6.0]

    def model():
        x = prior()
        fn = dist.Normal(torch.stack([x, 2 * x]), 0.5)
        if kind == "handler":
            with poutine.mask(mask=MASK):
                pyro.sample("y", fn)
        elif kind == "batch handler":
            with poutine.mask(mask=torch.tensor([True, False])):
                pyro.sample("y", fn.to_event(1))
        elif kind == "own":
            pyro.sample("y", fn.mask(MASK))
        elif kind == "own inside an event":
            pyro.sample("y", fn.mask(MASK).to_event(2))
        else:
            pyro.sample("y", fn.mask(False))

    if kind == "batch handler":
        expected = [1.0, 2.0, 3.0, nan, nan, nan]
    if kind == "false":
        expected = [nan] * 6
    (site,) = read(model, latents=["x"], y=y)
    eye = torch.eye(3, dtype=D)
    check(site, torch.cat([eye, 2 * eye]), [0.0] * 6, [0.25] * 6, expected)


CURVES = {
    "square": lambda x: x**2,
    "small square on a large offset": lambda x: 1e4 + x + 1e-3 * x**2,
    "relu": lambda x: torch.relu(x - 1),
    "abs": lambda x: x.abs(),
    "far bend": lambda x: x + torch.relu(x - 5),  # 2 sd above the mean of x[0]
    "one of two": lambda x: torch.stack([1e6 * x[0], x[1] ** 2, x[2]]),
}


@pytest.mark.parametrize(
    ("curve", "dtype"),
    [(curve, torch.float64) for curve in CURVES]
    # 1e-3 on 1e4 is what float32 rounds away
    + [(curve, torch.float32) for curve in CURVES if curve != "small square on a large offset"],
)
def test_nonlinear_means_are_recognised(curve, dtype):
    def model():
        x = prior(dtype)
        pyro.sample("y", dist.Normal(CURVES[curve](x), 0.5).to_event(1))

    (site,) = read(model, y=[1.0, 2.0, 3.0])
    assert site.H is None and site.offset is None
    z = torch.tensor([3.0, -1.5, 5.25], dtype=D)
    torch.testing.assert_close(site.mean(z), CURVES[curve](z), rtol=1e-6, atol=1e-6)


def test_a_positive_latent_makes_the_mean_nonlinear():
    def model():
        tau = pyro.sample("tau", dist.LogNormal(torch.tensor(0.2, dtype=D), 0.4))
        pyro.sample("y", dist.Normal(3 * tau, 0.5))

    (site,) = read(model, y=1.0)
    assert site.H is None
    torch.testing.assert_close(
        site.mean(torch.tensor([0.7], dtype=D)), 3 * torch.tensor([0.7], dtype=D).exp()
    )


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning", "ignore:Converting a tensor")
def test_control_flow_that_leaves_the_mean_affine():
    def model():
        x = prior()
        pyro.sample("y", dist.Normal(A @ x if float(x[0]) > 0 else A @ x + 0.0, 0.5).to_event(1))

    (site,) = read(model, y=[1.0, 2.0])
    check(site, A, [0.0, 0.0], [0.25, 0.25], [1.0, 2.0])


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning", "ignore:Converting a tensor")
def test_control_flow_with_a_mean_that_is_not_affine():
    def model():
        x = prior()
        pyro.sample("y", dist.Normal(x if float(x[0]) > 1 else 3 * x, 0.5).to_event(1))

    (site,) = read(model, y=[1.0, 2.0, 3.0])
    assert (site.H, site.differentiable, site.vectorised) == (None, True, False)
    for z, factor in [([1.5, 0.2, 0.3], 1.0), ([0.5, 0.2, 0.3], 3.0)]:
        z = torch.tensor(z, dtype=D)
        torch.testing.assert_close(site.mean(z), factor * z)
        torch.testing.assert_close(torch.func.jacrev(site.mean)(z), factor * torch.eye(3, dtype=D))


def assigned(number):
    """A mean assigned number by number, x[i] as `number` gives it."""

    def model():
        x = prior()
        mean = torch.zeros(3, dtype=D)
        for i in range(3):
            mean[i] = (i + 1) * number(x[i])
        pyro.sample("y", dist.Normal(mean, 0.5).to_event(1))

    return model


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
def test_assignments_in_place_are_read():
    for latents in (None, ["x"]):
        (site,) = read(assigned(lambda number: number), latents=latents, y=[1.0, 2.0, 3.0])
        check(site, torch.diag(torch.tensor([1.0, 2.0, 3.0])), [0.0] * 3, [0.25] * 3, [1.0, 2.0, 3.0])


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
def test_numbers_outside_torch_are_read_once_the_latents_are_named():
    """Pyro's inspection loses sight of them, so the observation looks like a latent."""
    model = assigned(float)
    with pytest.raises(ModelError, match=r"'y' is a latent of the guide.*latents="):
        read(model, y=[1.0, 2.0, 3.0])
    (site,) = read(model, latents=["x"], y=[1.0, 2.0, 3.0])
    assert not site.differentiable
    z = torch.tensor([0.3, -1.0, 2.0], dtype=D)
    torch.testing.assert_close(site.mean(z), z * torch.tensor([1.0, 2.0, 3.0], dtype=D))


def test_one_observed_site_inside_another():
    """y2 depends on y1: its mean is read at the data, not at a draw."""

    def model():
        x = prior()
        y1 = pyro.sample("y1", dist.Normal(x, 0.5).to_event(1))
        pyro.sample("y2", dist.Normal(2 * y1 - A[0] * x, 0.1).to_event(1))

    first, second = read(model, latents=["x"], y1=[1.0, 2.0, 3.0], y2=[4.0, 5.0, 6.0])
    check(first, torch.eye(3), [0.0] * 3, [0.25] * 3, [1.0, 2.0, 3.0])
    check(second, -A[0].diag(), [2.0, 4.0, 6.0], [0.01] * 3, [4.0, 5.0, 6.0])
    with pytest.raises(ModelError, match=r"'y2' depends on something random .*\['x'\]"):
        read(model, latents=["x"], y2=[4.0, 5.0, 6.0])
    with pytest.raises(ModelError, match="'y2': its mean or covariance is not finite"):
        read(model, latents=["x"], y1=[1.0, nan, 3.0], y2=[4.0, 5.0, 6.0])


def test_a_path_is_read_through_its_own_operator():
    times = [1.0, 2.0, 4.0]

    def model():
        start = dist.Normal(torch.tensor(3.0, dtype=D), 2.0)
        x = pyro.sample("level", sp.SDEPath(sp.LinearSDE(0.2, 1.1), start, times))
        pyro.sample("y", dist.Normal(x[..., 1:] * 2.0, 0.4).to_event(1))

    (site,) = read(model, y=[1.0, 2.0])
    check(site, [[0.0, 2.0, 0.0], [0.0, 0.0, 2.0]], [0.0, 0.0], [0.16, 0.16], [1.0, 2.0])
