"""`sdeppl train`: the same guide whether it was killed on the way or not."""

import signal
import subprocess
import time

import pytest
import torch
from commands import SCRIPT
from safetensors.torch import load_file

import sdeppl as sp

WORDS = [
    "train",
    "model.py:mixture",
    "--steps",
    "120",
    "--every",
    "10",
    "--draws",
    "4000",
    "--batch",
    "64",
    "--seed",
    "3",
]


@pytest.fixture(scope="module")
def uninterrupted(folder):
    from sdeppl.cli import main

    out = folder / "whole.safetensors"
    words = [*WORDS[:1], f"{folder}/{WORDS[1]}", *WORDS[2:], "--out", str(out), "-q"]
    assert main(words) == 0
    return load_file(out)


@pytest.mark.slow  # tests/training/test_checkpoints.py has the same without processes
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_killed_training_goes_on_to_the_same_guide(how, folder, uninterrupted, sdeppl):
    out, checkpoint = f"{how.name}.safetensors", folder / f"{how.name}.ckpt"
    slow = [str(SCRIPT), *WORDS, "--out", out, "-q", "--every", "1"]
    process = subprocess.Popen(slow, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(how)
    _, error = process.communicate(timeout=120)
    assert checkpoint.exists() and not (folder / out).exists()
    if how == signal.SIGTERM:
        assert process.returncode == 130
        assert error.startswith("sdeppl: interrupted after ") and f"goes on from {checkpoint.name}" in error
    code, _, error = sdeppl(*WORDS, "--out", out)
    assert code == 0
    assert f"going on from {checkpoint.name}" in error
    found = load_file(folder / out)
    assert set(found) == set(uninterrupted)
    for name, value in uninterrupted.items():
        assert torch.equal(found[name], value), name
    assert not checkpoint.exists()  # it has served


def test_another_training_s_checkpoint_is_refused_and_fresh_starts_anew(folder, sdeppl):
    guide = sp.ScoreGuide(_standard, seed=3)
    sp.ScoreMatching(guide, lr=0.5, draws=500).fit(1, progress=False, checkpoint=folder / "other.ckpt")
    words = ["train", "model.py:gaussian", "--steps", 2, "--draws", 500, "--out", "other.safetensors"]
    code, _, error = sdeppl(*words)
    assert code == 2
    assert "other.ckpt was written with the settings" in error
    code, _, error = sdeppl(*words, "--fresh")
    assert code == 0
    assert "going on" not in error and "network: " in error


def _standard(y=None):
    import pyro
    import pyro.distributions as dist

    x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)


def test_quiet_prints_nothing(sdeppl):
    words = ["train", "model.py:gaussian", "--steps", 0, "--draws", 500, "--out", "quiet.safetensors"]
    assert sdeppl(*words, "-q") == (0, "", "")
    code, out, error = sdeppl(*words)
    assert (code, out) == (0, "")
    assert "latents: x (2,); forward SDE: VPSDE" in error and "the Gaussian part alone" in error
