"""Any chain of transforms of any base has the support that its draws and its density show (hypothesis,
derandomised)."""

import pyro
import pyro.distributions as dist
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import transforms as T

from sdeppl.tracing.supports import bounds, log_density, needs_guard, true_support

D = torch.float64


def t(value):
    return torch.tensor(value, dtype=D)


number = st.floats(-2.0, 2.0)
positive = st.floats(0.3, 2.0)
signed = st.builds(lambda size, sign: sign * size, positive, st.sampled_from([-1.0, 1.0]))
BASES = st.one_of(
    st.builds(lambda a, b: dist.Normal(t(a), t(b)), number, positive),
    st.builds(lambda a, b: dist.Uniform(t(a), t(a + b)), number, positive),
    st.builds(lambda a: dist.Exponential(t(a)), positive),
    st.builds(lambda a: dist.HalfNormal(t(a)), positive),
    st.builds(lambda a, b: dist.Gamma(t(1 + a), t(b)), positive, positive),
    st.builds(lambda a, b: dist.Beta(t(1 + a), t(1 + b)), positive, positive),
    st.builds(lambda a, b: dist.Pareto(t(a), t(1 + b)), positive, positive),
)
PARTS = st.one_of(
    st.builds(lambda a, b: T.AffineTransform(t(a), t(b)), number, signed),
    st.sampled_from([T.SigmoidTransform(), T.TanhTransform(), T.SoftplusTransform()]),
)
CHAINS = st.lists(PARTS, min_size=1, max_size=3)
always = settings(derandomize=True, max_examples=200, deadline=None, database=None)


def ends_of(fn):
    low, high = bounds(true_support(fn))
    return float(low), float(high)


def through(chain, x):
    for part in chain:
        x = part(x)
    return x


@always
@given(BASES, CHAINS)
def test_no_draw_is_outside_and_nothing_outside_has_a_density(base, chain):
    """Where the bounds are the model's own numbers; those of a whole family, such as 0 to 1, torch checks."""
    with pyro.validation_enabled(False):
        fn = dist.TransformedDistribution(base, chain)
        torch.manual_seed(0)
        low, high = ends_of(fn)
        x = fn.sample((2_000,))
        slack = 1e-9 * (1 + x.abs().max())
        assert bool((x >= low - slack).all()) and bool((x <= high + slack).all())
        for end, side in ((low, -1.0), (high, 1.0)):
            if needs_guard(fn) and abs(end) < 1e6:
                assert float(log_density(fn, t(end + side * 0.01 * (1 + abs(end))))) == -torch.inf


@always
@given(BASES, CHAINS)
def test_inside_the_density_is_the_base_over_the_slope(base, chain):
    """ln p(f(u)) = ln p(u) - ln |df/du|, the slope by central differences, at draws where these can tell."""
    with pyro.validation_enabled(False):
        fn = dist.TransformedDistribution(base, chain)
        torch.manual_seed(0)
        u = base.sample((200,))
        step = 1e-5 * u.std()
        x, slope = through(chain, u), (through(chain, u + step) - through(chain, u - step)).abs() / (2 * step)
        clear = slope * step > 1e-7 * (1 + x.abs())
        found, expected = log_density(fn, x), base.log_prob(u) - slope.log()
        torch.testing.assert_close(found[clear], expected[clear], rtol=1e-3, atol=1e-3)


@always
@given(BASES, CHAINS)
def test_the_ends_are_those_of_the_base_sent_through(base, chain):
    """Each transform is monotone, so that the ends of its image are the images of the ends, about."""
    with pyro.validation_enabled(False):
        near = [
            t(end + side * 1e-9 * (1 + abs(end)) if abs(end) < 1e6 else -side * 1e8)
            for end, side in zip(ends_of(base), (1.0, -1.0), strict=True)
        ]
        images = sorted(float(through(chain, point)) for point in near)
        for image, end in zip(images, ends_of(dist.TransformedDistribution(base, chain)), strict=True):
            assert abs(image - end) < 1e-4 if abs(end) < 1e6 else abs(image) > 1e4 and image * end > 0
