"""Handlers of Pyro change what a site means: right numbers, or a refusal that names the site."""

import math

import pytest
from handler_cases import CASES, DRAWS, PAGE, PRIOR, cell, guided, referenced

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.handler)
def test_right_numbers_or_a_refusal_by_name(case):
    found, by_reference = guided(case), referenced(case)
    if isinstance(case.expected, str):
        assert isinstance(found, str) and case.expected in found
    else:
        assert not isinstance(found, str), found
        _, mean, sd = case.expected
        error = 5 / math.sqrt(DRAWS) + 5 / math.sqrt(PRIOR)
        assert abs(found[0] - mean) < error * sd and abs(found[1] / sd - 1) < error
    wanted = case.expected if case.references is None else case.references
    if isinstance(wanted, str):
        assert isinstance(by_reference, str) and wanted in by_reference
    else:
        assert by_reference == pytest.approx(wanted[1:], rel=1e-9)
    assert f"| {case.handler} | {case.note} | {cell(found)} | {cell(by_reference)} |" in PAGE.read_text()
