"""Records of tensor operations: the same numbers, with what is constant, neutral or repeated left out."""

import pytest
import torch

from sdeppl.tracing.record import record

D = torch.float64
Z = torch.randn((6, 4), dtype=D, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn((6, 4), dtype=D, generator=torch.Generator().manual_seed(1))


def nodes(operations):
    return [str(node.target) for node in operations.graph.nodes if node.op == "call_function"]


def wasteful(z):
    scale = torch.linalg.cholesky(torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=D))
    one = (z[:, :2] * 1.0 + 0.0) / torch.ones(2, dtype=D)
    again = (z[:, :2] * 1.0 - 0.0).unsqueeze(-1).reshape(6, 2)
    total = (one.exp() + again.exp()) @ scale + torch.zeros_like(one)
    return total.unsqueeze(1).sum(dim=1), torch.ones_like(z) * 3.0 + z**1.0


def test_the_same_numbers_in_fewer_operations():
    operations = record(wasteful, Z)
    for z in (Z, OTHER):
        for found, expected in zip(operations(z), wasteful(z), strict=True):
            assert torch.equal(found, expected)
    kept = nodes(operations)
    assert sum("exp" in name for name in kept) == 1 and not any("cholesky" in name for name in kept)
    assert len(kept) <= 6, kept  # slice, exp, add, mm, add; perhaps a view


def test_what_looks_neutral_and_is_not():
    def function(z):
        wide = z[:, :1] * torch.ones(3, dtype=D)  # it broadcasts
        flipped = torch.ones(4, dtype=D) - z  # one minus
        inverse = torch.ones_like(z) / z
        turned = z.transpose(0, 1).reshape(6, 4)  # the same shape, another order
        narrow = (z * 1.0).to(torch.float32)
        return wide, flipped, inverse, turned, narrow, z.sum(dim=1, keepdim=True)

    operations = record(function, Z)
    for found, expected in zip(operations(OTHER), function(OTHER), strict=True):
        assert torch.equal(found, expected) and found.dtype == expected.dtype


def test_the_gradient_of_a_random_walk():
    """Of its increments, for many rows at once."""

    def density(x):
        steps = torch.cat([x[..., :1], x[..., 1:] - x[..., :-1]], dim=-1)
        return -0.5 * (steps / 0.3).square().sum()

    both = torch.func.vmap(torch.func.grad_and_value(density))
    for found, expected in zip(record(both, Z)(OTHER), both(OTHER), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_the_first_result_alone():
    """By no more operations and constants than it needs, and of the same numbers."""

    def function(z):
        return z[:, :2] * 2.5, (z * torch.arange(4.0, dtype=D)).exp().sum(dim=1)

    both = record(function, Z)
    first = both.first()
    (found,) = first(OTHER)
    assert torch.equal(found, function(OTHER)[0]) and torch.equal(both(OTHER)[1], function(OTHER)[1])
    assert len(nodes(first)) < len(nodes(both)) and len(first.constants) < len(both.constants)


def test_changes_in_place_and_random_numbers():
    def in_place(z):
        buffer = torch.zeros_like(z)
        buffer[:, 1] = z[:, 0]
        buffer.mul_(2.0)
        return (buffer + z,)

    assert torch.equal(record(in_place, Z)(OTHER)[0], in_place(OTHER)[0])

    def random(z):
        return (torch.where(z > 1e9, torch.randn(4, dtype=D), z),)

    operations = record(random, Z)
    assert torch.equal(operations(OTHER)[0], OTHER)
    assert not any("randn" in name or "normal" in name for name in nodes(operations))


def test_what_cannot_be_recorded_raises():
    with pytest.raises(RuntimeError):
        record(lambda z: (z * float(z.sum()),), Z)


def test_a_product_that_something_else_needs_overflows_in_all_that_is_made_of_it():
    """ln p of a Gamma at a rate that overflows is inf - inf, no number, and not infinite."""
    large = torch.tensor([1.0, 3e38], dtype=torch.float32)

    def log_p(x):
        rate = 200.0 * x
        return (2.0 * rate.log() - 1e-3 * rate,)

    found = record(log_p, torch.ones(2))(large)[0]
    torch.testing.assert_close(found, log_p(large)[0], equal_nan=True)
    assert torch.isnan(found[1])
