"""Interrupted trainings go on bit for bit, and files that do not fit are refused."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from small_trainings import gaussian_model, laplace_model, make, same, small

import sdeppl as sp


def interrupt_at(training, monkeypatch, at):
    step = training.step

    def broken():
        if len(training.losses) == at:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(training, "step", broken)


@pytest.mark.parametrize("at", [7, 20])
def test_an_interrupted_training_resumed_is_the_uninterrupted_one(tmp_path, monkeypatch, at):
    whole = make().fit(24, progress=False)
    first = make()
    interrupt_at(first, monkeypatch, at)
    with pytest.raises(KeyboardInterrupt):
        first.fit(24, progress=False, checkpoint=tmp_path / "c")
    second = make().fit(24, progress=False, checkpoint=tmp_path / "c")
    assert len(second.losses) == 24
    same(whole, second)
    assert whole.gain == second.gain
    mine, theirs = (t.guide.condition(y=[0.0, 1.0], steps=10).sample(10)["x"] for t in (whole, second))
    assert torch.equal(mine, theirs)
    # a finished training is not made again
    again = make().fit(24, progress=False, checkpoint=tmp_path / "c")
    same(whole, again)


def test_a_network_with_dropout_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Its masks too belong to the step, whatever else has drawn from torch's generator."""

    class Dropped(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.inner, self.dropout = sp.ResidualMLP(dim, width=16, depth=1), torch.nn.Dropout(0.5)

        def forward(self, x, level):
            return self.inner(self.dropout(x), level)

    def train():
        guide = sp.ScoreGuide(laplace_model, net=Dropped)
        return sp.ScoreMatching(guide, batch=64, draws=2000, ema=0.9)

    whole = train().fit(6, progress=False)
    torch.manual_seed(7)
    first = train()
    interrupt_at(first, monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        first.fit(6, progress=False, checkpoint=tmp_path / "c")
    torch.manual_seed(8)
    state = torch.get_rng_state()
    same(train().fit(6, progress=False, checkpoint=tmp_path / "c"), whole)
    assert torch.equal(torch.get_rng_state(), state)


def test_periodic_checkpoints_survive_a_crash(tmp_path, monkeypatch):
    whole = make().fit(24, progress=False)
    first = make()

    def crash():
        if len(first.losses) == 19:
            raise RuntimeError("out of memory")
        return type(first).step(first)

    monkeypatch.setattr(first, "step", crash)
    with pytest.raises(RuntimeError, match="out of memory"):
        first.fit(24, progress=False, checkpoint=tmp_path / "c", every=8)
    second = make()
    fresh = []
    step = second.step
    monkeypatch.setattr(second, "step", lambda: fresh.append(1) or step())
    second.fit(24, progress=False, checkpoint=tmp_path / "c", every=8)
    assert len(fresh) == 8  # from step 16 on
    same(whole, second)


def test_an_interruption_inside_a_step_does_not_make_it_twice(tmp_path, monkeypatch):
    whole = make().fit(12, progress=False)
    first = make()
    average = first._average

    def broken(index):
        if index == 9:
            raise KeyboardInterrupt
        average(index)

    monkeypatch.setattr(first, "_average", broken)
    with pytest.raises(KeyboardInterrupt):
        first.fit(12, progress=False, checkpoint=tmp_path / "c", every=4)
    second = make().fit(12, progress=False, checkpoint=tmp_path / "c", every=4)
    same(whole, second)


@pytest.fixture
def checkpoint(tmp_path):
    make().fit(4, progress=False, checkpoint=tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.parametrize("setting", [{"lr": 0.1}, {"batch": 32}, {"ema": 0.5}, {"seed": 1}])
def test_other_settings_are_refused(checkpoint, setting):
    with pytest.raises(sp.CorruptFile, match="was written with the settings") as caught:
        make(**setting).fit(8, progress=False, checkpoint=checkpoint)
    assert next(iter(setting)) in str(caught.value)


def test_another_seed_of_the_guide_is_refused(checkpoint):
    guide = sp.ScoreGuide(laplace_model, net=small, seed=5)
    with pytest.raises(sp.CorruptFile, match="guide_seed"):
        sp.ScoreMatching(guide, batch=64, ema=0.9).fit(8, progress=False, checkpoint=checkpoint)


def test_another_model_is_refused(checkpoint):
    def other(y=None):
        x = pyro.sample("z", dist.Laplace(torch.zeros(2), 3.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)

    with pytest.raises(sp.ModelError, match="was trained on latents"):
        make(other).fit(8, progress=False, checkpoint=checkpoint)
    with pytest.raises(sp.ModelError, match="another prior of latent site 'x'"):
        make(gaussian_model).fit(8, progress=False, checkpoint=checkpoint)


def test_another_network_is_refused(checkpoint):
    guide = sp.ScoreGuide(laplace_model)
    with pytest.raises(sp.CorruptFile, match="does not fit"):
        sp.ScoreMatching(guide, batch=64, ema=0.9).fit(8, progress=False, checkpoint=checkpoint)


def test_damaged_checkpoints_and_guides_in_their_place(checkpoint):
    training = make().fit(2, progress=False)
    whole = checkpoint.read_bytes()
    for damaged in (b"", whole[:100], whole[:-20], b"text"):
        checkpoint.write_bytes(damaged)
        with pytest.raises(sp.CorruptFile, match="not a whole safetensors file"):
            make().fit(8, progress=False, checkpoint=checkpoint)
    training.guide.save(checkpoint)
    with pytest.raises(sp.CorruptFile, match=r"holds a 'guide' .* expected a 'score matching checkpoint'"):
        make().fit(8, progress=False, checkpoint=checkpoint)


def test_a_checkpoint_of_another_forward_sde_is_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    make().fit(2, progress=False, checkpoint=path)
    guide = sp.ScoreGuide(laplace_model, net=small, sde=sp.VPSDE(sp.ConstantSchedule(12.0)))
    with pytest.raises(sp.CorruptFile, match="settings"):
        sp.ScoreMatching(guide, batch=64, draws=2000, ema=0.9).fit(2, progress=False, checkpoint=path)


def test_an_sde_that_cannot_be_saved_is_refused_before_training(tmp_path):
    class OwnSDE(sp.VPSDE):
        pass

    training = sp.ScoreMatching(sp.ScoreGuide(laplace_model, net=small, sde=OwnSDE()), draws=2000)
    with pytest.raises(TypeError, match="cannot save OwnSDE"):
        training.fit(2, progress=False, checkpoint=tmp_path / "training.safetensors")
    assert training.losses == []


def test_a_folder_that_is_not_there_is_reported_before_training(tmp_path):
    training = make()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        training.fit(2, progress=False, checkpoint=tmp_path / "nowhere" / "c")
    assert training.losses == [] and training.guide.gaussian is None
