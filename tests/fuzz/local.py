"""Targets: files of this machine: those that hold state, and those of users.

Nobody hostile writes them, but disks rot, programs are killed, versions differ, and people have all kinds of files.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import torch

from p2pfinetune.data import dealer, token_cache
from p2pfinetune.data.documents import normalise, read_documents
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.data.tokens import TokenDocument
from p2pfinetune.errors import CheckpointError, ModelError
from p2pfinetune.model import fingerprints
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.peft_folder import CONFIG, WEIGHTS, export_folder, import_folder
from p2pfinetune.names import Digest, PeerId
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.saved import HeldAdapter, LearnerState, load_best, load_state, save_best, save_state
from p2pfinetune.training.checkpoint import KEY
from p2pfinetune.training.trainer import TrainerState
from p2pfinetune.training.trainers.adamw import FIRST, SECOND
from p2pfinetune.trust import SchemeState
from peerd.config import Config
from peerd.config_file import read_config, write_config
from peerd.errors import UsageError
from peerd.machine import lock
from tests.fuzz import mutate
from tests.fuzz.target import Mutator, Target

NETWORK = Digest("a" * 64)
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def scratch(**files: bytes) -> Iterator[Path]:
    """A folder, in memory where the machine has such a place."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=IN_MEMORY) as folder:
        yield Path(folder)


# --- checkpoints


def run_checkpoint(data: bytes) -> None:
    """A checkpoint or a CheckpointError that says so, for every reader of such files."""
    with scratch() as folder:
        path = folder / "checkpoint"
        path.write_bytes(data)
        for with_twin in (False, True):
            try:
                memory, fingerprint = load_state(path, NETWORK, AdapterSpec(rank=1), with_twin=with_twin)
            except CheckpointError:
                continue
            assert isinstance(fingerprint, str)
            assert ("twin" in memory.adapters) == (with_twin and not memory.is_alone)
            save_state(folder / "again", NETWORK, fingerprint, memory)
            memory, fingerprint = load_state(folder / "again", NETWORK, AdapterSpec(rank=1), with_twin=with_twin)
            save_state(folder / "twice", NETWORK, fingerprint, memory)
            assert (folder / "twice").read_bytes() == (folder / "again").read_bytes()
        try:
            adapter, fingerprint = load_best(path, NETWORK)
        except CheckpointError:
            return
        assert isinstance(adapter, Adapter)
        assert isinstance(fingerprint, str)


def adapter(scale: float = 1.0) -> Adapter:
    """A small one."""
    return Adapter({"m.lora_A": torch.full((1, 2), scale), "m.lora_B": torch.full((2, 1), -scale)})


def checkpoint_seeds() -> Iterator[bytes]:
    """With a twin and without, the best adapter alone; meanings that no program wrote."""
    moments = {FIRST: adapter(0.1).tensors, SECOND: adapter(0.2).tensors}
    spec = AdapterSpec(rank=1)
    trained = HeldAdapter(spec, TrainerState(adapter(), 5, tensors=moments, counts={"moment_steps": 3}))
    fresh = HeldAdapter(spec, TrainerState(adapter(), 0, "sgd", counts={"moment_steps": 0}))
    kept: dict[str, Any] = {"kept": SchemeState({"behind": {"p": 0.5}}), "kept_by": "smoothed-validation"}
    with scratch() as folder:
        path = folder / "x"
        twin: dict[str, Any] = {"has_twin": True, "twin_best": adapter(), "best_local": 3.0}
        for memory in (
            LearnerState(adapters={"default": trained}, own=adapter(), personal=adapter(2.0), is_alone=True, **twin),
            LearnerState(
                adapters={"default": fresh, "twin": trained}, own=adapter(), personal=adapter(2.0), is_alone=False, **twin,
                served="personal", last_row={PeerId("p"): 0.5}, owed=1.5, precision="bf16", **kept,
            ),
        ):  # fmt: skip
            save_state(path, NETWORK, "f" * 8, memory)
            yield path.read_bytes()
        save_best(path, NETWORK, "f" * 8, adapter())
        best = path.read_bytes()
    yield best
    length = int.from_bytes(best[:8], "little")
    header = json.loads(best[8 : 8 + length])
    meaning = json.loads(header["__metadata__"][KEY])
    for changed in ([], 3, {**meaning, "aliases": {"best/m.lora_A": "nowhere"}}, {**meaning, "aliases": [["a"]]},
                    {**meaning, "values": [1]}, {**meaning, "version": 2}, {**meaning, "kind": "learner"},
                    {key: value for key, value in meaning.items() if key != "aliases"}):  # fmt: skip
        yield _with_meaning(best, json.dumps(changed))
    yield _with_meaning(best, "[" * 3000)


