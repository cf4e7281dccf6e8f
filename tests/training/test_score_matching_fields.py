"""Training on grids: a Gaussian field stays with the linear part, another is learned up to its own denoiser;
draws made ahead are those made in between; devices and precisions."""

import math
import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.denoisers import OnGrid
from sdeppl.training.noising import Noising

D = torch.float64
N = 12
DISTANCE = (torch.arange(N)[:, None] - torch.arange(N)).abs()
RING = torch.exp(-torch.minimum(DISTANCE, N - DISTANCE).to(D) / 2)
LAYOUT = {"field": sp.Grid(periodic=True)}


def gaussian_field(y=None):
    field = pyro.sample("field", dist.MultivariateNormal(torch.full((N,), 1.5, dtype=D), 2 * RING))
    pyro.sample("y", dist.Normal(field, 0.5).to_event(1), obs=y)


def two_wells(y=None):
    """A mixture of two normals at each point of a ring."""
    coins = dist.Categorical(torch.ones(N, 2, dtype=D))
    wells = dist.Normal(torch.tensor([-1.0, 1.0], dtype=D).expand(N, 2), 0.25)
    field = pyro.sample("field", dist.MixtureSameFamily(coins, wells).to_event(1))
    pyro.sample("y", dist.Normal(field, 0.5).to_event(1), obs=y)


def make(model=two_wells, **arguments):
    guide = sp.ScoreGuide(model, layout=LAYOUT, net=sp.UNet(width=8, depth=1))
    return sp.ScoreMatching(guide, **{"batch": 64, "draws": 4_000, "ema": 0.95, "lr": 3e-3, **arguments})


def state(training):
    return [*training.guide.net.state_dict().values(), *training.network.state_dict().values()]


def same(one, other):
    assert one.losses == other.losses
    assert all(torch.equal(a, b) for a, b in zip(state(one), state(other), strict=True))


def test_a_gaussian_field_keeps_its_linear_part():
    """The network learns nothing that would help; a false alarm once in 740 trainings (seed 0)."""
    training = make(gaussian_field).fit(60, progress=False)
    assert not training.gain.useful and not training.guide.use_net
    assert training.gain.mean == pytest.approx(0, abs=0.02)


def test_two_wells_are_learned_up_to_the_exact_denoiser():
    """The loss that is left is that of the exact E[x_0 given x_t], known for each number: within 15% of what
    the exact one takes off, after 400 steps of 64 rings (seed 0)."""
    guide = sp.ScoreGuide(two_wells, layout=LAYOUT, net=sp.UNet(width=16, depth=0))
    training = sp.ScoreMatching(guide, lr=3e-3, batch=64, draws=4_000, ema=0.95, warm_up=20)
    training.fit(400, progress=False)
    assert training.gain.useful
    denoiser, part = training.guide.denoiser("torch"), training.guide.fitted()
    sde, generator = training.guide.sde, torch.Generator().manual_seed(1)
    x0 = part.standardise(training.guide.prior_batch(2_000, 9))
    taken = []
    for t in (0.1, 0.15, 0.2):
        alpha, sigma = sde.alpha_sigma(t)
        x = alpha * x0 + sigma * torch.randn(x0.shape, generator=generator, dtype=D)
        scale, middle = part.scale, (torch.tensor([-1.0, 1.0], dtype=D)[:, None] - part.location) / part.scale
        variance = (0.25 / scale) ** 2
        around = alpha**2 * variance + sigma**2
        weight = torch.softmax(-((x - alpha * middle[:, None]) ** 2) / (2 * around), dim=0)
        means = middle[:, None] + alpha * variance / around * (x - alpha * middle[:, None])
        exact = (weight * means).sum(dim=0)
        losses = [((m - x0) ** 2).mean() for m in (denoiser.gaussian.mean(x, t), exact, denoiser.mean(x, t))]
        taken.append(float((losses[0] - losses[2]) / (losses[0] - losses[1])))
    assert min(taken) > 0.85 and max(taken) < 1.05, taken


