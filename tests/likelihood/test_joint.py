"""Several observations of one x_0 as one."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood import families

DIM = 5
RNG = np.random.default_rng(21)
H = RNG.standard_normal((6, DIM)) * 1.2
Y = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.0])
R_FULL = covariance_matrix(2, seed=22, smallest=0.1, largest=2.0)
X = RNG.standard_normal((4, DIM)) * 1.5 - 0.5


def parts_on(backend, missing=False):
    """Linear with a full and with a diagonal R, curved with a noise that depends on x, and counts."""

    def a(numbers):
        return array(numbers, backend)

    def curved(x):
        numbers = host(x)
        value = np.stack([numbers[:, 0] * numbers[:, 1], np.sin(numbers[:, 2])], axis=1)
        jacobian = np.zeros((len(numbers), 2, DIM))
        jacobian[:, 0, 0], jacobian[:, 0, 1] = numbers[:, 1], numbers[:, 0]
        jacobian[:, 1, 2] = np.cos(numbers[:, 2])
        return a(value), a(jacobian), a(np.exp(0.2 * numbers[:, :2]))

    gap = np.nan if missing else 1.0
    return {
        "full": sp.LinearGaussian(a(H[:2]), a(Y[:2]), a(R_FULL)),
        "diagonal": sp.LinearGaussian(a(H[2:4]), a(Y[2:4] * [gap, 1.0]), a([0.3, 1.7])),
        "curved": sp.NonlinearGaussian(curved, DIM, a([0.7, -0.2]), None),
        "counts": sp.IndependentObservation(families.Poisson(), a([2.0 * gap, 0.0]), H=a(H[4:])),
    }


ORDERS = pytest.mark.parametrize(
    "names",
    [
        ("full", "diagonal"),
        ("diagonal", "counts"),
        ("curved", "diagonal"),
        ("counts", "curved", "full"),
        ("full", "diagonal", "curved", "counts"),
    ],
    ids="+".join,
)


@ORDERS
@pytest.mark.parametrize("missing", [False, True])
def test_a_joint_observation_is_its_parts(names, missing, backend):
    """Density, predictor, Jacobian and surrogate, part by part, as block diagonal noise."""
    parts = [parts_on(backend, missing)[name] for name in names]
    joint = sp.joint_observation(parts)
    counts = [part.count for part in parts]
    assert joint.count == sum(counts)
    assert joint.dim == DIM and joint.has_jacobian and not joint.hard
    assert joint.is_gaussian == ("counts" not in names)
    x0 = array(X, backend)
    assert_array(joint.log_prob(x0), sum(host(part.log_prob(x0)) for part in parts), backend)
    linear, linears = joint.linearise(x0), [part.linearise(x0) for part in parts]
    assert_array(linear.predicted, np.concatenate([host(a.predicted) for a in linears], axis=1), backend)
    blocks = [np.broadcast_to(host(a.H), (4, n, DIM)) for a, n in zip(linears, counts, strict=True)]
    np.testing.assert_array_equal(
        np.broadcast_to(host(linear.H), (4, joint.count, DIM)), np.concatenate(blocks, axis=1)
    )
    v = np.random.default_rng(5).uniform(0.1, 2.0, (4, joint.count))
    found = joint.site_approximation(linear, array(v, backend))
    start, dense = 0, np.zeros((4, joint.count, joint.count))
    y, log_scale = np.zeros((4, joint.count)), np.zeros(4)
    for part, own, n in zip(parts, linears, counts, strict=True):
        rows = slice(start, start + n)
        alone = part.site_approximation(own, array(v[:, rows], backend))
        zero = array(np.zeros((4, n, n)), backend)
        dense[:, rows, rows] = host(alone.add_noise(zero))
        y[:, rows] = host(alone.y)
        log_scale += host(alone.log_scale) if not isinstance(alone.log_scale, float) else 0.0
        start += n
    zero = array(np.zeros((4, joint.count, joint.count)), backend)
    assert_array(found.noise.added_to(zero), dense, backend, 1e-14)
    np.testing.assert_array_equal(np.broadcast_to(host(found.y), y.shape), y)
    np.testing.assert_allclose(
        np.zeros(4) + (found.log_scale if isinstance(found.log_scale, float) else host(found.log_scale)),
        log_scale,
    )
    w = np.random.default_rng(6).standard_normal((4, joint.count))
    assert_array(found.noise.matvec(array(w, backend)), np.einsum("bij,bj->bi", dense, w), backend)


def test_linear_gaussian_parts_are_one_linear_gaussian(backend):
    parts = parts_on(backend)
    joint = sp.joint_observation([parts["full"], parts["diagonal"]])
    assert isinstance(joint, sp.LinearGaussian)
    expected = np.zeros((4, 4))
    expected[:2, :2], expected[2:, 2:] = R_FULL, np.diag([0.3, 1.7])
    assert_array(joint.R, expected, backend)
    diagonal = sp.joint_observation([parts["diagonal"], parts["diagonal"]])
    assert_array(diagonal.R, [0.3, 1.7, 0.3, 1.7], backend)


def test_a_lone_part_is_returned_as_it_is_and_joints_are_flattened(backend):
    parts = parts_on(backend)
    assert sp.joint_observation([parts["counts"]]) is parts["counts"]
    inner = sp.joint_observation([parts["counts"], parts["full"]])
    outer = sp.joint_observation([inner, parts["diagonal"]])
    assert outer.parts == (parts["counts"], parts["full"], parts["diagonal"])


@pytest.mark.parametrize("t", [0.02, 0.3, 1.0])
@ORDERS
def test_two_sites_equal_their_joint(names, t, precise):
    """Guided scores of the joint, of the parts in any order and of a nested joint, to 1e-9."""
    parts = parts_on(precise)
    prior = sp.GaussianDenoiser(
        sp.VPSDE(), array(np.arange(DIM) * 0.3, precise), array(covariance_matrix(DIM, 23), precise)
    )
    x = array(X, precise)
    chosen = [parts[name] for name in names]
    one = sp.TweedieDenoiser(prior, sp.joint_observation(chosen)).score(x, t)
    for other in (
        sp.joint_observation(chosen[::-1]),
        sp.joint_observation([sp.joint_observation(chosen[:1]), sp.joint_observation(chosen[1:])]),
        sp.JointObservation(chosen),
    ):
        assert_array(sp.TweedieDenoiser(prior, other).score(x, t), host(one), precise, 1e-9)


@pytest.mark.parametrize("t", [0.02, 0.3, 1.0])
def test_linear_sites_equal_the_stacked_observation(t, precise):
    """Also where they are kept apart, as a `JointObservation`."""
    parts = [parts_on(precise)[name] for name in ("full", "diagonal")]
    R = np.zeros((4, 4))
    R[:2, :2], R[2:, 2:] = R_FULL, np.diag([0.3, 1.7])
    stacked = sp.LinearGaussian(array(H[:4], precise), array(Y[:4], precise), array(R, precise))
    prior = sp.GaussianDenoiser(
        sp.VPSDE(), array(np.arange(DIM) * 0.3, precise), array(covariance_matrix(DIM, 23), precise)
    )
    expected = host(sp.TweedieDenoiser(prior, stacked).score(array(X, precise), t))
    for joint in (sp.joint_observation(parts), sp.JointObservation(parts)):
        assert joint.is_linear
        found = sp.TweedieDenoiser(prior, joint).score(array(X, precise), t)
        assert_array(found, expected, precise, 1e-9)


def test_constraints_are_one_constraint_and_must_not_depend_on_one_another(backend):
    first, second = (
        sp.LinearConstraint(array(H[rows], backend), array(Y[rows], backend)) for rows in ([0], [1, 2])
    )
    joint = sp.joint_observation([first, second])
    assert isinstance(joint, sp.LinearConstraint) and joint.count == 3
    both = sp.joint_observation([first, parts_on(backend)["full"]])
    assert both.hard and both.is_linear and both.is_gaussian
    found = both.site_approximation(both.linearise(array(X, backend)), array(np.ones(3), backend))
    expected = np.zeros((3, 3))
    expected[1:, 1:] = R_FULL
    assert_array(found.R, expected, backend)
    with pytest.raises(TypeError, match="has no density"):
        both.log_prob(array(X, backend))
    with pytest.raises(
        ValueError, match="the 2 rows of H in a constraint on 5 numbers depend on one another"
    ):
        sp.JointObservation([first, parts_on(backend)["full"], first])


def test_a_constraint_beside_noisy_rows_is_the_limit_of_small_noise(precise):
    """In closed form: mean and covariance of x_0 given both, against a variance of 1e-9."""
    hard = sp.LinearConstraint(array(H[:1], precise), array(Y[:1], precise))
    noisy = sp.LinearGaussian(array(H[1:3], precise), array(Y[1:3], precise), array(R_FULL, precise))
    near = sp.LinearGaussian(array(H[:1], precise), array(Y[:1], precise), 1e-9)
    prior = sp.GaussianDenoiser(
        sp.VPSDE(), array(np.arange(DIM) * 0.3, precise), array(covariance_matrix(DIM, 23), precise)
    )
    exact = sp.exact_posterior(prior, sp.joint_observation([noisy, hard]))
    limit = sp.exact_posterior(prior, sp.joint_observation([noisy, near]))
    x = array(X, precise)
    assert_array(exact.denoiser.score(x, 0.3), host(limit.denoiser.score(x, 0.3)), precise, 1e-6)
    assert float(exact.log_evidence) == pytest.approx(float(limit.log_evidence), abs=1e-6)
    location = host(exact.denoiser.location)
    assert (H[0] @ location) == pytest.approx(Y[0], abs=1e-10)


def test_with_a_density_alone_nothing_is_linearised(backend):
    xp = backend.xp
    black_box = sp.DensityObservation(lambda x: -xp.sum(x * x, axis=1), DIM, array(Y, backend))
    part = parts_on(backend)["full"]
    joint = sp.joint_observation([part, black_box])
    assert not joint.has_jacobian and joint.count == 3
    x0 = array(X, backend)
    assert_array(joint.log_prob(x0), host(part.log_prob(x0)) - (host(x0) ** 2).sum(axis=1), backend)
    with pytest.raises(sp.NotDifferentiable):
        joint.linearise(x0)


def test_parts_that_do_not_belong_together_are_refused():
    part = sp.LinearGaussian(H, Y, 0.5)
    with pytest.raises(ValueError, match="parts must be observations, at least one part; got"):
        sp.joint_observation([])
    with pytest.raises(ValueError, match="must take one x_0; got LinearGaussian of 5 numbers in float64 and"):
        sp.joint_observation([part, sp.LinearGaussian(H[:, :4], Y, 0.5)])
    single = sp.LinearGaussian(H.astype(np.float32), Y.astype(np.float32), 0.5)
    with pytest.raises(ValueError, match="LinearGaussian of 5 in float32"):
        sp.joint_observation([part, single])
    torch = sp.resolve("torch")
    other = sp.LinearGaussian(array(H, torch), array(Y, torch), 0.5)
    with pytest.raises((sp.BackendMismatch, ValueError)):
        sp.joint_observation([part, other])
