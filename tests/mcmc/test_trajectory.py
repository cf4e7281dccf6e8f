"""One trajectory of all chains."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdeppl.mcmc import Scale, State, choose, propose

D = torch.float64


@dataclass(frozen=True)
class Density:
    """By a function to a State."""

    function: Callable

    def __call__(self, z):
        return self.function(z)

    def gradient(self, z):
        return self.function(z).gradient


@Density
def half_normal(z):
    """ln p = -z²/2 where z > 0, NaN elsewhere."""
    return State(z, torch.where(z > 0, -0.5 * z**2, torch.nan)[:, 0], torch.where(z > 0, -z, torch.nan))


def test_nan_is_a_rejection():
    """300 iterations of 400 chains, of which 50 are left out; moments of the half-normal."""
    generator = torch.Generator().manual_seed(3)
    state, scale, sums = half_normal(torch.ones((400, 1), dtype=D)), Scale(torch.ones(1, dtype=D)), []
    for index in range(300):
        momentum = torch.randn((400, 1), dtype=D, generator=generator)
        proposal = propose(half_normal, state, momentum, scale, 0.7, 1 + index % 2)
        assert bool((proposal.acceptance[proposal.non_finite] == 0).all())
        assert bool(proposal.non_finite.any()) and bool(proposal.diverged[proposal.non_finite].all())
        uniform = torch.rand(400, dtype=D, generator=generator)
        state, accepted = choose(state, proposal, uniform)
        assert not bool((accepted & proposal.non_finite).any())
        sums.append(state.z[:, 0])
    draws, mean, sd = torch.cat(sums[50:]), math.sqrt(2 / math.pi), math.sqrt(1 - 2 / math.pi)
    assert abs(float(draws.mean()) - mean) < 0.05 * sd and abs(float(draws.std()) / sd - 1) < 0.05


def test_a_chain_that_meets_no_number_on_its_way_is_rejected_and_the_others_go_on():
    """Of two chains, that which crosses (0, 0.1) meets NaN in its third step, and the last is a number again;
    a density of zero on the way is no edge, if the end is not there."""
    step, scale = 0.5, Scale(torch.ones(1, dtype=D))
    start, momentum = torch.tensor([[-1.2], [-9.0]], dtype=D), torch.tensor([[1.0], [1.0]], dtype=D)

    def flat(bad):
        def function(z):
            met = (z > -0.3) & (z < 0.2)
            log_p = torch.where(met, -torch.inf, 0.0)[:, 0]
            return State(z, log_p, torch.where(met, bad, torch.zeros_like(z)))

        return Density(function)

    for bad, alive in ((torch.nan, False), (torch.inf, False), (0.0, True)):
        density = flat(bad)
        found = propose(density, density(start), momentum, scale, step, 5)
        assert found.non_finite.tolist() == [not alive, False], bad
        assert found.acceptance.tolist() == [float(alive), 1.0]
        assert torch.equal(found.state.z[1], start[1] + 2.5)
        assert not alive or torch.allclose(found.state.z[0], start[0] + 2.5)
        ends_there = propose(density, density(start), momentum, scale, step, 2)
        assert ends_there.non_finite.tolist() == [True, False] and float(ends_there.acceptance[0]) == 0.0


def test_the_leapfrog_is_reversible_and_of_second_order():
    """Back with the opposite momenta to rounding; energy errors fall by 4 as the step is halved."""
    precision = torch.tensor([[2.0, 0.6], [0.6, 0.9]], dtype=D)

    @Density
    def normal(z):
        return State(z, -0.5 * ((z @ precision) * z).sum(-1), -z @ precision)

    generator = torch.Generator().manual_seed(5)
    z, n = (torch.randn((64, 2), dtype=D, generator=generator) for _ in range(2))
    for L in (torch.tensor([0.7, 1.4], dtype=D), torch.tensor([[0.7, 0.0], [0.5, 1.1]], dtype=D)):
        scale, errors = Scale(L), []
        for steps in (8, 16):
            there = propose(normal, normal(z), n, scale, 1.2 / steps, steps)
            back = propose(normal, there.state, -there.momentum, scale, 1.2 / steps, steps)
            assert torch.allclose(back.state.z, z, atol=1e-12) and torch.allclose(
                back.momentum, -n, atol=1e-12
            )
            energies = [
                0.5 * (momentum**2).sum(-1) - state.log_p
                for state, momentum in ((normal(z), n), (there.state, there.momentum))
            ]
            change = energies[0] - energies[1]
            assert torch.allclose(there.acceptance, change.clamp_max(0.0).exp())
            errors.append(float(change.abs().mean()))
        assert 3.5 < errors[0] / errors[1] < 4.5
        assert torch.allclose(scale.whiten(scale.apply(z)), z)
