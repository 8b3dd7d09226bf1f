"""A GGUF file as a base model: made into a folder of safetensors once, by transformers' reader, and kept in the cache.

The numbers. Training needs matrices that it can multiply by, so blocks are unpacked, always in 32 bits, and then
stored in the numbers that most of the file is in: F32 as fp32, BF16 as bf16, both exactly, and all else as fp16. F16
is fp16 already. What is quantised is a step of fp16 times an integer (plus an offset of fp16, in Q4_1), and the
product need not have room in 16 bits: fp16 rounds it by at most 2^-11 of itself, bf16 by 2^-9. Half a step of Q8_0 is
2^-8 of the largest weight of its block, of Q4_1 about 2^-5: fp16 is finer than what the file knows, bf16 hardly. If a
weight is beyond the range of fp16 (65,504), the whole is stored in bf16. Every step is rounded as IEEE 754 has it,
one at a time, so two machines get the same bits; and the identity of the model is taken from these (`fingerprints`),
as from any other folder. That of the file is only the key here: the same file under another name is found again, and
a changed one is another model.

The file is a stranger's. `gguf_header` has looked through its head before anything is allocated; room on disk and in
memory is looked at; and the conversion is a process of its own (`gguf_conversion`), so that neither what a library
trips over nor what the system ends for lack of memory takes a daemon along. It writes into a folder beside the place,
which is synced and then renamed: there is a whole model or none. Of several that want the same, one converts and the
others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

from p2pfinetune.errors import UNREADABLE, ModelError
from p2pfinetune.model.gguf_header import MAX_LAYERS, GgufHeader, read_header
from p2pfinetune.model.models_cache import made, models_cache
from p2pfinetune.system import interpreter
from p2pfinetune.system.durable import sync_file, sync_folder, write_whole

FORMAT: Final = 1  # counts up when the same file would become another model
RECORD: Final = "converted.json"
CHUNK_BYTES: Final = 1 << 20
SPARE_BYTES: Final = 100_000_000  # tokenizer, and what a file system wants
LIBRARIES_BYTES: Final = 600_000_000  # torch and transformers, before a model is loaded
SHARDS: Final = "split.count"
PROGRAM: Final = "p2pfinetune.model.gguf_conversion"

Say = Callable[[str], None]


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a converted file, kept beside it."""

    gguf: str
    """Where the file was when it was converted; of this machine, and for nobody else."""
    sha256: str
    title: str
    architecture: str
    licence: str
    numbers: str
    """In which it was, such as Q4_1."""
    parameters: int
    sizes: dict[str, int]
    """Bytes of each file that was written: what has others was damaged since."""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the converting process: how far it is, or why it cannot go on and what to do."""

    step: str = ""
    error: str = ""
    hint: str = ""


def quiet(_line: str) -> None:
    pass


def converted(file: Path, say: Say = quiet) -> Path:
    """The folder that the file was made into, now or before. ModelError says why it cannot be, and what to do."""
    header = must_hold_a_model(file)
    cache = made(gguf_cache())
    digest = content_digest(file, cache, say)
    folder = place_of(cache, digest)
    if not is_whole(folder):
        with _alone(folder, say):
            if not is_whole(folder):
                _convert(file, digest, header, folder, say)
    return folder


def gguf_cache() -> Path:
    """Where converted files lie, each in a folder of its own."""
    return models_cache() / "gguf"


def place_of(cache: Path, digest: str) -> Path:
    """The folder of what a file with this content is made into."""
    return cache / f"{digest[:40]}-{FORMAT}"


def must_hold_a_model(file: Path) -> GgufHeader:
    """The head of a file that can be converted, as far as it says itself. ModelError if not."""
    header = read_header(file)
    if int(header.facts.get(SHARDS, 1) or 1) > 1:
        raise ModelError(f"{file} is one part of several", "put them together first: llama-gguf-split --merge")
    if not header.architecture or not header.tensors:
        raise ModelError(f"{file} holds no model: it names no architecture, or has no tensors", "give another file")
    if "tokenizer.ggml.tokens" not in header.facts:
        raise ModelError(f"{file} has no tokenizer, so it is no language model", "give another file")
    layers = header.facts.get(f"{header.architecture}.block_count", 0)
    if isinstance(layers, int) and layers > (most := min(MAX_LAYERS, len(header.tensors))):
        raise ModelError(  # libraries make a list as long as is claimed, before they look at a tensor
            f"{file} claims {layers:,} layers, and has room for {most}", "fetch the file again"
        )
    return header


def content_digest(file: Path, cache: Path, say: Say = quiet) -> str:
    """SHA-256 of its bytes, in hex; remembered by path, size and time, since gigabytes take a while."""
    found = file.resolve().stat()
    key = hashlib.sha256(repr((str(file.resolve()), found.st_size, found.st_mtime_ns)).encode("utf-8", "replace"))
    kept = cache / f"digest-{key.hexdigest()[:32]}"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(known := kept.read_text("ascii")) == 64:
            return known
    if found.st_size > 1 << 30:
        say(f"reading {file.name}, {found.st_size / 1e9:.1f} GB")
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", "fetch the file again") from error
    with contextlib.suppress(OSError):
        write_whole(kept, digest.hexdigest().encode(), mode=None)
    return digest.hexdigest()


def record(folder: Path) -> Converted | None:
    """What is known of a converted file; None if nothing that can be read is."""
    with contextlib.suppress(OSError, *UNREADABLE):
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Converted)
    return None


def is_whole(folder: Path) -> bool:
    """Whether a folder of the cache still holds what was written."""
    if (found := record(folder)) is None:
        return False
    with contextlib.suppress(OSError):
        return all((folder / name).stat().st_size == size for name, size in found.sizes.items())
    return False


def stored_as(header: GgufHeader) -> str:
    """In which numbers it is stored, as torch calls them: those that most of its matrices are in, else fp16."""
    counts = {"float32": 0, "bfloat16": 0, "float16": 0}
    for tensor in header.tensors:
        counts[{"F32": "float32", "F64": "float32", "BF16": "bfloat16"}.get(tensor.kind, "float16")] += tensor.count
    return max(counts, key=lambda name: counts[name])


def bytes_needed(header: GgufHeader) -> tuple[int, int]:
    """On disk and in memory. In memory one tensor is held in 32 bits, three times at most, and the others as stored."""
    width = 4 if stored_as(header) == "float32" else 2
    stored = header.parameters * width
    return stored + SPARE_BYTES, stored + 12 * max(t.count for t in header.tensors) + LIBRARIES_BYTES


def _convert(file: Path, digest: str, header: GgufHeader, folder: Path, say: Say) -> None:
    _clear(folder)
    _require_room(file, header, folder.parent)
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    fresh.mkdir()
    try:
        say(f"converting {file.name}, {header.parameters / 1e6:,.0f} million parameters; once, and kept in {folder}")
        _run(file, header, fresh, say)
        _seal(fresh, file, digest, header)
        fresh.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error.strerror}", "look at the disk, or set PEERD_MODELS"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _clear(folder: Path) -> None:
    """What a process that was killed left, and what was damaged since; nobody else is at it, see `_alone`."""
    for left in (folder, *folder.parent.glob(f".{folder.name}.*.part")):
        shutil.rmtree(left, ignore_errors=True)


def _require_room(file: Path, header: GgufHeader, cache: Path) -> None:
    on_disk, in_memory = bytes_needed(header)
    if on_disk > (free := shutil.disk_usage(cache).free):
        raise ModelError(
            f"{file} needs {on_disk / 1e9:.1f} GB when it is converted, and {cache} has room for {free / 1e9:.1f} GB",
            "make room, or name a folder on another disk: PEERD_MODELS=DIR",
        )
    if in_memory > (free := psutil.virtual_memory().available + psutil.swap_memory().free):
        raise ModelError(
            f"to convert {file} takes {in_memory / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            "close other programs, or choose a smaller model",
        )


def _run(file: Path, header: GgufHeader, folder: Path, say: Say) -> None:
    """Let a process of its own write the model into `folder`."""
    command = interpreter.command("-m", PROGRAM, str(file.absolute()), str(folder), stored_as(header))
    environment = {**interpreter.environment(os.environ), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603  # our own program, and paths
        command, env=environment, cwd=interpreter.FOLDER, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
    ) as process:  # it ends when its standard input does, so it never outlives this one
        last = b""
        for line in process.stdout or ():
            if (progress := _progress(line)) is None:
                last = line.strip() or last
            elif progress.error:
                raise ModelError(f"{file} cannot be used: {progress.error}", progress.hint)
            else:
                say(progress.step)
    if process.returncode:
        raise _failed(file, header, process.returncode, last.decode("utf-8", "replace")[-300:])


def _progress(line: bytes) -> Progress | None:
    with contextlib.suppress(*UNREADABLE):
        return msgspec.json.decode(line, type=Progress)
    return None


def _failed(file: Path, header: GgufHeader, code: int, last: str) -> ModelError:
    if code == -9:
        return ModelError(
            f"{file} could not be converted: the system ended the conversion, as it does if memory runs out; "
            f"it takes about {bytes_needed(header)[1] / 1e9:.1f} GB",
            "close other programs, or choose a smaller model",
        )
    return ModelError(
        f"{file} could not be converted: {last or f'the conversion ended with {code}'}",
        "take the model from where it was made: its Hugging Face name, or a folder with safetensors",
    )


def _seal(folder: Path, file: Path, digest: str, header: GgufHeader) -> None:
    """Write down what it is, and make all of it durable."""
    written = sorted(path for path in folder.iterdir() if path.is_file())
    for path in written:
        sync_file(path)
    about = Converted(
        gguf=str(file.absolute()),
        sha256=digest,
        title=title_of(header),
        architecture=header.architecture[:80],
        licence=header.said("general.license"),
        numbers=", ".join(sorted(header.kinds - {"F32"})) or "F32",
        parameters=header.parameters,
        sizes={path.name: path.stat().st_size for path in written},
    )
    write_whole(folder / RECORD, msgspec.json.encode(about), mode=None)


def title_of(header: GgufHeader) -> str:
    """What the file calls itself: the same for peers that named theirs otherwise, and nothing of a path."""
    return header.said("general.name") or header.said("general.basename") or "gguf"


@contextlib.contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """While nobody else, of this machine, is at that folder; whoever dies lets go."""
    handle = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting: another process is converting this file")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
