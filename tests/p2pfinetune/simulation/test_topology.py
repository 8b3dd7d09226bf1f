"""Graphs of who listens to whom."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.simulation import topology as module
from p2pfinetune.simulation.topology import KINDS, Topology, neighbours

SHAPES = [kind for kind in KINDS if kind not in ("k-regular", "file")]


def named(count):
    return [PeerId(f"peer-{i}") for i in range(count)]


def places(topology, count, seed=0):
    """The same graph in small numbers."""
    peers = named(count)
    heard = neighbours(topology, peers, seed)
    return {i: [peers.index(speaker) for speaker in heard[peer]] for i, peer in enumerate(peers)}


def edges(text, tmp_path, peers):
    path = tmp_path / "edges.txt"
    path.write_text(text)
    return neighbours(Topology(kind="file", file=str(path)), peers, 0)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_every_shape_names_distinct_others_in_order_at_any_size(kind, count):
    graph = places(Topology(kind=kind), count)

    assert list(graph) == list(range(count))
    assert all(heard == sorted(set(heard) - {i}) for i, heard in graph.items())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("full", {0: [1, 2, 3], 1: [0, 2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}),
        ("ring", {0: [1, 3], 1: [0, 2], 2: [1, 3], 3: [0, 2]}),
        ("star", {0: [1, 2, 3], 1: [0], 2: [0], 3: [0]}),
        ("full-star", {0: [], 1: [0], 2: [0], 3: [0]}),
    ],
)
def test_shapes_of_four_peers(kind, expected):
    assert places(Topology(kind=kind), 4) == expected


def test_the_deep_star_of_six_is_that_of_the_reference():
    assert places(Topology(kind="deep-star"), 6) == {0: [], 1: [0], 2: [0], 3: [0], 4: [1], 5: [2]}


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 24), data=st.data())
def test_a_regular_graph_has_its_degree_on_both_sides(count, data):
    degree, seed = data.draw(st.integers(1, count - 1)), data.draw(st.integers(0, 1000))
    graph = places(Topology(kind="k-regular", degree=degree), count, seed)
    spoken = [speaker for heard in graph.values() for speaker in heard]

    assert all(len(heard) == len(set(heard) - {i}) == degree for i, heard in graph.items())
    assert all(spoken.count(i) == degree for i in range(count))


def test_a_regular_graph_is_drawn_by_its_seed():
    drawn = [places(Topology(kind="k-regular", degree=3), 12, seed) for seed in (1, 1, 2)]

    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_over_many_seeds_a_regular_graph_prefers_nobody():
    count, draws = 6, 600
    graphs = [places(Topology(kind="k-regular", degree=2), count, seed) for seed in range(draws)]
    heard = [sum(j in graph[0] for graph in graphs) / draws for j in range(1, count)]

    assert heard == pytest.approx([2 / (count - 1)] * (count - 1), abs=0.08)


def test_a_degree_that_the_peers_cannot_have_is_refused():
    with pytest.raises(OptionError, match="degree of 4 needs more than 4 peers, but there are 4"):
        neighbours(Topology(kind="k-regular", degree=4), named(4), 0)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "mesh"},
        {"kind": "k-regular"},
        {"kind": "k-regular", "degree": -1},
        {"kind": "ring", "degree": 2},
        {"kind": "file"},
        {"kind": "full", "file": "edges.txt"},
    ],
)
def test_options_that_do_not_fit_together_are_refused(options):
    with pytest.raises(OptionError):
        msgspec.convert(options, Topology)


def test_an_unknown_field_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "full", "degrees": 2}, Topology)


def test_a_file_names_peers_or_their_places(tmp_path):
    text = "# who hears whom\nanna ben   # a friend\n\n2 anna\nben 2\n"
    heard = edges(text, tmp_path, [PeerId("anna"), PeerId("ben"), PeerId("c#")])

    assert heard == {"anna": ("ben",), "ben": ("c#",), "c#": ("anna",)}


def test_a_name_that_looks_like_a_place_is_the_name(tmp_path):
    assert edges("1 0\n", tmp_path, [PeerId("1"), PeerId("0")]) == {"1": ("0",), "0": ()}


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("0", "two words"),
        ("0 1 2", "two words"),
        ("0 stranger", "no peer 'stranger'"),
        ("0 3", "no peer '3'"),
        ("-1 0", "no peer '-1'"),
        ("1 1", "listen to itself"),
        ("1 0", "earlier line"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_cause(line, cause, tmp_path):
    with pytest.raises(OptionError, match=cause) as caught:
        edges(f"1 0\n# next comes the fault\n{line}\n", tmp_path, named(3))

    assert str(caught.value).startswith(f"{tmp_path / 'edges.txt'}, line 3: ")


def test_a_file_that_is_not_there_not_text_or_too_long_is_refused(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="missing cannot be read"):
        neighbours(Topology(kind="file", file=str(tmp_path / "missing")), named(2), 0)

    (tmp_path / "binary").write_bytes(b"0 1\n\xff\xfe\n")
    with pytest.raises(OptionError, match="binary, line 2: this is not text"):
        neighbours(Topology(kind="file", file=str(tmp_path / "binary")), named(2), 0)

    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3)
    with pytest.raises(OptionError, match="larger than 3 bytes"):
        edges("0 1\n", tmp_path, named(2))
