"""Observations that are known by their density alone, and torch classifiers."""

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp

DIM, CLASSES = 3, 4
X = np.random.default_rng(31).standard_normal((6, DIM)) * 1.4 + 0.2


def test_the_density_is_the_function(backend):
    xp = backend.xp
    seen = sp.DensityObservation(lambda x: xp.sin(x[:, 0]) - x[:, 2] ** 2, DIM, array(X, backend))
    assert (seen.dim, seen.count, seen.has_jacobian, seen.hard) == (DIM, 1, False, False)
    assert not (seen.is_linear or seen.is_gaussian)
    x0 = array(X, backend)
    assert_array(seen.log_prob(x0), np.sin(X[:, 0]) - X[:, 2] ** 2, backend)
    for call in (lambda: seen.linearise(x0), lambda: seen.site_approximation(None, x0)):
        with pytest.raises(sp.NotDifferentiable, match="use likelihood='monte-carlo', which needs none"):
            call()


def test_another_shape_than_one_number_per_row_is_refused(backend):
    seen = sp.DensityObservation(lambda x: x, DIM, array(X, backend))
    with pytest.raises(ValueError, match=r"must return \(6,\) for x_0 \(6, 3\); got \(6, 3\)"):
        seen.log_prob(array(X, backend))
    with pytest.raises(TypeError, match="like must be an array of NumPy, torch or CuPy; got list"):
        sp.DensityObservation(lambda x: x, DIM, [1.0])


@pytest.fixture
def classifier():
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(DIM, 8), torch.nn.Tanh(), torch.nn.Linear(8, CLASSES)).double()


@pytest.mark.parametrize("label", [0, 3])
def test_a_classifier_is_the_log_softmax_of_its_logits(label, classifier, backend):
    torch = pytest.importorskip("torch")
    seen = sp.classifier_observation(classifier, label, DIM, array(X, backend))
    x = torch.tensor(host(array(X, backend)), requires_grad=True)
    expected = torch.log_softmax(classifier(x), dim=1)[:, label]
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    assert_array(seen.log_prob(array(X, backend)), expected.detach().numpy(), backend)
    assert_array(seen.gradient(array(X, backend)), gradient.numpy(), backend)


def test_logits_far_apart_do_not_overflow(classifier, backend):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        classifier[2].bias += torch.tensor([0.0, 3000.0, 0.0, 0.0])
    seen = sp.classifier_observation(classifier, 0, DIM, array(X, backend))
    found = host(seen.log_prob(array(X, backend)))
    np.testing.assert_allclose(found, -3000, rtol=1e-3)
    assert np.isfinite(host(seen.gradient(array(X, backend)))).all()


def test_a_label_that_is_no_class_is_refused(classifier):
    numpy = sp.resolve("numpy")
    seen = sp.classifier_observation(classifier, CLASSES, DIM, X)
    with pytest.raises(ValueError, match=r"expected logits \(batch, classes\) with classes > label = 4; got"):
        seen.log_prob(array(X, numpy))


def test_the_gradient_is_used_for_guidance(classifier, precise):
    """By `log_prob_gradient`, against differences of the density."""
    seen = sp.classifier_observation(classifier, 1, DIM, array(X, precise))
    plain = sp.DensityObservation(seen.log_prob, DIM, array(X, precise))
    x0 = array(X, precise)
    assert_array(seen.log_prob_gradient(x0), host(plain.log_prob_gradient(x0)), precise, 1e-8)