def _with_meaning(blob: bytes, meaning: str) -> bytes:
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + length])
    header["__metadata__"] = {KEY: meaning}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + blob[8 + length :]


def mutate_checkpoint(data: bytes, dice: Random) -> bytes:
    """The header, the JSON inside the header's JSON, or anything."""
    try:
        length = int.from_bytes(data[:8], "little")
        meaning = json.loads(data[8 : 8 + length])["__metadata__"][KEY]
        if dice.random() < 0.6:
            return _with_meaning(data, _MEANING(meaning.encode(), dice).decode("utf-8", "replace"))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        pass
    return _HEADER(data, dice)


_MEANING = mutate.json_trees(
    [
        "version",
        "kind",
        "values",
        "aliases",
        "network",
        "fingerprint",
        "last_row",
        "owed",
        "kind",
        "trust",
        "tables",
        "scheme",
    ]
)
_HEADER = mutate.framed(mutate.json_trees(["__metadata__", KEY, "dtype", "shape"]), width=8, order="little")


# --- settings


def run_settings(data: bytes) -> None:
    """Settings that come back when they are written, or a UsageError with a hint."""
    with scratch() as folder:
        path = folder / "config.toml"
        path.write_bytes(data)
        try:
            config = read_config(path)
        except UsageError:
            config = None
        if config is None:
            assert path.read_bytes() == data, "a damaged file is left as it is"
            return
        write_config(path, config)
        assert repr(msgspec.to_builtins(read_config(path))) == repr(msgspec.to_builtins(config))


SETTINGS_WORDS = [name.encode() for name in Config.__struct_fields__] + [b" = ", b"[", b"]", b"nan", b"inf", b'"""', b"'",
                 b"\n", b"1979-05-27T07:32:00Z", b"0x7fffffffffffffff", b"[[", b"]]", b"{ a = 1 }", b"[trust_options]",
                 b"1e400", b"true", b"\\uD800", b"[" * 400]  # fmt: skip


def setting_seeds() -> Iterator[bytes]:
    """What is written, and what people write."""
    yield b""
    yield b'name = "ada"\ndata = ["/a", "/b"]\nrank = 4\nlr = 0.001\nlan = true\n'
    yield b'trust = "uniform"\n[trust_options]\nbound = 4.0\nwhen = 1979-05-27\n'
    yield b"rank = 0\n"
    yield b'rank = "8"\n'
    yield b"lr = nan\n"
    yield b"lr = 1e400\n"
    yield b"x = 1\n"
    yield b"name = \xff\n"
    yield b"name = 'a'\nname = 'b'\n"
    yield b"data = " + b"[" * 3000
    yield b"rank = " + b"9" * 5000


# --- documents


SUFFIXES = (".txt", ".jsonl", ".md", "", ".ndjson", ".json")


def run_documents(data: bytes) -> None:
    """Text that is text, each document once, or a file that was left out with a reason."""
    with scratch() as folder:
        path = folder / f"file{SUFFIXES[data[0] % len(SUFFIXES) if data else 0]}"
        path.write_bytes(data[1:])
        documents, report = read_documents([folder])
    assert report.documents == len(documents) == len({document.id for document in documents})
    assert bool(documents) != bool(report.skipped)
    for document in documents:
        assert document.text.encode("utf-8")
        assert document.text.strip()
        assert "\r" not in document.text
        assert normalise(normalise(document.text)) == normalise(document.text)
    assert all(report.sentences())