def test_noising_on_the_grid_in_float32():
    """Against float64 on the same numbers: inputs to 1e-4, targets to 2e-3 at σ/α = 1e-3, and
    everywhere of unit variance: 4,000 × 12 numbers, within 5 standard errors; seed 1."""
    training = make(gaussian_field, batch=64)
    training.prepare(progress=False)
    part, sde = training.guide.fitted(), sp.VPSDE()
    x0 = part.standardise(training.guide.prior_batch(4_000, 9))
    generator = torch.Generator().manual_seed(1)
    inputs, level, reach, target = training.noising.sample(x0, generator)
    assert {inputs.dtype, level.dtype, reach.dtype, target.dtype} == {torch.float32}
    assert inputs.shape == (4_000, 2 * N) and target.shape == (4_000, N)
    assert float(target.square().mean()) == pytest.approx(1, abs=0.05)
    assert float(inputs[:, :N].square().mean()) == pytest.approx(1, abs=0.05)
    exact = Noising(part, sde, OnGrid, sp.resolve("torch"))
    generator = torch.Generator().manual_seed(1)
    times = exact.times[-1].expand(500, 1)
    eps = torch.randn((500, N), generator=generator)
    for dtype, noising in ((torch.float32, training.noising), (D, exact)):
        t, rows = times.to(dtype), x0[:500].to(dtype)
        x = sde.alpha(t) * rows + sde.sigma(t) * eps.to(dtype)
        here = OnGrid(noising.denoiser, t)
        found = here.target(rows - noising.denoiser.mean(x, t)).double(), here.inputs(x).double()
        if dtype is torch.float32:
            single = found
    assert float((single[0] - found[0]).abs().max()) < 2e-3
    assert float((single[1] - found[1]).abs().max()) < 1e-4


