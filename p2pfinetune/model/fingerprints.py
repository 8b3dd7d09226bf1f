"""Digests of what a base model is: its tensors as stored, its configuration, and its tokenizer.

Peers that mix adapters of two different bases get noise, silently; so what a base is has to be compared, and cannot be
by name, since a name is reused, forked and quantised. The digest is of content and never of where it lies: two peers
that hold the same weights in different folders, shards or caches get the same one. Tensors are hashed as bytes straight
from the safetensors files: nothing is converted, so no library's rounding can divide a network, and nothing but
safetensors is read. Of the configuration, what changes the function that is computed counts (`meaning_of`, ADR 0022): a
rotary base or an epsilon is in no tensor, and a note of which library wrote the file is no difference.

All digests are SHA-256 over `canonical_json`, whose spelling is therefore part of the protocol (docs/protocol.md):
changing it divides every network from its past. Hashing gigabytes takes seconds, so it is remembered by the files'
paths, sizes and times; a cache that lies is the user's own, and cannot be made by a peer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.errors import UNREADABLE, ModelError
from p2pfinetune.names import Digest
from p2pfinetune.system.durable import write_whole

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
CHUNK_BYTES = 1 << 20


BOOKKEEPING = frozenset({
    "architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "problem_type",
    "return_dict", "use_cache", "tokenizer_class", "use_mamba_kernels", "chunk_size_feed_forward", "pretraining_tp",
})  # fmt: skip
"""Of a configuration, with ways to compute the same."""
NOT_COMPUTED_BEFORE = ("_", "output_", "initializer", "init_", "summary_")
NOT_COMPUTED_WITHIN = ("dropout", "pdrop", "layerdrop", "aux_loss", "z_loss", "jitter")  # in training alone
NOT_COMPUTED_AFTER = ("_token_id",)  # special tokens are the tokenizer's


class StoredTensor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One tensor of a checkpoint: its stored dtype (`BF16`, `F32`, ...) and the SHA-256 of its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    digest: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    begin: int
    """Byte of the file at which its numbers begin."""
    size: int
    """In bytes."""


def stored_tensors(folder: Path, cache: Path | None = None) -> tuple[StoredTensor, ...]:
    """Every tensor of the checkpoint in `folder`, by name; hashed once a state (path, size, mtime) of its files."""
    files = weight_files(folder)
    kept = cache / f"tensors-{_identity(files)}.json" if cache else None
    if kept and (known := _remembered(kept)):
        return known
    found = tuple(sorted((t for file in files for t in _hash_file(file)), key=lambda t: t.name))
    if kept:
        _remember(kept, found)
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those its index names, or the single `model.safetensors`."""
    index = folder / "model.safetensors.index.json"
    if (single := folder / "model.safetensors").is_file():
        return [single]
    if not index.is_file():
        raise ModelError(
            f"{folder} holds no model.safetensors",
            "other formats are not read; load the model once with transformers and save_pretrained() it",
        )
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged: {error}", "fetch the model again") from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{folder} lacks {missing[0]}", "fetch the model again")
    return [folder / name for name in names]


def tensors_digest(stored: Sequence[StoredTensor], same: Mapping[str, str]) -> Digest:
    """Digest over sorted (name, shape, stored dtype, bytes).

    `same` gives a stored name's canonical one: tied weights, stored once or twice, count once if their bytes agree.
    """
    entries = {(same.get(t.name, t.name), t.shape, t.dtype, t.digest) for t in stored}
    return Digest(hashlib.sha256(canonical_json(sorted(entries))).hexdigest())


def config_digest(config: Any) -> Digest:
    """Digest over what the configuration of a model changes of the function that it computes."""
    return Digest(hashlib.sha256(canonical_json(meaning_of(config))).hexdigest())


