"""The network from an ONNX file, run by onnxruntime, against the torch module that it was written from."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.backend import TorchFunction, place

DIM, LEVELS = 3, (-4.0, 0.3, 6.5)


class Other(torch.nn.Module):
    """Not the library's own network: layers that it has not, dropout, a buffer that is no weight."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.linspace(-1.0, 1.0, DIM), persistent=False)
        self.first, self.second = torch.nn.Linear(DIM + 1, 9), torch.nn.Linear(9, DIM)
        self.rest = torch.nn.Sequential(
            torch.nn.GELU(), torch.nn.GroupNorm(3, 9), torch.nn.Dropout(0.5), torch.nn.Softplus()
        )

    def forward(self, x, level):
        return self.second(self.rest(self.first(torch.cat([x + self.offset, level + 0 * x[:, :1]], dim=-1))))


def perturbed(module, size):
    """Every weight far from where it starts, norms included; seed 4."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def written(module, folder, **arguments):
    path = folder / "net.onnx"
    sp.export_onnx(module, path, **arguments)
    return SimpleNamespace(module=module, path=path, function=sp.OnnxFunction(path))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """In float32, as it is trained."""
    return written(perturbed(sp.ResidualMLP(DIM, width=24, depth=2), 0.4), tmp_path_factory.mktemp("single"))


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """In float64; weights for which guidance works, but which matter."""
    net = perturbed(sp.ResidualMLP(DIM, width=24, depth=2).double(), 0.05)
    return written(net, tmp_path_factory.mktemp("double"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return written(perturbed(Other(), 0.4), tmp_path_factory.mktemp("other"), dim=DIM)


def rows(*shape, seed):
    return 1.0 + 2.0 * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("which", "tolerance"), [("single", 1e-5), ("other", 1e-5), ("double", 1e-10)])
def test_value_and_pullback_are_those_of_the_module(which, tolerance, level, precise, request):
    """Of TorchFunction on NumPy, on every backend; seeds 1 and 2."""
    net, x, v = request.getfixturevalue(which), rows(5, DIM, seed=1), rows(5, DIM, seed=2)
    wanted, pull = TorchFunction(net.module).with_pullback(x, level)
    value, pullback = net.function.with_pullback(array(x, precise), level)
    assert_array(value, wanted, precise, tolerance)
    assert_array(net.function(array(x, precise), level), wanted, precise, tolerance)
    for vector in (v, -2 * v):  # a pullback may be used more than once
        assert_array(pullback(array(vector, precise)), pull(vector), precise, tolerance)


def test_the_answer_has_the_dtype_of_x(single, double, backend):
    for net in (single, double):
        x, v = rows(5, DIM, seed=1), rows(5, DIM, seed=2)
        wanted, pull = TorchFunction(net.module).with_pullback(x, 0.3)
        value, pullback = net.function.with_pullback(array(x, backend), 0.3)
        assert_array(value, wanted, backend, 1e-5)
        assert_array(pullback(array(v, backend)), pull(v), backend, 1e-5)


@pytest.mark.parametrize("batch", [1, 7, 1009, 2000])
def test_any_number_of_rows_and_of_products(batch, double, other):
    """One row, as many as it was traced with, more; one product or several at once. Against the modules in
    float64, 1e-10 and 1e-5: of the other's steepest rows torch's own float32 has 5 digits; seeds 1 and 6."""
    for net, tolerance, dtype in ((double, 1e-10, "float64"), (other, 1e-5, "float32")):
        backend = sp.resolve("numpy", dtype)
        x, exact = array(rows(batch, DIM, seed=1), backend), copy.deepcopy(net.module).double()
        wanted, pull = TorchFunction(exact).with_pullback(host(x), 0.3)
        value, pullback = net.function.with_pullback(x, 0.3)
        assert_array(value, wanted, backend, tolerance)
        for several in (1, 2, 4):
            v = array(rows(several, batch, DIM, seed=6), backend)
            assert_array(pullback(v), pull(host(v)), backend, tolerance)


def test_slope_of_a_bilinear_form(double, precise):
    """Against torch, which differentiates twice: to 1e-9 by differences; seeds 1, 7 and 8."""
    arrays = [rows(5, DIM, seed=1), rows(5, DIM, 2, seed=7), rows(5, DIM, 2, seed=8)]
    wanted = TorchFunction(double.module).bilinear_slope(*arrays, 0.3)
    found = double.function.bilinear_slope(*(array(a, precise) for a in arrays), 0.3)
    assert_array(found, wanted, precise, 1e-9)


def posterior(net, backend, likelihood, correction):
    location, covariance = array([1.0, -2.0, 0.5], backend), array(covariance_matrix(DIM, 6), backend)
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), location, covariance)
    seen = sp.LinearGaussian(array(np.eye(DIM)[:2], backend), array([1.5, -1.0], backend), 0.5)
    prior = sp.NetworkDenoiser(gaussian, net)
    return sp.Posterior(prior, seen, likelihood, steps=20, correction=correction)


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
@pytest.mark.parametrize(("likelihood", "correction"), [("auto", "auto"), ("tweedie", None), ("dps", None)])
def test_a_posterior_draws_the_same(likelihood, correction, double, precise):
    """With host noise of seed 3, as through the module on NumPy: 1e-9, and not as without the network."""
    numpy = sp.resolve("numpy")
    wanted = posterior(TorchFunction(double.module), numpy, likelihood, correction).sample(16, seed=3)
    found = posterior(double.function, precise, likelihood, correction).sample(16, seed=3)
    assert_array(found, wanted, precise, 1e-9)
    nothing = posterior(TorchFunction(sp.ResidualMLP(DIM).double()), numpy, likelihood, correction)
    assert np.max(np.abs(nothing.sample(16, seed=3) - wanted)) > 0.01


def test_it_runs_without_torch(double):
    script = (
        "import sys, numpy as np, sdeppl as sp\n"
        f"value, pull = sp.OnnxFunction({str(double.path)!r}).with_pullback(np.ones((2, 3)), 0.3)\n"
        "assert pull(value).shape == (2, 3)\n"
        "print([name for name in ('torch', 'pyro', 'onnx', 'onnxscript') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_gradient_is_refused_and_not_lost(double):
    x = torch.ones(2, DIM, dtype=torch.float64, requires_grad=True)
    with pytest.raises(TypeError, match="no gradient passes through an OnnxFunction; give a detached"):
        double.function(x, 0.3)
    with torch.no_grad():
        assert not double.function(x, 0.3).requires_grad
    with pytest.raises(TypeError, match="run the module by TorchFunction"):
        torch.func.jvp(lambda z: double.function(z, 0.3), (x.detach(),), (x.detach(),))


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_its_extra(package, double, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'sdeppl\[onnx\]'"):
        if package == "onnxruntime":
            sp.OnnxFunction(double.path)
        else:
            sp.export_onnx(double.module, tmp_path / "net.onnx")


def test_files_that_are_no_network(double, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        sp.OnnxFunction(tmp_path / "missing.onnx")
    content = double.path.read_bytes()
    damaged, foreign = tmp_path / "damaged.onnx", tmp_path / "foreign.onnx"
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(sp.CorruptFile, match="is not a whole ONNX file"):
        sp.OnnxFunction(damaged)
    foreign.write_bytes(content.replace(b"sdeppl network 1", b"sdeppl network 0"))
    with pytest.raises(sp.CorruptFile, match="holds 'sdeppl network 0'; expected 'sdeppl network 1'"):
        sp.OnnxFunction(foreign)


def test_the_file_says_what_it_is_and_not_where_it_was_made(double):
    content = double.path.read_bytes()
    assert b"site-packages" not in content and b"mlp.py" not in content
    session = double.function.session
    assert [i.shape for i in session.get_inputs()] == [["batch", DIM], [], ["several", "batch", DIM]]
    assert session.get_session_options().intra_op_num_threads == 1


def test_what_cannot_be_written_leaves_the_earlier_file(double, other, tmp_path):
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(DIM, DIM)

        def forward(self, x, level):
            return self.layer(x) if level > 0 else x

    path = tmp_path / "net.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(TypeError, match="a Branching cannot be written as ONNX"):
        sp.export_onnx(Branching(), path, dim=DIM)
    with pytest.raises(TypeError, match="needs dim= for a Other"):
        sp.export_onnx(other.module, path)
    with pytest.raises(FileNotFoundError, match="make it first"):
        sp.export_onnx(double.module, tmp_path / "nowhere" / "net.onnx")
    assert path.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [path]


def test_a_function_that_onnxruntime_has_in_float32_alone(tmp_path):
    sp.export_onnx(Other().double(), tmp_path / "net.onnx", dim=DIM)
    with pytest.raises(TypeError, match="export the module in float32"):
        sp.OnnxFunction(tmp_path / "net.onnx")


def test_every_path_gives_the_same_numbers(double, precise):
    """ArrayMLP, TorchFunction and OnnxFunction, 1e-10; seed 1."""
    x = rows(5, DIM, seed=1)
    weights = {name: place(value, precise) for name, value in double.module.state_dict().items()}
    value, pullback = sp.ArrayMLP(weights).with_pullback(array(x, precise), 0.3)
    found, pulled = double.function.with_pullback(array(x, precise), 0.3)
    assert_array(found, host(value), precise, 1e-10)
    assert_array(pulled(found), host(pullback(value)), precise, 1e-10)
