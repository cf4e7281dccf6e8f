"""A guide's file says which model it was trained on, and only what is in its own folder is opened."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sdeppl.cli import main

Y = 3.7
NUMBER = 2_000
SLOPE = 4.0


def train(folder, target, out, *words):
    """In `folder`, with the Gaussian part alone."""
    few = ["--steps", "0", "--draws", "40000", "-q"]
    assert main(["train", str(folder / target), "--out", str(folder / out), *few, *map(str, words)]) == 0


@pytest.fixture(scope="module")
def files(folder):
    (folder / "below").mkdir()
    shutil.copy(folder / "model.py", folder / "below" / "model.py")
    np.savez(folder / "y.npz", y=np.full(2, Y))
    np.savez(folder / "slope.npz", slope=SLOPE)
    train(folder, "model.py:gaussian", "prior.safetensors")
    train(folder, "model.py:scaled", "steep.safetensors", "--inputs", folder / "slope.npz")
    train(folder, "below/model.py:small", "small.safetensors")
    train(folder, "model.py:gaussian", "below/outside.safetensors")
    train(folder, "below/model.py:scaled", "below/half.safetensors", "--inputs", folder / "slope.npz")
    return folder


def origin(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["sdeppl"]).get("origin")


def with_origin(source, path, said):
    """A copy of a guide's file that says something else of its model."""
    with safe_open(source, framework="numpy") as file:
        header = json.loads(file.metadata()["sdeppl"]) | {"origin": said}
    save_file(load_file(source), path, metadata={"sdeppl": json.dumps(header)})


def exact(slope):
    """Mean and standard deviation of x ~ N((1, -2), 4) given y = slope x + N(0, 1/4)."""
    precision = 1 / 4 + slope**2 / 0.25
    return (np.array([1.0, -2.0]) / 4 + slope * Y / 0.25) / precision, 1 / np.sqrt(precision)


def test_the_file_names_model_and_inputs_relative_to_itself(files):
    assert origin(files / "prior.safetensors") == {"model": "model.py:gaussian"}
    assert origin(files / "steep.safetensors") == {"model": "model.py:scaled", "inputs": "slope.npz"}
    assert origin(files / "small.safetensors") == {"model": "below/model.py:small"}


@pytest.mark.parametrize("name", ["outside", "half"])
def test_it_names_nothing_where_model_or_inputs_are_elsewhere(name, files, sdeppl):
    """Half of it would be another model: the inputs' defaults."""
    assert origin(files / "below" / f"{name}.safetensors") is None
    words = ["train", "model.py:gaussian", "--steps", 0, "--draws", 500, "--out", "below/other.safetensors"]
    assert "sample, check and report need --model" in sdeppl(*words)[2]


@pytest.mark.parametrize(
    ("prior", "model", "slope"), [("prior", "gaussian", 2.0), ("steep", "scaled", SLOPE)]
)
def test_sample_needs_no_model(prior, model, slope, files, sdeppl):
    words = ["sample", f"{prior}.safetensors", "--data", "y.npz", "-n", NUMBER, "--out"]
    code, _, error = sdeppl(*words, "draws.nc")
    assert code == 0
    inputs = " with inputs slope.npz" if model == "scaled" else ""
    assert error.startswith(f"model: model.py:{model}{inputs}, as {prior}.safetensors was trained on\n")
    import arviz

    x = arviz.from_netcdf(files / "draws.nc")["posterior"]["x"].values[0]
    mean, sd = exact(slope)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * sd / np.sqrt(NUMBER))
    assert np.all(np.abs(x.std(axis=0) / sd - 1) < 5 / np.sqrt(2 * NUMBER))
    assert "model: " not in sdeppl(*words, "draws.npz", "-q")[2]