def document_seeds() -> Iterator[bytes]:
    """Encodings, rows, and what only looks like text."""
    text = "Grüße aus Zürich.\n\nA second paragraph — with “quotes”.\r\n" * 3
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"):
        yield b"\0" + text.encode(encoding, "replace")
    yield b"\1" + b'{"text": "one"}\n{"content": "two \\ud800"}\n"three"\n{"text": 4}\nnot json\n' + b"[" * 3000
    yield b"\1" + b'{"text": ' + b"9" * 5000 + b"}\n"
    yield b"\2" + b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'
    said = [
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "f"}}]},
    ]
    for row in (
        {"messages": said, "tools": [{}]},
        {"prompt": "a", "chosen": said[1:]},
        {"instruction": "a", "output": "b", "history": [["c", "d"]]},
    ):
        yield b"\1" + json.dumps(row).encode()
        yield b"\5" + json.dumps([row, row]).encode()
    yield b"\5" + json.dumps([{"mapping": {"a": {"message": None, "parent": "a"}}, "current_node": "a"}]).encode()
    yield (
        b"\5" + json.dumps({"messages": [{"type": "message", "from": "A", "date": "2026-11-28", "text": "b"}]}).encode()
    )
    yield b"\0[28.11.26, 21:30:05] Anna: a\n[28.11.26, 21:30:05] Ben: b\nc\n[31/31/99, 99:99] Ben: d\n"
    yield b"\0%PDF-1.4 text"
    yield b"\0" + bytes(range(256))
    yield b"\0\n\n \t\n"
    yield b"\0" + b"\xff\xfe" + b"\0\xd8" * 9


# --- PEFT folders


def run_peft(data: bytes) -> None:
    """An adapter whose factors fit its spec, or a ModelError."""
    length = int.from_bytes(data[:2], "big")
    with scratch() as folder:
        (folder / CONFIG).write_bytes(data[2 : 2 + length])
        (folder / WEIGHTS).write_bytes(data[2 + length :])
        try:
            spec, found = import_folder(folder)
        except ModelError:
            return
        assert isinstance(spec, AdapterSpec)
        assert all(a.shape[0] == b.shape[1] == spec.rank for _, a, b in found.pairs())
        assert spec.targets == tuple(path for path, _, _ in found.pairs())


def peft_seeds() -> Iterator[bytes]:
    """As it is exported, and with settings of the wrong kind."""
    with scratch() as folder:
        export_folder(folder / "p", adapter(), AdapterSpec(rank=1, alpha=2), "nano", ["m"])
        config, weights = (folder / "p" / CONFIG).read_bytes(), (folder / "p" / WEIGHTS).read_bytes()
    yield len(config).to_bytes(2, "big") + config + weights
    fields = json.loads(config)
    for changed in ({"r": 1e400}, {"r": None}, {"r": "1"}, {"r": 2}, {"lora_alpha": 1e400}, {"lora_alpha": "2"},
                    {"lora_alpha": []}, {"lora_dropout": []}, {"use_dora": True}, {"peft_type": "IA3"}, {"r": 10**400},
                    {"lora_alpha": 10**400}, {"lora_dropout": 10**400}):  # fmt: skip
        text = json.dumps({**fields, **changed}).replace("Infinity", "1e400").encode()
        yield len(text).to_bytes(2, "big") + text + weights
    for text in (b"[]", b"[" * 3000, b"9" * 5000, b"\xff"):
        yield len(text).to_bytes(2, "big") + text + weights


def mutate_peft(data: bytes, dice: Random) -> bytes:
    """One file or the other."""
    if dice.random() < 0.6:
        return _PEFT_CONFIG(data, dice)
    length = int.from_bytes(data[:2], "big")
    return data[: 2 + length] + _HEADER(data[2 + length :], dice)


_PEFT_CONFIG = mutate.framed(mutate.json_trees(["r", "lora_alpha", "lora_dropout", "bias", "peft_type"]), width=2)


# --- token files


def run_tokens(data: bytes) -> None:
    """A corpus as it was written, or none."""
    length = int.from_bytes(data[:2], "big")
    with scratch() as folder:
        (folder / "index.json").write_bytes(data[2 : 2 + length])
        (folder / "tokens.bin").write_bytes(data[2 + length :])
        stored = token_cache.load(folder)
        if stored is None:
            return
        assert set(stored.splits) == set(SPLITS)
        for split in stored.splits.values():
            assert split.starts[-1] == len(split.tokens)
            assert all(len(split.document(i)) >= 0 for i in range(split.documents))
            assert bool((np.diff(split.starts) >= 0).all())


