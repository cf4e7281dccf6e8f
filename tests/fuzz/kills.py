"""A process killed at random moments while it trains and while it saves: every file opens, nothing is lost.

Run: python tests/fuzz/kills.py [--kills 50] [--seed 0]
A training with a checkpoint every few steps is killed by SIGKILL, looked at and started again until it ends;
its weights must be those of a training that nobody killed, and each kill may cost `EVERY` steps at most. Then
a process that does nothing but save a guide, a posterior and a checkpoint is killed: each file must be whole.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from training.small_trainings import gaussian_model, make, same

import sdeppl as sp
from sdeppl.backend.files import read
from sdeppl.training.score_matching import KIND

STEPS, EVERY = 60, 5


def train(path: str, count: int) -> None:
    """Train to the end, with a mark in a file of its own for each step made."""
    training = make()
    step = training.step

    def marked() -> float:
        loss = step()
        os.write(count, b".")
        return loss

    training.step = marked  # type: ignore[method-assign]
    training.fit(STEPS, progress=False, checkpoint=path, every=EVERY)


def save(folder: str, training: sp.ScoreMatching, posterior: sp.SitePosterior) -> None:
    """Save all three kinds until killed."""
    while True:
        training.guide.save(f"{folder}/guide")
        posterior.save(f"{folder}/posterior")
        training.save_checkpoint(f"{folder}/checkpoint")


def killed(target: object, arguments: tuple[object, ...], after: float) -> bool:
    """Whether the process had to be killed after so many seconds; it may have ended before."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(after)
    alive = process.is_alive()
    if alive and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert alive or process.exitcode == 0, f"the process failed by itself: {process.exitcode}"
    return alive


def kills_while_training(kills: int, rng: random.Random, folder: Path) -> tuple[int, int]:
    """How many kills, and the most steps that one has cost. Raises: AssertionError."""
    whole = make().fit(STEPS, progress=False)
    began = time.perf_counter()
    make().fit(STEPS, progress=False, checkpoint=folder / "timed", every=EVERY)
    seconds = time.perf_counter() - began
    made, worst, number = 0, 0, 0
    while made < kills:
        path, marks = folder / f"checkpoint {number}", folder / f"marks {number}"
        number, kept, at = number + 1, 0, 0
        while True:
            with open(marks, "wb") as file:
                dead = killed(train, (str(path), file.fileno()), rng.uniform(0.0, 0.8 * seconds))
            at = kept + marks.stat().st_size  # steps that were made when it was killed
            kept = len(read(path, KIND)[0]["losses"]) if path.exists() else 0
            made += dead
            if dead:
                worst = max(worst, at - kept)
                assert at - kept <= EVERY, f"killed after {at} steps, the checkpoint holds {kept}"
            if not dead or made >= kills:
                break
        same(make().fit(STEPS, progress=False, checkpoint=path, every=EVERY), whole)
        left = list(folder.glob("*.part"))
        assert not left, f"left behind: {left}"
    return made, worst


def kills_while_saving(kills: int, rng: random.Random, folder: Path) -> int:
    """Kills after which all that was there is whole. Raises: CorruptFile, AssertionError."""
    kinds = {"guide": "guide", "posterior": "posterior", "checkpoint": KIND}
    training = make()
    training.step()
    guide = sp.ScoreGuide(gaussian_model, net=None).fit_gaussian(500, progress=False)
    made = training, guide.condition(y=[1.0, 2.0])
    for _ in range(kills):
        assert killed(save, (str(folder), *made), rng.uniform(0.05, 0.5))
        for name, kind in kinds.items():
            if (folder / name).exists():
                read(folder / name, kind)
        parts = list(folder.glob("*.part"))
        assert len(parts) <= 1, f"more than one is left behind: {parts}"
    training.guide.save(folder / "guide")
    assert not list(folder.glob("guide.*")), "what was left behind is not removed"
    return kills


def run(kills: int, seed: int) -> str:
    """What was found, in words."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        made, worst = kills_while_training(kills, rng, folder)
        (folder / "saved").mkdir()
        saved = kills_while_saving(kills, rng, folder / "saved")
    return (
        f"{made} kills while training: every checkpoint opened, at most {worst} steps of {EVERY} were lost, "
        f"the weights are those of a training that nobody killed; {saved} kills while saving: "
        "every file is whole"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(run(arguments.kills, arguments.seed))


if __name__ == "__main__":
    main()
