"""Arrays by name in text: CSV, whose first line names them, and JSON."""

import csv
import json
import math
import re
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np

MISSING = ("", "NA", "NaN", "nan", "null", "None", "<NA>", ".")
ENTRY = re.compile(r"(.*)\[(\d+(?:,\s*\d+)*)\]")  # y[0] or y[2,1]


def read_csv(path: str, option: str) -> "dict[str, np.ndarray]":
    """{name: (rows, *shape)}: a column for each name, or for each of its numbers, y[0], y[1], …

    Of one row, (*shape). Separated by commas, semicolons or tabs, with a point in decimal numbers; an empty
    cell, NA and NaN were not observed. Raises: UsageError, naming file, line and column.
    """
    import numpy as np

    where = f"{option} {path}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not text in UTF-8 ({error})") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    lines = [(n, row) for n, row in enumerate(csv.reader(text.splitlines(), delimiter=separator), 1) if row]
    names = _header(lines, where)
    for number, row in lines[1:]:
        if len(row) != len(names):
            raise UsageError(
                f"{where}, line {number}: {len(row)} cells, and {len(names)} names in the first line"
            )
    columns = {
        name: np.array([_cell(row[k], name, number, where) for number, row in lines[1:]])
        for k, name in enumerate(names)
    }
    found = _joined(columns, where)
    return {name: value[0] for name, value in found.items()} if len(lines) == 2 else found


def read_json(path: str, option: str) -> "dict[str, np.ndarray]":
    """{name: array} of an object of numbers and nested lists; null was not observed. Raises: UsageError."""

    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {path} is not JSON ({error})") from error
    if not isinstance(found, dict) or not found:
        raise UsageError(f'{option} {path} must hold an object of arrays by name, {{"y": [1.5, null, 2]}}')
    from ..backend import host_numbers  # with NumPy, which --help does without

    try:
        return {name: host_numbers(_seen(value), f"'{name}'") for name, value in found.items()}
    except TypeError as error:
        raise UsageError(f"{option} {path}: {error}") from error


def _header(lines: list[Any], where: str) -> list[str]:
    names = [name.strip() for name in lines[0][1]] if lines else []
    if len(lines) < 2:
        raise UsageError(f"{where}: a first line of names and at least one line of numbers are needed")
    for name in names:
        if not name or _is_number(name):
            raise UsageError(f"{where}: the first line must name each column by its site; got {name!r}")
        if names.count(name) > 1:
            raise UsageError(f"{where}: two columns are called '{name}'")
    return names


def _cell(text: str, name: str, line: int, where: str) -> float:
    text = text.strip()
    if text in MISSING:
        return math.nan
    if not _is_number(text):
        raise UsageError(
            f"{where}, line {line}, column '{name}': {text!r} is not a number; leave out what is no data"
        )
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python takes


def _joined(columns: "dict[str, np.ndarray]", where: str) -> "dict[str, np.ndarray]":
    """Columns y[0], y[1], … as one array y. Raises: UsageError where some are missing."""
    import numpy as np

    found: dict[str, Any] = {}
    for label, column in columns.items():
        entry = ENTRY.fullmatch(label)
        if entry is None:
            found.setdefault(label, {})[()] = column
        else:
            index = tuple(int(part) for part in entry[2].split(","))
            found.setdefault(entry[1].strip(), {})[index] = column
    arrays = {}
    for name, parts in found.items():
        ranks = {len(index) for index in parts}
        shape = tuple(max(index) + 1 for index in zip(*parts, strict=False))
        if len(ranks) > 1 or math.prod(shape) != len(parts):
            raise UsageError(f"{where}: the columns of '{name}' are not those of one array: {list(parts)}")
        stacked = np.stack([parts[index] for index in np.ndindex(shape)], axis=-1)
        arrays[name] = stacked.reshape(len(stacked), *shape)
    return arrays


def _seen(value: Any) -> Any:
    """With NaN for null."""
    if isinstance(value, list):
        return [_seen(item) for item in value]
    return math.nan if value is None else value
