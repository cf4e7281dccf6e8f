"""What each cell of a tutorial prints and draws: the scripts are run when the site is built.

`records` runs each script cell by cell, in a process of its own, where its text or the library has changed
since the last build: in small settings, or, with SDEPPL_TUTORIAL=full in the environment, in full.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PICTURES = (".png", ".gif")


@dataclass(frozen=True)
class Cell:
    """One cell of a percent script. line: of its mark, from 0; is_text: whether it is Markdown."""

    line: int
    is_text: bool
    body: str


@dataclass(frozen=True)
class Output:
    """What one cell has printed, and the names of the pictures that it has drawn."""

    text: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """Outputs of a script's cells, in order; folder: of its pictures; is_quick: whether in small settings."""

    outputs: tuple[Output, ...]
    folder: Path
    is_quick: bool

    @property
    def pictures(self) -> list[Path]:
        return [self.folder / name for output in self.outputs for name in output.pictures]


def cells(script: Path) -> list[Cell]:
    """What stands between the marks `# %%`; a header before the first is left out."""
    text = script.read_text("utf-8")
    marks = list(re.finditer(r"^# %%(.*)\n?", text, re.MULTILINE))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        Cell(text[: mark.start()].count("\n"), "[markdown]" in mark[1], text[mark.end() : end])
        for mark, end in zip(marks, ends, strict=True)
    ]


def records(scripts: list[Path]) -> dict[str, Record]:
    """Of each script, by its stem. Raises: RuntimeError, with the script's last words, where one fails."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip([s.stem for s in scripts], pool.map(_record, scripts), strict=True))


def _record(script: Path) -> Record:
    is_quick = os.environ.get("SDEPPL_TUTORIAL", "quick") == "quick"
    folder = script.parent / "output" / ("quick" if is_quick else "")
    kept, made_of = folder / f"{script.stem}.json", _digest(script)
    if not _is_current(kept, made_of):
        environment = os.environ | {"SDEPPL_TUTORIAL": "quick" if is_quick else "full"}
        words = [sys.executable, __file__, str(script), str(kept), made_of]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{script.name}, whose outputs the site shows, failed:\n{done.stderr[-2000:]}")
    found = json.loads(kept.read_text("utf-8"))["outputs"]
    return Record(tuple(Output(o["text"], tuple(o["pictures"])) for o in found), folder, is_quick)


def _digest(script: Path) -> str:
    """Of the script, the library and what chooses its backend: another one may print something else."""
    found = hashlib.sha256(os.environ.get("SDEPPL_BACKEND", "").encode())
    for path in [script, *sorted((ROOT / "src").rglob("*.py"))]:
        found.update(path.read_bytes())
    return found.hexdigest()


def _is_current(kept: Path, made_of: str) -> bool:
    if not kept.is_file():
        return False
    content = json.loads(kept.read_text("utf-8"))
    pictures = [name for output in content["outputs"] for name in output["pictures"]]
    return content["made_of"] == made_of and all((kept.parent / name).is_file() for name in pictures)


def run(script: Path, folder: Path) -> list[Output]:
    """The script cell by cell, as __main__; the pictures are those that it writes to `folder`."""
    module = ModuleType("__main__")
    module.__dict__["__file__"] = str(script)
    sys.modules["__main__"], sys.argv = module, [str(script)]
    found, before = [], _drawn(script, folder)
    for cell in cells(script):
        printed = io.StringIO()
        if not cell.is_text:
            code = compile("\n" * (cell.line + 1) + cell.body, str(script), "exec")  # with the script's lines
            with contextlib.redirect_stdout(printed):
                exec(code, module.__dict__)
        now = _drawn(script, folder)
        new = tuple(name for name, written in now.items() if before.get(name) != written)
        found.append(Output(printed.getvalue(), new))
        before = now
    return found


def _drawn(script: Path, folder: Path) -> dict[str, int]:
    """When each picture whose name begins with the script's was written."""
    paths = sorted(path for path in folder.glob(f"{script.stem}*") if path.suffix in PICTURES)
    return {path.name: path.stat().st_mtime_ns for path in paths}


def main() -> None:
    """Run one script; write down what came of it."""
    script, kept, made_of = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    kept.parent.mkdir(parents=True, exist_ok=True)
    found = [{"text": output.text, "pictures": output.pictures} for output in run(script, kept.parent)]
    kept.write_text(json.dumps({"made_of": made_of, "outputs": found}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
