"""Which backend a name, the environment or an array stands for, and what wrong ones are told."""

import builtins
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest
import torch
from checks import array, dtype_name

import sdeppl as sp
from sdeppl.backend import backend_of, require_same

VALID = "numpy, torch, torch:cpu, torch:cuda, torch:cuda:<index>, cupy, cupy:<index>, strict, strict:<device>"


def test_the_default_is_torch_on_the_cpu_in_float64(monkeypatch):
    monkeypatch.delenv("SDEPPL_BACKEND", raising=False)
    backend = sp.resolve()
    assert (backend.name, backend.device, backend.dtype) == ("torch", torch.device("cpu"), torch.float64)
    assert str(backend) == "torch on cpu in float64"


def test_the_environment_chooses_and_the_argument_overrules_it(monkeypatch):
    monkeypatch.setenv("SDEPPL_BACKEND", "numpy")
    assert sp.resolve().name == "numpy"
    assert sp.resolve("strict:device1").device == array_api_strict.Device("device1")
    monkeypatch.setenv("SDEPPL_BACKEND", "")
    assert sp.resolve().name == "torch"


def test_a_backend_resolves_to_itself():
    backend = sp.resolve("numpy", "float32")
    assert sp.resolve(backend) is backend
    assert backend == sp.resolve("numpy", "float32") != sp.resolve("numpy")


def test_arrays_are_made_in_the_dtype_asked_for(backend):
    made = array([1.5, -2.0], backend)
    assert made.dtype == backend.dtype == getattr(backend.xp, dtype_name(backend))
    assert backend_of(made) == backend


@pytest.mark.parametrize("text", ["Torch", "jax", "numpyy:cuda"])
def test_a_misspelt_name_lists_the_valid_ones(text, monkeypatch):
    with pytest.raises(ValueError) as caught:
        sp.resolve(text)
    assert str(caught.value) == f"backend={text!r} names no backend; valid are: {VALID}"
    monkeypatch.setenv("SDEPPL_BACKEND", text)
    with pytest.raises(ValueError, match=f"SDEPPL_BACKEND='{text}' names no backend"):
        sp.resolve()


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="'int64' is not a real dtype; use 'float64' or 'float32'"):
        sp.resolve("numpy", dtype="int64")


@pytest.mark.parametrize("text", ["numpy:cuda", "torch:banana", "torch:mps", "torch:meta", "strict:nowhere"])
def test_an_unknown_device_is_named(text):
    with pytest.raises(sp.BackendUnavailable, match=text.partition(":")[2]):
        sp.resolve(text)


def test_a_cpu_index_is_the_cpu():
    assert sp.resolve("torch:cpu:0") == sp.resolve("torch:cpu") == sp.resolve("torch")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_of_torch_is_told_in_one_line():
    with pytest.raises(
        sp.BackendUnavailable, match=r"needs a CUDA device.*use 'torch' for the CPU"
    ) as caught:
        sp.resolve("torch:cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("selector", ["cupy", "cupy:1"])
def test_a_missing_cupy_is_told_in_one_line(selector, monkeypatch):
    """CuPy that is not installed, whose own message is a banner of many lines."""
    imported = builtins.__import__

    def failing(name, *rest, **more):
        if name == "cupy":
            raise ImportError(
                "====\nFailed to import CuPy.\n\nOriginal error:\n  libcuda.so.1 is not there\n===="
            )
        return imported(name, *rest, **more)

    monkeypatch.setenv("SDEPPL_BACKEND", selector)
    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(sp.BackendUnavailable) as caught:
        sp.resolve()
    assert str(caught.value) == (
        f"SDEPPL_BACKEND={selector!r}: backend 'cupy' needs CuPy: pip install 'sdeppl[cupy]' "
        "(libcuda.so.1 is not there)"
    )


def test_cupy_without_a_device_is_told_in_one_line(monkeypatch):
    """CuPy that is installed but finds no driver; simulated, as no such machine is here."""

    def no_device(index):
        raise RuntimeError("cudaErrorInsufficientDriver: the driver is insufficient")

    monkeypatch.setitem(
        __import__("sys").modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=no_device))
    )
    with pytest.raises(
        sp.BackendUnavailable, match="needs a CUDA device, and none is usable: cudaError"
    ) as caught:
        sp.resolve("cupy")
    assert "\n" not in str(caught.value)


def test_mixing_libraries_names_both():
    with pytest.raises(sp.BackendMismatch, match="numpy on cpu and of torch on cpu do not mix"):
        backend_of(np.ones(2), torch.ones(2))


def test_mixing_devices_names_both():
    here, there = (array([1.0], sp.resolve(s)) for s in ("strict", "strict:device1"))
    with pytest.raises(sp.BackendMismatch, match=r"CPU_DEVICE.*device1.*do not mix"):
        backend_of(here, there)


def test_require_same_names_the_array():
    with pytest.raises(sp.BackendMismatch, match="observed is of torch on cpu, expected numpy on cpu"):
        require_same(sp.resolve("numpy"), fine=np.ones(2), observed=torch.ones(2))


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="expected an array of numpy, torch, cupy, strict; got list"):
        backend_of([1.0])
    with pytest.raises(TypeError, match="at least one array"):
        backend_of()