@pytest.mark.parametrize("at", [3, 70])
def test_draws_made_ahead_are_those_made_in_between(at, tmp_path, monkeypatch):
    """Bit for bit, over several pools, also where it was interrupted and went on; no thread is left."""
    monkeypatch.setattr("sdeppl.training.score_matching.POOL_NUMBERS", 64 * 8 * N)
    alone, before = make(ahead=False).fit(80, progress=False), threading.active_count()
    assert alone.pool == 512
    same(alone, make(ahead=True).fit(80, progress=False))
    first = make(ahead=True)
    step = first.step

    def broken():
        if len(first.losses) == at:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(first, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        first.fit(80, progress=False, checkpoint=tmp_path / "c")
    assert threading.active_count() == before
    second = make(ahead=True).fit(80, progress=False, checkpoint=tmp_path / "c")
    same(alone, second)
    assert alone.gain == second.gain


def test_a_network_with_dropout_is_the_same_with_draws_made_ahead():
    class Dropped(torch.nn.Module):
        def __init__(self, field):
            super().__init__()
            self.inner = sp.UNet(width=4, depth=0)(field)

        def forward(self, x, level):
            return self.inner(torch.nn.functional.dropout(x, 0.5, self.training), level)

    trained = []
    for ahead in (False, True):
        guide = sp.ScoreGuide(gaussian_field, layout=LAYOUT, net=Dropped)
        training = sp.ScoreMatching(guide, batch=64, draws=2_000, ahead=ahead)
        trained.append(training.fit(20, progress=False))
    same(*trained)


def test_an_error_of_the_thread_is_raised_with_its_words(monkeypatch):
    monkeypatch.setattr("sdeppl.training.score_matching.POOL_NUMBERS", 64 * 2 * N)
    training = make(gaussian_field)
    training.prepare(progress=False)
    own, calls = training.guide.prior_batch, []

    def broken(*asked, **named):
        calls.append(asked)
        if len(calls) > 3:
            raise OSError("the simulator lost its disk")
        return own(*asked, **named)

    training.guide.prior_batch = broken
    before = threading.active_count()
    with pytest.raises(OSError, match="lost its disk"):
        training.fit(40, progress=False)
    assert len(training.losses) == 6 and threading.active_count() == before


def test_a_device_that_is_not_there_is_said_at_once():
    guide = sp.ScoreGuide(gaussian_field, layout=LAYOUT)
    with pytest.raises(sp.BackendUnavailable, match="no device 'gpu'"):
        sp.ScoreMatching(guide, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(sp.BackendUnavailable, match="needs a CUDA device"):
            sp.ScoreMatching(guide, device="cuda")
    with pytest.raises(ValueError, match="precision"):
        sp.ScoreMatching(guide, precision="float16")
    assert guide.gaussian is None


@pytest.mark.parametrize(
    "precision, dtype", [("float64", D), ("bf16", torch.float32), ("float32", torch.float32)]
)
def test_precisions(precision, dtype):
    """The same training to the precision's own rounding; weights stay in float32 under autocast."""
    usual, other = make(), make(precision=precision)
    for training in (usual, other):
        training.fit(8, progress=False)
    assert {p.dtype for p in other.guide.net.parameters()} == {dtype}
    off = np.abs(np.array(usual.losses) - other.losses).max()
    assert off < {"float64": 1e-3, "bf16": 0.03, "float32": 1e-12}[precision]


def test_the_rate_rises_and_falls():
    training = make(warm_up=4)
    rates, step = [], training.step
    training.step = lambda: rates.append(training.optimiser.param_groups[0]["lr"]) or step()
    training.fit(8, progress=False)
    expected = [min(1, (i + 1) / 4) * 3e-3 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert training.optimiser.param_groups[0]["lr"] == pytest.approx(3e-3)


def test_rows_and_pools_by_size():
    def of(side):
        def model(y=None):
            zero = torch.zeros(side, side, dtype=D)
            field = pyro.sample("field", dist.Normal(zero, 1.0).to_event(2))
            pyro.sample("y", dist.Normal(field.sum(), 1.0), obs=y)

        return sp.ScoreMatching(sp.ScoreGuide(model, layout={"field": sp.Grid()}))

    assert [(t.batch, t.pool) for t in map(of, (16, 64, 256))] == [(256, 8192), (16, 1024), (8, 64)]


def test_a_loss_that_is_no_number_is_an_error():
    training = make(gaussian_field, ahead=False)
    training.prepare(progress=False)
    with torch.no_grad():
        next(training.network.parameters()).fill_(torch.nan)
    with pytest.raises(sp.ModelError, match="loss of step 0 is nan"):
        training.step()


def test_a_convolution_without_a_layout_is_warned_of():
    class Convolving(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.inner = torch.nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x, level):
            return self.inner(x[:, None])[:, 0]

    training = sp.ScoreMatching(sp.ScoreGuide(gaussian_field, net=Convolving), batch=64, draws=2_000)
    with pytest.warns(UserWarning, match=r"Convolving has convolutions, .*layout=\{site: sp.Grid"):
        training.prepare(progress=False)


def test_a_factory_of_ones_own_sees_the_grid():
    """Any module of images and levels, by name and shape: what it is given, and that it is trained."""
    asked = []

    class Own(torch.nn.Module):
        def __init__(self, field):
            super().__init__()
            asked.append(field)
            self.inner = torch.nn.Conv1d(2 * field.channels, field.channels, 3, padding=1)

        def forward(self, x, level):
            assert x.shape[1:] == (2, N) and level.shape == (len(x), 1)
            return self.inner(x)

    guide = sp.ScoreGuide(gaussian_field, layout=LAYOUT, net=Own)
    training = sp.ScoreMatching(guide, batch=64, draws=2_000)
    before = training.step()
    assert asked == [sp.FieldShape(1, (N,), (True,))] and math.isfinite(before)
    assert guide.condition(y=torch.zeros(N, dtype=D)).sample(3)["field"].shape == (3, N)
