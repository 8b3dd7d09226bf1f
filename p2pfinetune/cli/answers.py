"""The JSON documents that `--json` prints, as types; docs/protocol.md is generated from them.

`reproduce` prints `compare.summary.Summary`, or with --ablate what is here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from p2pfinetune.compare.summary import Summary

SCHEMA_VERSION = 1


class Perplexities(msgspec.Struct, frozen=True, kw_only=True):
    """Of one peer on its test split, which nothing else has seen; null if there is no such model."""

    base: float | None
    personal: Annotated[float | None, Meta(description="The last adapter.")]
    best: Annotated[float | None, Meta(description="The adapter with the best guard loss.")]
    local: Annotated[float | None, Meta(description="The last adapter of the twin that never merges.")]
    local_best: float | None
    served: Annotated[
        float | None,
        Meta(
            description="The one of these that `generate` and `export` would give: never behind the twin on the "
            "guard split."
        ),
    ]


class SimulatedPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer at the end."""

    name: str
    tokens: Annotated[int, Meta(description="Of the test split.")]
    perplexity: Perplexities
    merges: int
    merges_refused: Annotated[int, Meta(description="By its guard.")]


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """`p2pfinetune simulate`."""

    folder: str
    seconds: float
    bytes: Annotated[int, Meta(description="All peers' traffic.")]
    peers: list[SimulatedPeer]
    plots: list[str]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One value of an ablation."""

    name: Annotated[str, Meta(description="As rank-4.")]
    summary: Summary


class Ablated(msgspec.Struct, frozen=True, kw_only=True):
    """`p2pfinetune reproduce --ablate`."""

    setting: str
    mix: str
    model: str
    ablation: str
    variants: list[Variant]


def document(command: str, data: Any) -> dict[str, Any]:
    """What `--json` prints when all went well."""
    return {"schema_version": SCHEMA_VERSION, "command": command, "status": "ok", "data": msgspec.to_builtins(data)}


def failure(command: str, code: str, message: str, hint: str) -> dict[str, Any]:
    """What `--json` prints when something failed."""
    error = {"code": code, "message": message, "hint": hint}
    return {"schema_version": SCHEMA_VERSION, "command": command, "status": "error", "error": error}