def test_a_model_that_is_given_counts_and_its_inputs_alone(files, sdeppl):
    words = ["sample", "steep.safetensors", "--data", "y.npz", "-n", NUMBER, "--out", "given.npz"]
    code, _, error = sdeppl(*words, "--model", "model.py:scaled")
    assert code == 0 and "model: " not in error
    with np.load(files / "given.npz") as found:
        assert abs(found["x"][:, 0].mean() - exact(2.0)[0][0]) < 0.05  # the slope's default
    np.savez(files / "one.npz", slope=1.0)
    assert sdeppl(*words, "--inputs", "one.npz")[0] == 0
    with np.load(files / "given.npz") as found:
        assert abs(found["x"][:, 0].mean() - exact(1.0)[0][0]) < 0.05


def test_check_and_report_need_no_model_either(files, sdeppl):
    said = "model: below/model.py:small, as small.safetensors was trained on\n"
    code, _, error = sdeppl("check", "small.safetensors", "--score")
    assert code == 0 and said in error
    words = ["report", "small.safetensors", "--data", "y.npz", "-n", 200, "--score", "--out", "page.html"]
    code, out, error = sdeppl(*words)
    assert (code, out.split(":")[0]) == (0, "trusted"), out
    assert said in error


def test_folder_and_all_may_move(files, sdeppl, tmp_path, monkeypatch):
    for name in ("model.py", "prior.safetensors", "y.npz"):
        shutil.copy(files / name, tmp_path / name)
    monkeypatch.chdir("/")
    prior, out = tmp_path / "prior.safetensors", tmp_path / "draws.npz"
    code, _, error = sdeppl("sample", prior, "--data", tmp_path / "y.npz", "--out", out)
    assert code == 0 and f"model: {tmp_path / 'model.py'}:gaussian" in error


SAID = {
    "gone": (
        {"model": "gone.py:model"},
        "with the model gone.py, and there is no file gone.py; give the model,",
    ),
    "gone inputs": (
        {"model": "model.py:scaled", "inputs": "gone.npz"},
        "with the inputs gone.npz, and there is no file gone.npz; give both, --model FILE.py:NAME --inputs",
    ),
    "above": ({"model": "../evil.py:model"}, "names ../evil.py as its model, which is not in the folder"),
    "absolute": ({}, "evil.py as its model, which is not in the folder of the guide"),
    "linked": ({"model": "link.py:model"}, "names link.py as its model, which is not in the folder"),
    "inputs above": (
        {"model": "model.py:scaled", "inputs": "../slope.npz"},
        "names ../slope.npz as its inputs, which is not in the folder of the guide, so it is not opened",
    ),
    "no text": ({"model": 3}, "does not say which model it was trained on: give it, --model FILE.py:NAME"),
    "no names": (["model.py"], "does not say which model it was trained on"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_in_the_folder_is_not_run(name, files, sdeppl):
    said, message = SAID[name]
    outside = files.parent / "evil.py"
    outside.write_text("from pathlib import Path\nPath(__file__).with_name('was_run').touch()\n", "utf-8")
    (files / "link.py").unlink(missing_ok=True)
    (files / "link.py").symlink_to(outside)
    if name == "absolute":
        said = {"model": f"{outside}:model"}
    with_origin(files / "prior.safetensors", files / "changed.safetensors", said)
    code, out, error = sdeppl("sample", "changed.safetensors", "--data", "y.npz", "--out", "no.npz", "-q")
    assert (code, out) == (2, "")
    assert error.startswith("sdeppl: error: changed.safetensors ") and len(error.splitlines()) == 1, error
    assert re.search(re.escape(message), error), error
    assert not (files.parent / "was_run").exists() and not (files / "no.npz").exists()


def test_an_error_in_the_recorded_model_names_its_line(files, sdeppl):
    with_origin(files / "prior.safetensors", files / "broken.safetensors", {"model": "model.py:broken"})
    code, _, error = sdeppl("sample", "broken.safetensors", "--data", "y.npz", "--out", "no.npz", "-q")
    assert code == 2
    assert re.fullmatch(r"sdeppl: error: NameError: .*model.py, line 29\)\n", error), error
