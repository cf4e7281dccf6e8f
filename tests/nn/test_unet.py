"""Networks on grids: shapes, shifts, zero at the start, and what sites hear of each other."""

import pytest
import torch

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.nn import FieldNetwork

TORUS = sp.FieldShape(2, (16, 24), (True, True))


def awake(module, seed=0):
    """With weights at random where there were zeros."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize(
    "shape, periodic",
    [
        ((33,), (True,)),
        ((7,), (False,)),
        ((9, 20), (True, False)),
        ((1, 5), (False, True)),
        ((5, 6, 7), (True,) * 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("attention", [False, True])
def test_any_size_and_number_of_axes(shape, periodic, attention):
    module = awake(sp.UNet(width=4, depth=2, attention=attention)(sp.FieldShape(3, shape, periodic)))
    x = torch.randn(2, 6, *shape, generator=torch.Generator().manual_seed(1))
    y = module(x, torch.tensor([[0.3], [-1.0]]))
    assert y.shape == (2, 3, *shape) and y.dtype == torch.float32
    alone = module(x[1:], -1.0)
    torch.testing.assert_close(alone, y[1:])


def test_a_circular_network_commutes_with_shifts():
    """By multiples of 2^depth points along each axis; on a grid that is not circular it does not."""
    x = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(2))
    for periodic, same in (((True, True), True), ((True, False), False)):
        field = sp.FieldShape(2, (16, 24), periodic)
        module = awake(sp.UNet(width=8, depth=2, blocks=2, attention=True)(field))
        shifted = module(x.roll((4, -8), (2, 3)), 0.2)
        expected = module(x, 0.2).roll((4, -8), (2, 3))
        assert torch.allclose(shifted, expected, atol=1e-5) is same


def test_what_is_far_is_seen_by_the_coarse_grids_and_no_farther():
    """Without halvings: entering, two convolutions of a block, leaving; 4 points to either side."""
    x = torch.zeros(1, 2, 40, requires_grad=True)
    module = awake(sp.UNet(width=4, depth=0)(sp.FieldShape(1, (40,), (True,))))
    (slope,) = torch.autograd.grad(module(x, 0.0)[0, 0, 20], x)
    seen = slope[0].abs().sum(dim=0).nonzero()[:, 0]
    assert seen.tolist() == list(range(16, 25))
    deep = awake(sp.UNet(width=4, depth=2)(sp.FieldShape(1, (40,), (True,))))
    (slope,) = torch.autograd.grad(deep(x, 0.0)[0, 0, 20], x)
    assert slope[0].abs().sum(dim=0).count_nonzero() > 20


@pytest.mark.parametrize(
    "shape, depth", [((15,), 0), ((16, 16), 1), ((64, 33), 2), ((256, 256), 4), ((512,), 4)]
)
def test_depth_by_size(shape, depth):
    module = sp.UNet()(sp.FieldShape(1, shape, (True,) * len(shape)))
    assert module.config["depth"] == depth


def test_it_returns_zero_until_it_is_trained():
    parts = [TORUS, 3, sp.FieldShape(1, (10,), (False,))]
    net = FieldNetwork(parts)
    rows = torch.randn(2, 2 * net.dim, generator=torch.Generator().manual_seed(3))
    assert net.dim == 768 + 3 + 10 and not net(rows, 0.5).any()


def test_sites_and_numbers_hear_of_each_other():
    """The Jacobian by blocks, without the blocks of what goes on a later grid and comes to an earlier one."""
    parts = [2, sp.FieldShape(1, (6,), (True,)), 1, sp.FieldShape(2, (4,), (False,))]
    net = awake(FieldNetwork(parts, sp.UNet(width=4)))
    rows = torch.randn(1, 2 * net.dim, generator=torch.Generator().manual_seed(4))
    slope = torch.autograd.functional.jacobian(lambda r: net(r, 0.1)[0], rows)[:, 0]
    slope = slope[:, : net.dim].abs() + slope[:, net.dim :].abs()
    sites = [slice(0, 2), slice(2, 8), slice(8, 9), slice(9, 17)]
    heard = [[bool(slope[out, into].any()) for into in sites] for out in sites]
    assert heard == [[True] * 4, [True, True, True, False], [True] * 4, [True] * 4]


def test_sites_on_one_grid_are_channels_of_one_module():
    asked = []

    def factory(field):
        asked.append(field)
        return torch.nn.Conv1d(2 * field.channels, field.channels, 1)

    one = sp.FieldShape(1, (6,), (True,))

    class WithLevel(torch.nn.Module):
        def __init__(self, field):
            super().__init__()
            self.inner = factory(field)

        def forward(self, x, level):
            assert level.shape == (x.shape[0], 1)
            return self.inner(x) + level[..., None]

    net = FieldNetwork([one, sp.FieldShape(2, (6,), (True,))], WithLevel)
    assert asked == [sp.FieldShape(3, (6,), (True,))]
    rows = torch.randn(5, 36)
    white, x = rows[:, :18].reshape(5, 3, 6), rows[:, 18:].reshape(5, 3, 6)
    expected = net.modules_of_grids[0](torch.cat([white, x], dim=1), torch.full((5, 1), 0.7))
    torch.testing.assert_close(net(rows, 0.7), expected.flatten(1))


def test_products_with_the_slope_and_second_derivatives():
    """`TorchFunction`'s pullback, one and several at once, against autograd; in float64."""
    parts = [sp.FieldShape(1, (4, 3), (True, False)), 2]
    net = awake(FieldNetwork(parts, sp.UNet(width=4, depth=1, attention=True))).double()
    function, x = TorchFunction(net), torch.randn(3, 28, dtype=torch.float64)
    value, pull = function.with_pullback(x, 0.3)
    torch.testing.assert_close(value, net(x, 0.3))
    slope = torch.autograd.functional.jacobian(lambda z: net(z, 0.3).sum(dim=0), x).movedim(1, 0)
    v = torch.randn(2, 3, 14, dtype=torch.float64)
    torch.testing.assert_close(pull(v), torch.einsum("kbo,boi->kbi", v, slope))
    torch.testing.assert_close(pull(v[0]), torch.einsum("bo,boi->bi", v[0], slope))
    left, right = v.movedim(0, -1), torch.randn(3, 28, 2, dtype=torch.float64)
    found = function.bilinear_slope(x, left, right, 0.3)

    def along(z):
        own = torch.func.vmap(torch.func.jacrev(lambda row: net(row[None], 0.3)[0]))(z)
        return torch.einsum("boa,boi,bia->", left, own, right)

    torch.testing.assert_close(found, torch.autograd.functional.jacobian(along, x))


def test_errors_say_what_to_do():
    with pytest.raises(TypeError, match=r"got 5\. Say what .*layout="):
        sp.UNet()(5)
    with pytest.raises(TypeError, match="attention"):
        sp.UNet(attention=1)
    with pytest.raises(ValueError, match="width"):
        sp.UNet(width=0)
    with pytest.raises(TypeError, match="torch module"):
        FieldNetwork([TORUS], lambda field: None)

    class Wrong(torch.nn.Module):
        def forward(self, x, level):
            return x

    with pytest.raises(ValueError, match=r"returns shape \(2, 4, 16, 24\).*expected \(2, 2, 16, 24\)"):
        FieldNetwork([TORUS], lambda field: Wrong())(torch.zeros(2, 2 * 768), 0.0)
