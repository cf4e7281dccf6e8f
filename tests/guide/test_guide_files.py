"""Saving and loading guides."""

import json
import os
import platform

import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import save_file
from together import in_threads

import sdeppl as sp
from sdeppl.backend.files import read, write

Y = [1.0, -2.0]


def model(y=None, width=1.0):
    x = pyro.sample("x", dist.Laplace(torch.tensor([0.0, 3.0]), width).to_event(1))
    tau = pyro.sample("tau", dist.LogNormal(0.0, 0.5))
    pyro.sample("y", dist.Normal(x + tau.log(), 0.5).to_event(1), obs=y)


@pytest.fixture(scope="module")
def trained():
    guide = sp.ScoreGuide(model, sde=sp.VPSDE(sp.LinearSchedule(0.2, 18.0)))
    training = sp.ScoreMatching(guide, batch=64, draws=3000)
    for _ in range(5):
        training.step()
    return guide


@pytest.fixture
def path(trained, tmp_path):
    trained.save(tmp_path / "guide.safetensors")
    return tmp_path / "guide.safetensors"


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_same_draws_bit_for_bit(trained, path, backend):
    loaded = sp.ScoreGuide.load(path, model)
    assert (loaded.sde, loaded.use_net, loaded.gaussian.draws) == (trained.sde, True, 3000)
    by_guidance = {"backend": backend, "steps": 10, "correction": sp.TwistedSMC()}  # of the learned prior
    mine = trained.condition(y=Y, **by_guidance).sample(20)
    theirs = loaded.condition(y=Y, **by_guidance).sample(20)
    for name in ("x", "tau"):
        assert (mine[name] == theirs[name]).all()
    gaussian = sp.ScoreGuide(model, net=None).fit_gaussian(3000, progress=False)
    assert (mine["x"] != gaussian.condition(y=Y, **by_guidance).sample(20)["x"]).any()


def test_gaussian_part_alone(tmp_path):
    guide = sp.ScoreGuide(model, net=None, seed=4).fit_gaussian(500, progress=False)
    guide.save(tmp_path / "g")
    loaded = sp.ScoreGuide.load(tmp_path / "g", model)
    assert loaded.net is None and not loaded.use_net
    # on which it can be trained further
    sp.ScoreMatching(loaded, batch=16).step()
    assert loaded.use_net


def test_loading_throws_kept_draws_away(trained, path):
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)
    guide.net_factory = sp.ResidualMLP
    guide(y=torch.tensor(Y))
    guide.restore(*read(path, "guide"), path)
    pyro.set_rng_seed(1)
    mine = guide(y=torch.tensor(Y))["x"]
    trained.forget()
    pyro.set_rng_seed(1)
    assert torch.equal(mine, trained(y=torch.tensor(Y))["x"])


def test_other_models_are_refused(path):
    def renamed(y=None):
        x = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)

    def other_support(y=None):
        x = pyro.sample("x", dist.Laplace(torch.tensor([0.0, 3.0]), 1.0).to_event(1))
        tau = pyro.sample("tau", dist.Normal(0.0, 0.5))
        pyro.sample("y", dist.Normal(x + tau, 0.5).to_event(1), obs=y)

    with pytest.raises(sp.ModelError, match=r"was trained on latents \{'x': \[2\], 'tau': \[\]\}"):
        sp.ScoreGuide.load(path, renamed)
    with pytest.raises(sp.ModelError, match="another prior of latent site 'tau'"):
        sp.ScoreGuide.load(path, other_support)
    with pytest.raises(sp.ModelError, match="another prior of latent site 'x'"):
        sp.ScoreGuide.load(path, model, kwargs={"width": 2.0})
    with pytest.raises(sp.ModelError, match="holds a network"):
        sp.ScoreGuide.load(path, model, net=None)
    with pytest.raises(sp.CorruptFile, match="does not fit this guide"):
        sp.ScoreGuide.load(path, model, net=lambda dim: sp.ResidualMLP(dim, width=17))


def test_damaged_files(path, tmp_path):
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="there is no file"):
        sp.ScoreGuide.load(tmp_path / "none", model)
    for damaged in (b"", b"not a tensor file", whole[:5], whole[:200], whole[:-10], b"\x00" * 64):
        path.write_bytes(damaged)
        with pytest.raises(sp.CorruptFile, match=r"guide\.safetensors"):
            sp.ScoreGuide.load(path, model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "was not written by sdeppl"),
        ("{", "was not written by sdeppl"),
        ("[1, 2]", "was not written by sdeppl"),
        (json.dumps({"kind": "table", "version": 4}), "holds a 'table' of version 4; expected a 'guide'"),
        (json.dumps({"kind": "guide", "version": 7}), "version 7"),
        (json.dumps({"kind": "guide", "version": 1}), "of version 1; expected a 'guide' of version 4"),
        (json.dumps({"kind": "guide", "version": 4, "latents": {"x": [2], "tau": []}}), "is damaged"),
    ],
)
def test_files_of_another_kind(tmp_path, header, message):
    path = tmp_path / "file"
    save_file({"a": torch.zeros(1)}, path, metadata=None if header is None else {"sdeppl": header})
    with pytest.raises(sp.CorruptFile, match=message):
        sp.ScoreGuide.load(path, model)


def test_a_file_that_lacks_something(tmp_path):
    write(tmp_path / "file", "guide", {"a": torch.zeros(1)}, {"latents": {"x": [2], "tau": []}})
    with pytest.raises(sp.CorruptFile, match="does not fit"):
        sp.ScoreGuide.load(tmp_path / "file", model)


def test_a_number_that_has_changed_is_seen(path):
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 1  # the last bit but a few of one of the weights
    path.write_bytes(whole)
    with pytest.raises(sp.CorruptFile, match="is damaged: its numbers are not those that were written"):
        sp.ScoreGuide.load(path, model)


def test_what_a_killed_process_left_is_removed(trained, path):
    name = f"{path.name}.{platform.node()}-"
    dead = path.with_name(f"{name}999999999.ab.part")  # above the largest number of a process
    mine = path.with_name(f"{name}{os.getpid()}.ab.part")
    for part in (dead, mine):
        part.write_bytes(b"half")
    trained.save(path)
    assert not dead.exists() and mine.exists()
    mine.unlink()
    assert list(path.parent.iterdir()) == [path]


def test_two_that_write_at_once_leave_one_whole_file(trained, path):
    found = in_threads([lambda: [trained.save(path) for _ in range(5)] for _ in range(3)])
    assert all(isinstance(one, list) for one in found), found
    assert sp.ScoreGuide.load(path, model).gaussian.draws == trained.gaussian.draws
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_earlier_file(path, trained, monkeypatch):
    before = path.read_bytes()

    def broken(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        trained.save(path)
    assert path.read_bytes() == before


def test_a_guide_that_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(sp.ModelError, match="nothing to save"):
        sp.ScoreGuide(model).save(tmp_path / "g")


def test_a_folder_that_is_not_there(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to write guide to"):
        trained.save(tmp_path / "nowhere" / "guide")
