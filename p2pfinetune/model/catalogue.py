"""Which base models are on this machine, and what is known of each without loading it: neither torch nor weights.

They are the embedded `nano`, snapshots in the hub's cache, converted GGUF files, and whatever folder or file else was
named. What a model takes of memory is computed (`memory`); how fast it trains here cannot be, so it is what was
measured, by somebody's wish or by a daemon that trained it, and kept in one small file (`speeds`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from p2pfinetune import nano
from p2pfinetune.errors import UNREADABLE, ModelError
from p2pfinetune.model import from_gguf
from p2pfinetune.model.base import folder_of, must_be_a_model, resolve_model
from p2pfinetune.model.fingerprints import headers, weight_files
from p2pfinetune.model.fitting import least_for, memory_for
from p2pfinetune.model.gguf_header import is_gguf, read_header
from p2pfinetune.model.hub import CARD, hub_cache, snapshot_here
from p2pfinetune.model.listing import ModelHere, Source
from p2pfinetune.model.models_cache import made, models_cache
from p2pfinetune.model.shape import shape_of
from p2pfinetune.options import NANO
from p2pfinetune.system.durable import write_whole

CARD_BYTES: Final = 1 << 16  # of a model card, in which its licence is stated at the top
LICENCE: Final = re.compile(r"^license:[ \t]*[\"']?([^\s\"'#][^\"'#\n]*)", re.MULTILINE)
CAUSAL: Final = re.compile(r"CausalLM|LMHeadModel|ConditionalGeneration")
SPEEDS: Final = "speeds.json"
LISTED: Final = "those that are: peerd models"


class Speed(msgspec.Struct, frozen=True):
    """Of training, on this machine."""

    tokens_per_second: float
    unix: float
    by: str
    """`measured` for that, or `daemon`."""


def models_here(mine: str = "") -> list[ModelHere]:
    """All that are found, the embedded one first; `mine` is the model of a home, listed wherever it lies."""
    known = speeds()
    found = {model.path: model for model in (*_embedded(), *_of_the_hub(), *_converted())}
    if mine and (own := _named(mine)) is not None:
        found[own.path] = msgspec.structs.replace(found.get(own.path, own), is_mine=True)
    return [_with_speed(model, known) for model in found.values()]


def find(name: str, mine: str = "") -> ModelHere:
    """The model that a name stands for. ModelError if it is not on this machine."""
    own = _named(name)
    for model in models_here(mine):
        if model.name == name or (own is not None and model.path == own.path):
            return model
    if own is not None:
        return own
    of_the_hub = "/" in name and name[0] not in "/.~"
    raise ModelError(f"{name} is not on this machine", f"get it: peerd models get {name}" if of_the_hub else LISTED)


def remove(model: ModelHere) -> int:
    """Delete what a cache holds of it; bytes that are free then. ModelError for what is in no cache of ours."""
    if model.source == "gguf" and Path(model.path).is_dir():
        shutil.rmtree(model.path)
        return model.disk_bytes
    if model.source == "hub":
        from huggingface_hub import scan_cache_dir

        found = scan_cache_dir(hub_cache())
        named = (each for each in found.repos if each.repo_id == model.name)
        repositories = frozenset(each for each in named if each.repo_type == "model")  # a data set may be called so
        plan = dataclasses.replace(found, repos=repositories).delete_revisions(  # and have a revision called the same
            *(r.commit_hash for each in repositories for r in each.revisions)
        )
        plan.execute()
        return int(plan.expected_freed_size)
    if model.name == NANO:
        raise ModelError("nano is a part of peerd and is not removed", "to use another: peerd start --model NAME")
    raise ModelError(f"{model.name} is in no cache, but in a folder of yours", f"delete it yourself: {model.path}")


def speeds() -> dict[str, Speed]:
    """What was measured, by the folder of a model; nothing if that cannot be read."""
    with contextlib.suppress(OSError, *UNREADABLE):
        return msgspec.json.decode((models_cache() / SPEEDS).read_bytes(), type=dict[str, Speed])
    return {}


def remember_speed(name: str, tokens_per_second: float, by: str) -> None:
    """Keep how fast a model that is here trained. What cannot be kept is not."""
    with contextlib.suppress(OSError, ModelError):
        measured = Speed(round(tokens_per_second, 1), round(time.time()), by)
        kept = {**speeds(), str(folder_of(name).resolve()): measured}
        write_whole(made(models_cache()) / SPEEDS, msgspec.json.encode(kept), mode=None)


def _with_speed(model: ModelHere, known: Mapping[str, Speed]) -> ModelHere:
    found = known.get(str(Path(model.path).resolve()))
    return msgspec.structs.replace(model, tokens_per_second=found.tokens_per_second if found else None)


def _embedded() -> Iterator[ModelHere]:
    yield _of_folder(NANO, nano.folder(), "embedded")


def _of_the_hub() -> Iterator[ModelHere]:
    for repository in sorted(hub_cache().glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        if (snapshot := snapshot_here(name)) is not None:
            yield _of_folder(name, snapshot, "hub")


def _converted() -> Iterator[ModelHere]:
    for folder in sorted(from_gguf.gguf_cache().glob("[0-9a-f]*")):
        if folder.is_dir() and (about := from_gguf.record(folder)) is not None:
            source = Path(about.gguf)
            name = str(source if is_gguf(source) else folder)
            yield msgspec.structs.replace(_of_folder(name, folder, "gguf"), title=about.title, numbers=about.numbers)


def _named(name: str) -> ModelHere | None:
    """What a home was told; None if nothing of it is here, or it is to be found in a cache by that name."""
    try:
        path = Path(resolve_model(name))
        if path.is_file():
            folder = from_gguf.place_of(
                from_gguf.gguf_cache(), from_gguf.content_digest(path, made(from_gguf.gguf_cache()))
            )
            return (
                _of_folder(name, folder, "gguf") if from_gguf.record(folder) is not None else _unconverted(name, path)
            )
        if path.is_dir():
            return _of_folder(name, path, "embedded" if name == NANO else "folder")
    except (ModelError, OSError):
        return None
    snapshot = snapshot_here(name)
    return _of_folder(name, snapshot, "hub") if snapshot is not None else None


def _unconverted(name: str, file: Path) -> ModelHere:
    header = read_header(file)
    return ModelHere(
        name=name, source="gguf", path=str(file), title=from_gguf.title_of(header), parameters=header.parameters,
        numbers=", ".join(sorted(header.kinds)), disk_bytes=file.stat().st_size, licence=header.said("general.license"),
    )  # fmt: skip


def _of_folder(name: str, folder: Path, source: Source) -> ModelHere:
    """What the folder tells of the model in it; `problem` if that is not one which can be used."""
    about: dict[str, Any] = {"name": name, "source": source, "path": str(folder), "licence": licence_in(folder)}
    about["disk_bytes"] = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    if name == NANO:
        about["says"] = nano.WHAT_IT_IS
    try:
        must_be_a_model(folder)
        tensors = [tensor for file in weight_files(folder) for tensor in headers(file)]
        config = json.loads((folder / "config.json").read_bytes())
    except (ModelError, OSError, ValueError, RecursionError) as error:
        return ModelHere(**about, problem=str(error))
    architectures = config.get("architectures") or [] if isinstance(config, dict) else []
    if architectures and not any(CAUSAL.search(str(each)) for each in architectures):
        about["problem"] = f"no causal language model: {str(architectures[0])[:80]}"
    about["numbers"] = Counter(tensor.dtype for tensor in tensors).most_common(1)[0][0] if tensors else ""
    return ModelHere(**about | _sizes(folder))


def _sizes(folder: Path) -> dict[str, Any]:
    shape, usual, least = shape_of(folder), memory_for(folder), least_for(folder)
    if shape is None or usual is None or least is None:
        return {}
    return {
        "parameters": shape.parameters,
        "context": shape.context,
        "memory_bytes": usual.total,
        "least_bytes": least.total,
    }


def licence_in(folder: Path) -> str:
    """As the card of a model states it, or the GGUF that it was converted from; empty if neither does."""
    if (about := from_gguf.record(folder)) is not None:
        return about.licence
    with contextlib.suppress(OSError):
        with (folder / CARD).open("rb") as card:
            front = card.read(CARD_BYTES).decode("utf-8", "replace")
        if front.startswith("---") and (found := LICENCE.search(front.partition("\n---")[0])):
            return found[1].strip()[:80]
    return ""
