"""Who listens to whom: directed graphs over the peers of a simulation. The one file it may read is a list of edges.

An edge is from a listener to a speaker: it says whose adapter may weigh in whose merge, and need not be mutual. A trust
row is a softmax over the neighbours and oneself, so a graph masks before the softmax; arXiv 2404.09753's released code
does so for ring and star, but for prediction similarity after it, which is no row.

The daemon has no such graph: it hears whom it can reach, and of many a partial view. `full` stands for a
few peers that all reach each other, `k-regular` for that view, ring and stars for what the paper's branches tried.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId

MAX_FILE_BYTES = 16 * 2**20  # about a million edges
SWAPS_PER_EDGE = 10  # far past where more swaps change what a random graph looks like

_COMMENT = re.compile(r"(^|\s)#.*")

Graph = dict[int, set[int]]
"""Listener to speakers, as places in the order of the peers."""


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which graph. The hub of a star is the first peer."""

    kind: Annotated[
        str,
        Meta(
            description="full, ring (both neighbours), star (everybody and the hub hear each other), full-star "
            "(everybody hears the hub alone, and the hub nobody), deep-star (half hear the hub, the "
            "others one of that half each), k-regular, or file."
        ),
    ] = "full"
    degree: Annotated[
        int, Meta(description="Of k-regular: how many peers each one listens to, and how many listen to it.")
    ] = 0
    file: Annotated[
        str,
        Meta(
            description="Of file: a line per edge, `listener speaker`, by name or by place from 0; `#` begins a "
            "comment."
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"there is no topology {self.kind!r}", f"choose one of {', '.join(KINDS)}")
        if (self.degree != 0) != (self.kind == "k-regular") or self.degree < 0:
            raise OptionError("degree is a positive number with topology k-regular, and left out with any other")
        if bool(self.file) != (self.kind == "file"):
            raise OptionError("file is a path with topology file, and left out with any other")


def neighbours(topology: Topology, peers: Sequence[PeerId], seed: int) -> dict[PeerId, tuple[PeerId, ...]]:
    """For each peer those it listens to, itself never among them; all in the order of `peers`.

    `seed` matters to k-regular alone. OptionError if the graph does not fit these peers or its file is not one.
    """
    if len(set(peers)) != len(peers):
        raise ValueError("peers have distinct names")
    match topology.kind:
        case "k-regular":
            graph = _k_regular(len(peers), topology.degree, seed)
        case "file":
            graph = _from_file(Path(topology.file), peers)
        case kind:
            graph = _SHAPES[kind](len(peers))
    return {peer: tuple(peers[j] for j in sorted(graph[i])) for i, peer in enumerate(peers)}


def _full(count: int) -> Graph:
    return {i: set(range(count)) - {i} for i in range(count)}


def _ring(count: int) -> Graph:
    return {i: {(i - 1) % count, (i + 1) % count} - {i} for i in range(count)}


def _star(count: int) -> Graph:
    return {i: {0} if i else set(range(1, count)) for i in range(count)}


def _full_star(count: int) -> Graph:
    return {i: {0} if i else set() for i in range(count)}


def _deep_star(count: int) -> Graph:
    """With six peers the graph of the reference: 1 to 3 hear the hub, 4 hears 1 and 5 hears 2."""
    inner = count // 2
    return {i: {0 if i <= inner else i - inner} if i else set() for i in range(count)}


_SHAPES: Mapping[str, Callable[[int], Graph]] = {
    "full": _full,
    "ring": _ring,
    "star": _star,
    "full-star": _full_star,
    "deep-star": _deep_star,
}
KINDS = (*_SHAPES, "k-regular", "file")


def _k_regular(count: int, degree: int, seed: int) -> Graph:
    """In- and out-degree `degree` everywhere: a circulant graph, shuffled by swaps that keep both degrees.

    A swap turns a -> b, c -> d into a -> d, c -> b unless that would make a loop or a double edge: the usual Markov
    chain over graphs of given degrees. Drawing edges at random would leave some peers heard by nobody.
    """
    if degree >= count:
        raise OptionError(f"a degree of {degree} needs more than {degree} peers, but there are {count}")
    dice = random.Random(f"topology {seed}")
    graph = {i: {(i + step) % count for step in range(1, degree + 1)} for i in range(count)}
    edges = [(i, j) for i in graph for j in sorted(graph[i])]
    for _ in range(SWAPS_PER_EDGE * len(edges)):
        one, other = dice.randrange(len(edges)), dice.randrange(len(edges))
        (a, b), (c, d) = edges[one], edges[other]
        if a not in (c, d) and b not in (c, d) and d not in graph[a] and b not in graph[c]:
            graph[a] ^= {b, d}
            graph[c] ^= {b, d}
            edges[one], edges[other] = (a, d), (c, b)
    return graph


def _from_file(path: Path, peers: Sequence[PeerId]) -> Graph:
    place = {str(i): i for i in range(len(peers))} | {str(peer): i for i, peer in enumerate(peers)}  # names go first
    graph: Graph = {i: set() for i in range(len(peers))}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        words = _COMMENT.sub("", line).split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) != 2:
            raise OptionError(f"{where}: an edge is two words, `listener speaker`, not {len(words)}")
        for word in words:
            if word not in place:
                known = f"the peers are {', '.join(peers[:8])}{' and more' if len(peers) > 8 else ''}, or their places"
                raise OptionError(f"{where}: there is no peer {word[:64]!r}", known)
        listener, speaker = (place[word] for word in words)
        if listener == speaker:
            raise OptionError(f"{where}: {words[0]} need not listen to itself", "leave the line out")
        if speaker in graph[listener]:
            raise OptionError(f"{where}: this edge stands in an earlier line too")
        graph[listener].add(speaker)
    return graph


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise OptionError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes, too long for a list of edges")
        return raw.decode()
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", "topology file names a list of edges") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise OptionError(f"{path}, line {line}: this is not text in UTF-8") from error
