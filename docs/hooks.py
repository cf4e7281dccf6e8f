"""Pages that are made while the site is built: tutorials, API, and tables from the sources themselves."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import outputs
import pages
import tables

TABLES = {"backends": tables.backends, "solvers": tables.solvers}


def on_config(config: Any) -> Any:
    """The navigation of what is generated."""
    tutorials = [{page.title: page.path} for page in pages.tutorials({})]
    api = [{page.title: page.path} for page in pages.api()]
    for entry in config.nav:
        if "Tutorials" in entry:
            entry["Tutorials"] = ["tutorials/index.md", *tutorials]
        if "API" in entry:
            entry["API"] = ["api/index.md", *api]
    return config


def on_files(files: Files, config: Any) -> Files:
    """The generated pages, with what the tutorials print and draw."""
    records = outputs.records(pages.SCRIPTS)
    made = [*pages.tutorials(records), *pages.api(), pages.tutorial_index(records), pages.api_index()]
    for page in [*made, pages.changes()]:
        files.append(File.generated(config, page.path, content=page.text))
    for record in records.values():
        for picture in record.pictures:
            files.append(File.generated(config, f"tutorials/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Tables in the place of their marks."""
    for name, table in TABLES.items():
        mark = f"<!-- table: {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, table())
    return markdown
