"""One HTML file that needs no other: text, tables, and pictures inside it."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase


STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
h1{margin-bottom:.2rem}h2{margin-top:2.4rem;border-bottom:1px solid #ccc}
.state{padding:.8rem 1rem;border-left:.5rem solid;background:#f6f6f6}
.trusted{border-color:#0072B2}.wrong{border-color:#D55E00}.unknown{border-color:#767676}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;
text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child,.text{text-align:left}
pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:13px;line-height:1.4}
img,svg{max-width:100%;height:auto}figcaption,.small{color:#555;font-size:14px}.mark{font-weight:bold}
@media print{body{margin:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""
CLASSES = {"trusted": "trusted", "do not trust": "wrong", "cannot tell": "unknown"}
MARKS = {"trusted": "✓", "do not trust": "✗", "cannot tell": "?"}


def page(title: str, state: str, verdict: str, sections: Sequence[tuple[str, str]]) -> str:
    """The file: the verdict first, then each section, by heading and HTML."""
    body = "\n".join(f"<section><h2>{escape(head)}</h2>\n{html}</section>" for head, html in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{badge(state, verdict)}\n{body}</body></html>\n"
    )


def badge(state: str, text: str) -> str:
    """A state and what it means in words; told apart by mark and colour."""
    return (
        f'<p class="state {CLASSES[state]}"><span class="mark">{MARKS[state]} {escape(state)}</span>'
        f"{escape(text[len(state) :] if text.startswith(state) else ': ' + text)}</p>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Text as it is, numbers with four significant digits."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"<td>{value:.4g}</td>"
        return f'<td class="text">{escape(str(value))}</td>'

    text = [isinstance(value, str) for value in rows[0]] if rows else [True] * len(head)
    top = "".join(
        f"<th{' class=text' if left else ''}>{escape(name)}</th>"
        for name, left in zip(head, text, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def preformatted(text: str) -> str:
    """A printed table."""
    return f"<pre>{escape(text)}</pre>"


def picture(draw: Callable[["FigureBase"], object], caption: str, size: tuple[float, float]) -> str:
    """What `draw` puts on a matplotlib figure of `size` inches, as a PNG inside the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
