"""A model file is loaded as by `import`, whatever stands in it."""

import pickle
import sys
import typing

import pytest

from sdeppl.cli.errors import UsageError
from sdeppl.cli.opening import _load

HEAD = """
from __future__ import annotations
import enum, pickle, typing
from dataclasses import dataclass
import torch, pyro, pyro.distributions as dist
"""
BODY = {
    "a dataclass": """
@dataclass
class Prior:
    scale: float = 1.5
made = Prior()
""",
    "a named tuple": """
class Prior(typing.NamedTuple):
    scale: float = 1.5
made = Prior()
""",
    "an enum": """
class Prior(float, enum.Enum):
    WIDE = 1.5
made = Prior.WIDE
made.scale = 1.5
""",
    "what it pickles itself": """
class Prior:
    def __init__(self, scale): self.scale = scale
made = pickle.loads(pickle.dumps(Prior(1.5)))
""",
}


@pytest.mark.parametrize("name", BODY)
def test_what_looks_itself_up_by_its_module(name, tmp_path):
    text = HEAD + BODY[name] + "\ndef model(y: Prior | None = None): return made\n"
    (tmp_path / "model.py").write_text(text)
    model = _load(f"{tmp_path}/model.py:model")
    assert model().scale == 1.5
    assert typing.get_type_hints(model)["y"] == type(model()) | None
    assert pickle.loads(pickle.dumps(model)) is model
    assert pickle.loads(pickle.dumps(model())).scale == 1.5


def test_files_of_one_name_do_not_meet_each_other_or_a_library(tmp_path):
    import random

    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "random.py").write_text(f"def model(): return {number}\n")
    one, two = (_load(f"{tmp_path}/{number}/random.py") for number in (1, 2))
    assert (one(), two()) == (1, 2)
    assert pickle.loads(pickle.dumps(one)) is one and pickle.loads(pickle.dumps(two)) is two
    assert sys.modules["random"] is random and random.random() < 1


def test_a_file_that_fails_leaves_nothing_behind(tmp_path):
    before = set(sys.modules)
    file = tmp_path / "model.py"
    file.write_text("raise RuntimeError('no data')\n")
    with pytest.raises(RuntimeError, match="no data"):
        _load(str(file))
    assert set(sys.modules) == before
    file.write_text("def model(): return 1\n")
    first = _load(str(file))
    file.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        _load(str(file))
    assert pickle.loads(pickle.dumps(first)) is first
    with pytest.raises(UsageError, match="has no 'other'; it defines model"):
        file.write_text("def model(): return 1\n")
        _load(f"{file}:other")
