"""What a user gets wrong ends in one line that names file or site and says what to do, and in 2."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import save_file

from sdeppl.cli import arrays, errors, main
from sdeppl.cli.opening import make_guide
from sdeppl.guide import ScoreGuide


@pytest.fixture(scope="module")
def files(folder):
    model = f"{folder}/model.py:gaussian"
    words = [
        "train",
        model,
        "--out",
        str(folder / "prior.safetensors"),
        "--steps",
        "0",
        "--draws",
        "500",
        "-q",
    ]
    assert main(words) == 0
    unnamed = make_guide(model, {}, 0)  # saved from Python, where the file of the model is not known
    unnamed.load_into(folder / "prior.safetensors")
    unnamed.save(folder / "unnamed.safetensors")
    np.savez(folder / "y.npz", y=np.zeros(2))
    np.savez(folder / "z.npz", z=np.zeros(2))
    np.savez(folder / "long.npz", y=np.zeros(3))
    np.savez(folder / "objects.npz", y=np.array([None, 1], dtype=object))
    np.savez(folder / "nan.npz", y=np.full(2, np.nan))
    np.savez(folder / "few.npz", x=np.zeros((1, 2)))
    np.savez(folder / "twenty.npz", x=np.random.default_rng(0).standard_normal((20, 2)))
    np.savez(folder / "others.npz", u=np.random.default_rng(1).standard_normal((20, 2)))
    (folder / "text.npz").write_text("1, 2, 3")
    (folder / "syntax.py").write_text("def model(:\n")
    save_file({"a": np.zeros(2)}, folder / "foreign.safetensors")
    header = {"sdeppl": json.dumps({"kind": "guide", "version": 1})}
    save_file({"a": np.zeros(2)}, folder / "old.safetensors", metadata=header)
    return folder


SAMPLE = "sample prior.safetensors --model model.py:gaussian --data y.npz --out out.npz"
REPORT = "report prior.safetensors --model model.py:gaussian --data y.npz"
TRAIN = "train model.py:gaussian --out new.safetensors --steps 0 --draws 500"
MISTAKES = {
    "no model file": (
        TRAIN.replace("model.py", "modell.py"),
        "there is no file .*modell.py; expected FILE.py",
    ),
    "no such name": (TRAIN.replace(":gaussian", ":gausian"), "has no 'gausian'; it defines gaussian, scaled"),
    "not a model": (TRAIN.replace(":gaussian", ":number"), "model.py:number is a int; expected a function"),
    "inputs of a guide": (
        TRAIN.replace(":gaussian", ":small") + " --inputs y.npz",
        "is a ScoreGuide, which has its inputs already: leave out --inputs",
    ),
    "the model fails": (
        TRAIN.replace(":gaussian", ":broken"),
        r"NameError: name 'undefined_name' is not defined \(.*model.py, line 29\)",
    ),
    "the model is no Python": (
        TRAIN.replace("model.py:gaussian", "syntax.py"),
        "SyntaxError: .*syntax.py, line 1",
    ),
    "no folder for the guide": (TRAIN.replace("new.", "nowhere/new."), "no folder nowhere; make it first"),
    "one file for both": (
        TRAIN + " --checkpoint new.safetensors",
        "are both new.safetensors; give two files",
    ),
    "too few draws": (TRAIN.replace("500", "3"), "3 draws are too few for the covariance of 2 numbers"),
    "negative steps": (
        TRAIN.replace("--steps 0", "--steps -1"),
        "steps must be .*, at least 0; got -1",
    ),
    "no prior": (SAMPLE.replace("prior.", "prior2."), "there is no file prior2.safetensors"),
    "not a file of ours": (SAMPLE.replace("prior.", "foreign."), "but sdeppl did not write it"),
    "a damaged file": (SAMPLE.replace("prior.safetensors", "text.npz"), "text.npz is not a file that sdeppl"),
    "an old file": (SAMPLE.replace("prior.", "old."), "holds a 'guide' of version 1; expected"),
    "no model known": (
        "sample unnamed.safetensors --data y.npz --out out.npz",
        "unnamed.safetensors does not say which model it was trained on: give it, --model FILE.py:NAME",
    ),
    "another model": (
        SAMPLE.replace(":gaussian", ":mixture"),
        "was trained on latents {'x': .2.}; the model",
    ),
    "no data file": (SAMPLE.replace("y.npz", "yy.npz"), "--data: there is no file yy.npz"),
    "data that are text": (SAMPLE.replace("y.npz", "text.npz"), "--data text.npz holds no arrays"),
    "data that are objects": (SAMPLE.replace("y.npz", "objects.npz"), "an array that is not of numbers"),
    "data of no site": (SAMPLE.replace("y.npz", "z.npz"), "no observable site 'z'"),
    "data of another shape": (SAMPLE.replace("y.npz", "long.npz"), r"'y': the data have shape \(3,\)"),
    "nothing observed": (SAMPLE.replace("y.npz", "nan.npz"), r"every value of \['y'\] is NaN"),
    "no data": (SAMPLE.replace("--data y.npz", ""), r"no data: give values for some of \['y'\]"),
    "an unknown format": (
        SAMPLE.replace("out.npz", "out.csv"),
        r"draws are written as .npz \(NumPy\) or .nc",
    ),
    "an unknown backend": (SAMPLE + " --backend jax", "backend='jax' names no backend; valid are: numpy"),
    "one file to compare": ("check twenty.npz", "give two files of draws, or a guide with --score"),
    "a reference for a score": ("check prior.safetensors twenty.npz --score", "leave out the second file"),
    "a score without a model": ("check unnamed.safetensors --score", "give it, --model FILE.py:NAME"),
    "other sites": ("check twenty.npz others.npz", "the sites differ"),
    "one draw": ("check few.npz twenty.npz", "site 'x': at least 2 draws are needed"),
    "no folder for the page": (
        "report prior.safetensors --model model.py:gaussian --data y.npz --out nowhere/a.html",
        "there is no folder nowhere",
    ),
    "no picture's folder": ("demo --out nowhere/a.png", "there is no folder nowhere"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name, files, sdeppl):
    words, message = MISTAKES[name]
    code, out, error = sdeppl(*words.split(), "-q")
    assert (code, out) == (2, "")
    assert error.startswith("sdeppl: error: ")
    assert len(error.splitlines()) == 1, error
    assert re.search(message, error), error


def test_where_it_was_raised_is_shown_when_asked_for(files, sdeppl):
    code, _, error = sdeppl(*MISTAKES["data of no site"][0].split(), "--traceback")
    assert code == 2 and "Traceback (most recent call last)" in error


def test_our_own_faults_keep_their_traceback(files, sdeppl, monkeypatch):
    def fail(guide, path, origin):
        raise KeyError("ours")

    monkeypatch.setattr(ScoreGuide, "save", fail)
    code, _, error = sdeppl(*TRAIN.split(), "-q")
    assert code == 2 and "Traceback" in error


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("arviz", SAMPLE.replace("out.npz", "out.nc")),
        ("h5py netCDF4", SAMPLE.replace("out.npz", "out.nc")),
        ("matplotlib", "demo"),
        ("matplotlib", REPORT),
    ],
)
def test_a_missing_library_is_named_before_any_work(missing, words, files, sdeppl, monkeypatch):
    def found(name):
        return None if name in missing.split() else find_spec(name)

    for module in (arrays, errors):
        monkeypatch.setattr(module, "find_spec", found)
    code, _, error = sdeppl(*words.split(), "-q")
    assert code == 2
    assert "pip install 'sdeppl[" in error
    assert missing.split()[0] in error.lower()
