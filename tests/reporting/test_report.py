"""The report: its verdict follows its checks, and the page needs no other file.

Seeds are fixed; each comparison's own false-alarm rate is one in a thousand.
"""

import dataclasses
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

Y = torch.tensor([1.5, -0.4, 2.2])


def model(y=None):
    """A Gaussian vector of which three noisy numbers are seen: the posterior is exact."""
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0, 0.5]), 2.0).to_event(1))
    pyro.sample("x_t", sp.Diffusion(sp.VPSDE(), x, torch.tensor([0.2, 0.9])))
    pyro.sample("y", dist.Normal(x, 0.8).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(model, seed=3).fit_gaussian(50_000, progress=False)


@pytest.fixture(scope="module")
def posterior(guide):
    return guide.condition(y=Y)


@pytest.fixture(scope="module")
def reference():
    return sp.reference.exact(model, {"y": Y})


def text_of(page):
    """What a reader sees; every tag but the void ones is closed."""
    open_tags, words = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attributes):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            words.append(data)

    Reader().feed(page)
    assert not open_tags
    return " ".join(words)


def test_a_right_posterior_is_trusted_by_its_reference(guide, posterior, reference, tmp_path):
    found = sp.report(
        posterior,
        tmp_path / "page.html",
        reference=reference,
        score=sp.check_score(guide, 5_000),
        guide=guide,
        draws=4_000,
    )
    page = found.path.read_text("utf-8")
    text = text_of(page)
    assert found.state == "trusted" and "passed: its own weights, reference" in found.verdict
    assert "✓ trusted" in text and "x[2]" in text and "posterior.run(4000, seed=0)" in text
    # the moments that the table shows are the exact ones
    variance = 1 / (1 / 4 + 1 / 0.64)
    mean = variance * (torch.tensor([1.0, -2.0, 0.5]) / 4 + Y / 0.64)
    for k in range(3):
        shown = re.search(rf"x\[{k}\]</td><td>(.*?)</td><td>(.*?)</td>", page)
        assert float(shown[1]) == pytest.approx(float(mean[k]), abs=4 * (variance / 4_000) ** 0.5)
        assert float(shown[2]) == pytest.approx(variance**0.5, rel=0.05)


def test_the_page_needs_no_other_file(posterior, reference, tmp_path):
    found = sp.report(posterior, tmp_path / "page.html", reference=reference, draws=500)
    page = found.path.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert not re.search(r"<(script|link)|url\((?!#)", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="(.{25})', page))


def test_a_wrong_reference_is_enough_not_to_trust(posterior, reference, tmp_path):
    """Draws that lie 0.4 standard deviations from a reference are not its posterior."""
    moved = {"x": reference.draws["x"] + 0.4 * reference.draws["x"].std(0)}
    shifted = {
        "x": dataclasses.replace(
            reference.moments["x"], mean=reference.moments["x"].mean + 0.4 * reference.moments["x"].sd
        )
    }
    wrong = dataclasses.replace(reference, draws=moved, moments=shifted)
    found = sp.report(posterior, tmp_path / "page.html", reference=wrong)
    assert found.state == "do not trust" and found.verdict.startswith("reference: do not trust: x")
    assert "✗ do not trust" in text_of(found.path.read_text("utf-8"))


def test_without_a_look_from_outside_nothing_is_said(posterior, tmp_path):
    found = sp.report(posterior, tmp_path / "page.html", draws=200)
    assert found.state == "cannot tell" and "give a reference" in found.verdict


def test_a_closed_form_is_as_good_as_its_score(guide, posterior, tmp_path):
    """The moments of 50,000 draws pass a check by 2,000; those of a guide with another mean do not."""
    good = sp.check_score(guide, 2_000)
    assert sp.report(posterior, tmp_path / "page.html", score=good, draws=200).state == "trusted"
    bad = dataclasses.replace(good, p=1e-9)
    found = sp.report(posterior, tmp_path / "page.html", score=bad, draws=200)
    assert found.state == "do not trust" and "score: do not trust: the score is wrong" in found.verdict


def test_a_calibration_is_a_look_from_outside(guide, posterior, tmp_path):
    """50 data sets with 19 draws each; and the same ranks, squeezed to the middle, are not uniform."""
    calibration = sp.sbc(guide, 50, 19, seed=2, progress=False)
    found = sp.report(posterior, tmp_path / "page.html", sbc=calibration, draws=200)
    assert found.state == "trusted" and "simulation-based calibration" in found.verdict
    assert "distribution minus a uniform one" in found.path.read_text("utf-8")
    worse = dataclasses.replace(
        calibration, tests=tuple(dataclasses.replace(t, band_p=1e-9) for t in calibration.tests)
    )
    found = sp.report(posterior, tmp_path / "page.html", coverage=worse, draws=200)
    assert found.state == "do not trust" and found.verdict.startswith("coverage: do not trust the posterior")


def test_a_check_that_cannot_tell_proves_nothing(posterior, tmp_path):
    unsure = SimpleNamespace(verdict="cannot tell: too few draws", trusted=False)
    found = sp.report(posterior, tmp_path / "page.html", checks={"mine <b>": unsure}, draws=200)
    assert found.state == "cannot tell"
    assert "<b>" not in found.path.read_text("utf-8")  # names are text, not HTML


def test_the_page_shows_the_graph_of_the_model(guide, posterior, tmp_path):
    page = sp.report(posterior, tmp_path / "page.html", guide=guide, draws=200).path.read_text("utf-8")
    assert page.count("<rect") == 4  # x, y, and x_t with its second outline
    assert page.count('marker-end="url(#tip)"') == 2
    assert "IndependentConstraint(Real(), 1)" in text_of(page)


def test_arguments_that_are_none(posterior, tmp_path):
    with pytest.raises(TypeError, match=r"score must be what a check returns.*got float"):
        sp.report(posterior, tmp_path / "page.html", score=0.3)
    with pytest.raises(TypeError, match=r"takes what guide\.condition returns; got Posterior"):
        sp.report(posterior.arrays, tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        sp.report(posterior, tmp_path / "nowhere" / "page.html")
    assert list(tmp_path.iterdir()) == []
