"""The Python code of the documentation, page by page."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from checks import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"(?:<!-- needs: (\w+) -->\n)?```(python|text)[^\n]*\n(.*?)\n```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of its first line in the page; needs: a library that it is about."""

    page: Path
    line: int
    kind: str
    text: str
    needs: str | None

    @property
    def missing(self) -> bool:
        return self.needs is not None and find_spec(self.needs) is None

    def run(self, namespace: dict) -> None:
        """Execute it; an error names the page and the line in it."""
        exec(compile("\n" * (self.line - 1) + self.text, str(self.page), "exec"), namespace)


def blocks(page: Path) -> list[Block]:
    """Python and text blocks, in order."""
    source = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(source):
        line = source[: match.start(3)].count("\n") + 1
        found.append(Block(page, line, match[2], match[3], match[1]))
    return found
