"""What a learner has to remember to go on to the bit, and the two files that hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from p2pfinetune.adapter import Adapter
from p2pfinetune.checkpoint import load_groups, load_values, save_groups
from p2pfinetune.errors import CheckpointError
from p2pfinetune.names import Digest, PeerId
from p2pfinetune.precision import PRECISIONS, Precision
from p2pfinetune.trainer import FIRST, SECOND, TrainerState

LEARNER, BEST = "learner", "best"

ANOTHER_NETWORK = "it was written for another base model, adapter or group; use another --home, or the old options"


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """All of a learner that is not in its options, its text, or the file of its best adapter."""

    trainer: TrainerState
    twin: TrainerState | None
    own: Adapter
    personal: Adapter
    twin_best: Adapter
    best_local: float
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    """Where a scheme that goes on from its last row begins."""
    owed: float = math.inf
    """The own guard loss at the last credit of the guard."""
    precision: Precision = "fp32"
    """In which all of it was trained last."""


def save_memory(path: Path, network: Digest, fingerprint: str, memory: Memory) -> None:
    """Write one file."""
    groups: dict[str, Mapping[str, Tensor]] = {"own": memory.own.tensors, "personal": memory.personal.tensors}
    values: dict[str, Any] = {"network": network, "fingerprint": fingerprint, "last_row": dict(memory.last_row)}
    values["precision"] = memory.precision
    if math.isfinite(memory.owed):
        values["owed"] = memory.owed
    _put("trainer", memory.trainer, values, groups)
    if memory.twin is not None:
        _put("twin", memory.twin, values, groups)
        groups["twin_best"] = memory.twin_best.tensors
        values["best_local"] = memory.best_local
    save_groups(path, LEARNER, values, groups)


def load_memory(path: Path, network: Digest, *, with_twin: bool) -> tuple[Memory, str]:
    """The memory and the fingerprint of its text; a twin that is not asked for is left behind."""
    values, groups = load_groups(path, LEARNER)
    _must_be_of(path, values, network)
    if with_twin and "twin" not in groups:
        raise CheckpointError(
            f"{path} holds no twin, so none can be compared with", "start without --twin, or with a new --home"
        )
    try:
        trainer = _take("trainer", values, groups)
        twin = _take("twin", values, groups) if with_twin else None
        own, personal = Adapter(groups["own"]), Adapter(groups["personal"])
        twin_best = Adapter(groups["twin_best"]) if with_twin else own
        best_local = float(values["best_local"]) if with_twin else math.inf
        last_row = {PeerId(str(peer)): float(weight) for peer, weight in values.get("last_row", {}).items()}
        owed = float(values.get("owed", math.inf))
        precision = _precision(values) or "fp32"
        memory = Memory(trainer, twin, own, personal, twin_best, best_local, last_row, owed, precision)
        return memory, str(values["fingerprint"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error


def precision_of(path: Path) -> Precision | None:
    """What a learner's file was trained in; None where it does not say, or is no such file: `load_memory` tells why."""
    try:
        return _precision(load_values(path, LEARNER))
    except CheckpointError:
        return None


def save_best(path: Path, network: Digest, fingerprint: str, best: Adapter) -> None:
    """Write one file."""
    save_groups(path, BEST, {"network": network, "fingerprint": fingerprint}, {"best": best.tensors})


def load_best(path: Path, network: Digest) -> tuple[Adapter, str]:
    """The adapter and the fingerprint of the text that it was best on."""
    values, groups = load_groups(path, BEST)
    _must_be_of(path, values, network)
    try:
        return Adapter(groups["best"]), str(values["fingerprint"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error


def _precision(values: Mapping[str, Any]) -> Precision | None:
    return next((precision for precision in PRECISIONS if precision == values.get("precision")), None)


def _must_be_of(path: Path, values: Mapping[str, Any], network: Digest) -> None:
    if values.get("network") != network:
        raise CheckpointError(f"{path} belongs to another network", ANOTHER_NETWORK)


def _put(name: str, state: TrainerState, values: dict[str, Any], groups: dict[str, Mapping[str, Tensor]]) -> None:
    groups[name] = state.adapter.tensors
    for kind, tensors in state.moments.items():
        groups[f"{name}.{kind}"] = tensors
    values[name] = {"steps": state.steps, "moment_steps": state.moment_steps}


def _take(name: str, values: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> TrainerState:
    counts = values[name]
    moments = {kind: groups[f"{name}.{kind}"] for kind in (FIRST, SECOND) if counts["moment_steps"]}
    return TrainerState(Adapter(groups[name]), moments, int(counts["moment_steps"]), int(counts["steps"]))
