"""Files that are cut, flipped and swapped: the library's own error, or what was written; never a hang.

Run: python tests/fuzz/damaged_files.py [--files 2000] [--seed 0]: so many of each of the three kinds.
"""

import argparse
import collections
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from training.small_trainings import gaussian_model, laplace_model, make, small

import sdeppl as sp
from sdeppl.guide import CorruptFile

OWN = (CorruptFile, sp.ModelError, FileNotFoundError)
SECONDS = 20  # that one file may take
GROWTH = 200 * 2**20  # bytes that reading all of them may add to the process: the files are of some KB
KINDS = ("guide", "posterior", "checkpoint")


def write_all(folder: Path) -> dict[str, bytes]:
    """Whole files of each kind, and of another model's guide and checkpoint."""
    training, other = make(), make(gaussian_model)
    for one in (training, other):
        one.step()
    guide = sp.ScoreGuide(gaussian_model, net=None).fit_gaussian(500, progress=False)
    training.guide.save(folder / "guide")
    other.guide.save(folder / "other guide")
    guide.condition(y=[1.0, 2.0]).save(folder / "posterior")
    training.save_checkpoint(folder / "checkpoint")
    other.save_checkpoint(folder / "other checkpoint")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(whole: bytes, others: list[bytes], rng: random.Random) -> tuple[str, bytes]:
    """What was done, and the file that came of it."""
    kind = rng.choice(("cut", "flip", "flip header", "length", "zero", "insert", "swap", "number", "join"))
    size = struct.unpack("<Q", whole[:8])[0]
    if kind == "cut":
        return kind, whole[: rng.randrange(len(whole))]
    if kind in ("flip", "flip header"):
        found = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8, 100))):
            found[rng.randrange(len(whole) if kind == "flip" else 8 + size)] ^= 1 << rng.randrange(8)
        return kind, bytes(found)
    if kind == "length":
        claimed = rng.choice((0, 1, size - 1, size + 1, len(whole), 2**31, 2**60, 2**63, 2**64 - 1))
        return kind, struct.pack("<Q", claimed) + whole[8:]
    if kind == "zero":
        first = rng.randrange(len(whole))
        last = min(len(whole), first + rng.randrange(1, 400))
        return kind, whole[:first] + bytes(last - first) + whole[last:]
    if kind == "insert":
        place = rng.randrange(len(whole))
        return kind, whole[:place] + rng.randbytes(rng.randrange(1, 50)) + whole[place:]
    if kind == "swap":
        return kind, rng.choice(others)
    if kind == "join":
        return kind, whole + rng.choice(others)
    return kind, _with_another_number(whole, size, rng)


def _with_another_number(whole: bytes, size: int, rng: random.Random) -> bytes:
    """A header that is JSON still, with a shape, an offset, a dtype or a word of its text changed."""
    header = json.loads(whole[8 : 8 + size])
    name = rng.choice([key for key in header if key != "__metadata__"])
    huge = rng.choice((-1, 0, 1, 7, 2**31, 2**60, 2**64, 1.5, None, "x"))
    match rng.randrange(5):
        case 0:
            header[name]["shape"] = [huge, *header[name]["shape"][1:]]
        case 1:
            header[name]["data_offsets"][rng.randrange(2)] = huge
        case 2:
            header[name]["dtype"] = rng.choice(("F16", "BF16", "I64", "F64", "U8", "BOOL", "Q9"))
        case 3:
            header[rng.choice(("a", "net", "x" * 500))] = header.pop(name)
        case 4:
            text = header["__metadata__"]["sdeppl"]
            digits = [k for k, letter in enumerate(text) if letter.isdigit()]
            place = rng.choice(digits)
            header["__metadata__"]["sdeppl"] = (
                text[:place] + rng.choice(("9" * 30, "[" * 2000, "-")) + text[place:]
            )
    changed = json.dumps(header).encode()
    return struct.pack("<Q", len(changed)) + changed + whole[8 + size :]


def loaded(kind: str, path: Path) -> Any:
    """What a file of this kind holds, as tensors."""
    if kind == "guide":
        guide = sp.ScoreGuide.load(path, laplace_model, net=small)
        return [*guide.net.state_dict().values(), guide.gaussian.location, guide.gaussian.eigenvalues]
    if kind == "posterior":
        return [sp.load_posterior(path, "torch").sample(4)["x"]]
    training = make()
    training.load_checkpoint(path)
    return [*training.network.state_dict().values(), torch.tensor(training.losses)]


def outcome(read: Callable[[], Any], wanted: Any) -> str:
    """'right', 'refused', or what else came of it."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"a hang: more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        found = read()
    except OWN:
        return "refused"
    except Exception as error:  # which is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
    same = len(found) == len(wanted) and all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    return "right" if same else "wrong: other numbers, and no error"


def run(files: int, seed: int) -> tuple[collections.Counter[str], list[str]]:
    """How many files of all kinds came out how, and each that came out neither right nor refused."""
    torch.set_num_threads(1)
    rng, counts, bad = random.Random(seed), collections.Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        whole = write_all(folder)
        wanted = {kind: loaded(kind, folder / kind) for kind in KINDS}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(files * len(KINDS)):
            kind, path = KINDS[number % len(KINDS)], folder / "damaged"
            others = [content for other, content in whole.items() if other != kind]
            what, content = damaged(whole[kind], others, rng)
            path.write_bytes(content)
            came = outcome(lambda kind=kind, path=path: loaded(kind, path), wanted[kind])
            counts[came if came in ("right", "refused") else "bad"] += 1
            if came not in ("right", "refused"):
                bad.append(f"{number}: {kind}, {what}: {came}")
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if growth > GROWTH:
            bad.append(f"memory grew by {growth / 2**20:.0f} MB")
    return counts, bad


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.process_time()
    counts, bad = run(arguments.files, arguments.seed)
    print("\n".join(bad))
    print(f"{arguments.files} files of each of {KINDS}: {dict(counts)}, {time.process_time() - began:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
