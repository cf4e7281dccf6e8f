"""The graph of a model: all that `pyro.render_model` shows, and the SDEs."""

import xml.etree.ElementTree as ET

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.inspect import generate_graph_specification, get_model_relations

import sdeppl as sp
from sdeppl.reporting.graph import sites_of, svg_of


def model(y=None):
    """A parameter, plates in a plate, a deterministic site, a distribution that Pyro cannot draw while it
    tracks what depends on what, a path and a forward SDE."""
    width = pyro.param("width", torch.tensor(0.5), constraint=dist.constraints.positive)
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    tau = pyro.sample("tau", dist.HalfCauchy(width))
    with pyro.plate("groups", 4):
        level = pyro.sample("level", dist.Normal(mu, tau))
        rate = pyro.deterministic("rate", level.exp())
        with pyro.plate("people", 7):
            ability = pyro.sample("ability", dist.Normal(level, 1.0))
            pyro.sample("y", dist.Poisson(rate * ability.exp()), obs=y)
    path = pyro.sample("path", sp.SDEPath(sp.LinearSDE(a=0.5, b=1.0), dist.Normal(0.0, 1.0), [0.0, 1.0, 2.0]))
    pyro.sample("x_t", sp.Diffusion(sp.VPSDE(), mu, torch.tensor([0.2, 0.9])))
    with pyro.plate("places", 3):
        pyro.sample("z", dist.Normal(path + mu, 0.3))


@pytest.fixture
def sites():
    pyro.clear_param_store()
    yield {site.name: site for site in sites_of(model, (), {}, ("y",))}
    pyro.clear_param_store()


def test_it_is_what_pyro_would_render(sites):
    """Its own edges, plates, distributions and constraints; tau is given, which it cannot draw."""
    relations = get_model_relations(
        pyro.poutine.condition(model, {"tau": torch.tensor(1.0)}), include_deterministic=True
    )
    theirs = generate_graph_specification(relations, render_params=True)
    edges = {(parent, site.name) for site in sites.values() for parent in site.parents}
    assert edges == set(theirs["edge_list"]) and len(edges) == 10
    assert set(sites) == set(theirs["node_data"])
    for plate, members in theirs["plate_groups"].items():
        if plate is not None:
            inside = {name for name, site in sites.items() if plate in dict(site.plates)}
            assert inside == set(members), plate
    for name, node in theirs["node_data"].items():
        expected = node["distribution"] or ""
        assert sites[name].distribution == expected, name
    assert sites["width"].support == theirs["node_data"]["width"]["constraint"]


def test_what_it_adds(sites):
    assert sites["path"].sde.startswith("LinearSDE(a=0.5") and sites["x_t"].sde.startswith("VPSDE")
    assert [name for name, site in sites.items() if site.observed] == ["y"]  # as the caller says
    assert sites["y"].plates == (("groups", 4), ("people", 7)) and sites["y"].shape == (7, 4)
    assert sites["level"].support == "Real()" and sites["tau"].support.startswith("GreaterThanEq")
    rows = {name: site.row for name, site in sites.items()}
    assert rows == {
        "width": 0, "mu": 0, "path": 0, "tau": 1, "x_t": 1, "z": 1, "level": 2, "rate": 3,
        "ability": 3, "y": 4,
    }  # fmt: skip


def test_the_drawing(sites):
    """Plates hold their members and no other site, no two sites overlap, and styles say what is what."""
    root = ET.fromstring(svg_of(list(sites.values())))
    boxes, styles = {}, {}
    for group in root.iter("g"):
        rects, label = group.findall("rect"), group.find("text").text
        if rects:
            x, y, w, h = (float(rects[0].get(key)) for key in ("x", "y", "width", "height"))
            boxes[label], styles[label] = (x, y, x + w, y + h), rects
        else:
            left, top = (float(number) for number in group.find("path").get("d").split(" H")[0][1:].split())
            right, bottom = (float(group.find("path").get("d").split(mark)[1].split()[0]) for mark in "HV")
            boxes[label] = left, top, right, bottom
    assert set(boxes) == {*sites, "groups (4)", "people (7)", "places (3)"}

    def holds(one, other):
        return one[0] < other[0] and one[1] < other[1] and one[2] > other[2] and one[3] > other[3]

    def apart(one, other):
        return one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]

    for plate in ("groups", "people", "places"):
        box = next(box for label, box in boxes.items() if label.startswith(f"{plate} ("))
        for name, site in sites.items():
            member = plate in dict(site.plates)
            assert (holds if member else apart)(box, boxes[name]), (plate, name)
    assert holds(boxes["groups (4)"], boxes["people (7)"])
    names = list(sites)
    assert all(apart(boxes[a], boxes[b]) for k, a in enumerate(names) for b in names[:k])
    assert [len(styles[name]) for name in ("mu", "path", "x_t")] == [1, 2, 2]
    assert styles["y"][0].get("fill") == "#d8d8d8" and styles["mu"][0].get("fill") == "#ffffff"
    assert styles["rate"][0].get("stroke-dasharray") and styles["width"][0].get("stroke") is None
    assert len([path for path in root.findall("path") if path.get("marker-end")]) == 10