def meaning_of(config: Any) -> dict[str, Any]:
    """The configuration without its defaults, bookkeeping, and what matters in training alone; in one spelling.

    To leave a default out is to fill it in, for all who have the same library; and if a later one knows more fields,
    which its defaults leave as they were, nothing changes. What a family does not know changes nothing either.
    """
    text = config.get_text_config()
    try:
        default = type(text)().to_dict()
    except (TypeError, ValueError, AttributeError, KeyError):  # a family without defaults
        default = None
    chosen = {
        name: _spelled(value)
        for name, value in text.to_dict().items()
        if _is_part(name) and (default is None or (name in default and _spelled(default[name]) != _spelled(value)))
    }
    return {**chosen, "model_type": str(text.model_type)}


def _is_part(name: str) -> bool:
    return not (
        name in BOOKKEEPING
        or name.startswith(NOT_COMPUTED_BEFORE)
        or name.endswith(NOT_COMPUTED_AFTER)
        or any(word in name for word in NOT_COMPUTED_WITHIN)
    )


def _spelled(value: Any) -> Any:
    """1e6, 1000000 and 1000000.0 are one number; JSON has no infinity and no tuples."""
    if isinstance(value, Mapping):
        return {str(key): _spelled(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_spelled(inner) for inner in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def tokenizer_digest(tokenizer: Any) -> Digest:
    """Digest over what turns a text into ids: the vocabulary and its rules, and the special tokens put around it."""
    meaning = {
        "text": bare_tokenizer_digest(tokenizer),
        "around": [int(i) for i in tokenizer("a")["input_ids"]],
        "end": tokenizer.eos_token_id,
        "begin": tokenizer.bos_token_id,
    }
    return Digest(hashlib.sha256(canonical_json(meaning)).hexdigest())


def bare_tokenizer_digest(tokenizer: Any) -> Digest:
    """Over the backend's own JSON without the state of the last call: all that `peerd network 1` knew of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python: its vocabulary and kind are what there is to compare
        meaning: Any = {"kind": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        meaning = json.loads(backend.to_str())
        meaning.pop("truncation", None)
        meaning.pop("padding", None)
        merges = meaning.get("model", {}).get("merges")
        if merges:  # written as "a b" by older versions of tokenizers, as ["a", "b"] by newer ones
            meaning["model"]["merges"] = [m.split(" ") if isinstance(m, str) else m for m in merges]
    return Digest(hashlib.sha256(canonical_json(meaning)).hexdigest())


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value that digests are taken over: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def headers(path: Path) -> tuple[Header, ...]:
    """Every tensor of a safetensors file as its header says; no tensor is read. ModelError if it is damaged."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER_BYTES, path.stat().st_size):
                raise ValueError("its header does not fit in it")  # noqa: TRY301  # every kind of damage reads alike
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            found = [
                (name, tuple(entry["shape"]), entry["dtype"], *entry["data_offsets"]) for name, entry in header.items()
            ]
            return tuple(
                Header(name, shape, dtype, 8 + length + begin, end - begin) for name, shape, dtype, begin, end in found
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is not a readable safetensors file: {error}", "fetch the model again")


def _hash_file(path: Path) -> Iterable[StoredTensor]:
    found = headers(path)
    try:
        with path.open("rb") as file:
            for one in found:
                file.seek(one.begin)
                yield StoredTensor(one.name, one.shape, one.dtype, _hash_range(file, one.size))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _hash_range(file: Any, size: int) -> str:
    digest, left = hashlib.sha256(), size
    while left > 0:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise ValueError("it ends early")
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _identity(files: Sequence[Path]) -> str:
    facts = []
    for file in files:
        real = file.resolve()  # a hub snapshot is a folder of links
        facts.append([str(real), file.name, real.stat().st_size, real.stat().st_mtime_ns])
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:32]


def _remembered(kept: Path) -> tuple[StoredTensor, ...] | None:
    with contextlib.suppress(OSError, *UNREADABLE):  # a cache that cannot be read is no cache
        return msgspec.json.decode(kept.read_bytes(), type=tuple[StoredTensor, ...])
    return None


def _remember(kept: Path, found: tuple[StoredTensor, ...]) -> None:
    with contextlib.suppress(OSError):  # nor is one that cannot be written; several workers may start at once
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, msgspec.json.encode(found), mode=None)