def token_seeds() -> Iterator[bytes]:
    """A corpus, an empty one, and indices that nobody wrote but whose digest is right."""
    entry = token_cache.Entry("d" * 64, 3, "file.txt")
    full = {split: [(entry, TokenDocument(np.array([1, 2, 3], np.uint16)))] for split in SPLITS}
    with scratch() as folder:
        for name, placed in (("full", full), ("empty", {split: [] for split in SPLITS})):
            token_cache.write(folder / name, placed, "uint16", "e" * 64)
            index, tokens = (folder / name / "index.json").read_bytes(), (folder / name / "tokens.bin").read_bytes()
            yield len(index).to_bytes(2, "big") + index + tokens
            if name == "full":
                body = json.loads(index)["index"]
                for changed in ({"type": "uint9"}, {"type": []}, {"tokenizer": 3}, {"splits": []}, {"splits": {}}, {"format": 99},
                                {"splits": {split: [["d", 4, "f"]] for split in SPLITS}},
                                {"splits": {split: [["d", -1, "f"]] for split in SPLITS}},
                                {"splits": {split: [["d"]] for split in SPLITS}}):  # fmt: skip
                    text = _sealed_index({**body, **changed})
                    yield len(text).to_bytes(2, "big") + text + tokens
    yield (3000).to_bytes(2, "big") + b"[" * 3000


def _sealed_index(body: Any) -> bytes:
    return json.dumps({"sha256": token_cache._digest(body), "index": body}).encode()


def mutate_tokens(data: bytes, dice: Random) -> bytes:
    """The index, with its digest made right again more often than not."""
    data = _INDEX(data, dice)
    length = int.from_bytes(data[:2], "big")
    try:
        body = json.loads(data[2 : 2 + length])["index"]
        text = _sealed_index(body) if dice.random() < 0.7 else data[2 : 2 + length]
    except (ValueError, KeyError, TypeError, RecursionError):
        return data
    return len(text).to_bytes(2, "big") + text + data[2 + length :] if len(text) < 1 << 16 else data


_INDEX = mutate.framed(mutate.json_trees(["format", "type", "tokens_sha256", "splits", *SPLITS]), width=2)


# --- small files


def run_small_files(data: bytes) -> None:
    """What cannot be read is as good as not there."""
    with scratch() as folder:
        path = folder / "file"
        path.write_bytes(data[1:])
        match data[0] % 3 if data else 0:
            case 0:
                with path.open("rb") as file:
                    assert isinstance(lock._text(file), lock.Holder | None)
            case 1:
                assert isinstance(fingerprints._remembered(path), tuple | None)
            case _:
                assert all(split in SPLITS for split in dealer._moved(path).values())


def small_seeds() -> Iterator[bytes]:
    """One of each, and bytes that are no JSON in each of its ways."""
    holder = lock.Holder(pid=1, started_unix=2.0, version="0.1.0", socket="/s")
    stored = (fingerprints.StoredTensor("a", (1, 2), "F32", "d" * 64),)
    yield b"\0" + msgspec.json.encode(holder)
    yield b"\1" + msgspec.json.encode(stored)
    yield b"\2" + json.dumps({"d" * 64: "trust", "e" * 64: "nowhere", "f" * 64: ["train"]}).encode()
    for head in (b"\0", b"\1", b"\2"):
        yield head
        yield head + b"[" * 3000
        yield head + b'{"version":"\xff"}'
        yield head + b'[["\xff"]]'
        yield head + b"9" * 5000


def mutate_small(data: bytes, dice: Random) -> bytes:
    """Behind the first byte."""
    return data[:1] + _SMALL(data[1:], dice)


_SMALL = mutate.json_trees([*lock.Holder.__struct_fields__, *SPLITS])


def _target(name: str, run: Callable[[bytes], None], seeds: Any, change: Mutator, *, words: Any = ()) -> Target:
    return Target(name=name, run=run, seeds=seeds, max_bytes=6000, mutate=change, words=words, peak_bytes=8 << 20)


TARGETS = (
    _target("checkpoint", run_checkpoint, checkpoint_seeds, mutate_checkpoint),
    _target("settings", run_settings, setting_seeds, mutate.plain(SETTINGS_WORDS), words=SETTINGS_WORDS[:-1]),
    _target("documents", run_documents, document_seeds, mutate.plain([b'{"text": "', b'"}\n', b"\xef\xbb\xbf", b"\r"])),
    _target("peft-folder", run_peft, peft_seeds, mutate_peft),
    _target("small-files", run_small_files, small_seeds, mutate_small),
    _target("token-files", run_tokens, token_seeds, mutate_tokens),
)
