"""The public names, and what importing the library costs."""

import subprocess
import sys

import pytest

import sdeppl


def test_importing_loads_neither_torch_nor_pyro():
    program = (
        "import sys, sdeppl; sdeppl.__version__; dir(sdeppl);"
        "print([name for name in ('torch', 'pyro', 'numpy', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arrays_and_sdes_load_neither_torch_nor_pyro():
    program = (
        "import sys, numpy, sdeppl as sp; sde = sp.VPSDE();"
        "sp.solve(sde, numpy.ones((2, 3)), [0.0, 1.0]);"
        "prior = sp.GaussianDenoiser(sde, numpy.zeros(2), numpy.eye(2));"
        "observed = sp.LinearGaussian(numpy.eye(2), numpy.ones(2), 0.5);"
        "sp.Posterior(prior, observed, steps=4).sample(3);"
        "print([name for name in ('torch', 'pyro') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sdeppl.__all__)
def test_every_public_name_resolves_to_something_documented(name):
    assert getattr(sdeppl, name).__doc__
    assert name in dir(sdeppl)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sdeppl' has no attribute 'Nonsense'"):
        sdeppl.Nonsense  # noqa: B018
