"""Models of the Hugging Face hub: found in the hub's own cache, or fetched into it.

Only what a model needs is fetched, and of that nothing that could run: configuration, safetensors, tokenizer, template
and model card (HUB_FILES). What lies in folders of a repository holds other formats. Before a download its size is held
against the room on disk. It is the hub's own code that downloads, and lays out a snapshot: a folder of links to files
by content. But of a large file it forgets the beginning with the process that was broken off; that is kept here, and
what was fetched takes its place when it is whole and has the digest that the hub told before.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from p2pfinetune.data.telling import Tell, silent
from p2pfinetune.errors import ModelError, in_a_line
from p2pfinetune.model.fingerprints import weight_files
from p2pfinetune.model.gguf_header import SUFFIX
from p2pfinetune.options import NANO

WEIGHTS: Final = ("*.safetensors",)
CARD: Final = "README.md"
HUB_FILES: Final = ("*.json", *WEIGHTS, "*.model", "*.txt", "*.jinja", CARD)
LEFT_OUT: Final = ("*/*", "consolidated*")
SPARE_BYTES: Final = 200_000_000  # no disk is filled to the last
LARGE_BYTES: Final = 8_000_000  # below, to begin anew costs less than to go on
PART: Final = ".part"
ETAG: Final = re.compile(r"[0-9a-f]{8,64}")
SHA256_DIGITS: Final = 64
LOOK_SECONDS: Final = 0.2
DOWNLOADING: Final = "downloading, megabytes"
SPELLING: Final = (
    "check the spelling and the connection, or give --model the path of a folder or a .gguf file; "
    "`nano` needs no download"
)


class HubOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub has of a model, as far as it is wanted."""

    repository: str
    files: dict[str, int]
    """Bytes by name."""
    licence: str
    others: tuple[str, ...] = ()
    """Names of files that are not wanted."""

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def fetched(name: str, files: Sequence[str] = HUB_FILES, signs: Sequence[str] = WEIGHTS) -> Path:
    """The local snapshot of a model, downloaded if no file of it that the signs match is there yet."""
    if name == NANO:
        raise ModelError("the embedded model is not installed", "reinstall peerd, or give a model folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted: dict[str, Any] = {"allow_patterns": list(files), "ignore_patterns": list(LEFT_OUT)}
    try:
        local = Path(snapshot_download(name, local_files_only=True, **wanted))
        if any(any(local.glob(sign)) for sign in signs):
            return local
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(name, **wanted))
    except _troubles() as error:
        raise ModelError(
            f"{name!r} is no folder here and could not be fetched from the Hugging Face hub: {in_a_line(error)}",
            SPELLING,
        ) from error


def download(name: str, tell: Tell = silent) -> Path:
    """The newest of a model with all that it needs, or one GGUF file: its folder, or the file.

    `name` is `owner/model`, or `owner/model/file.gguf`. ModelError says what is wrong and what to do.
    """
    offer = offered(name)
    _require_room(offer)
    from huggingface_hub import hf_hub_download, snapshot_download

    with _followed(offer, tell):
        try:
            for file, size in offer.files.items():
                if size >= LARGE_BYTES:
                    _go_on_with(offer, file)
            if name.endswith(SUFFIX):
                return Path(hf_hub_download(offer.repository, next(iter(offer.files))))
            return Path(snapshot_download(offer.repository, allow_patterns=list(offer.files)))
        except _troubles() as error:
            raise ModelError(
                f"{name} could not be fetched whole: {in_a_line(error)}", f"go on with it: peerd models get {name}"
            ) from error


def _go_on_with(offer: HubOffer, file: str) -> None:
    """Fetch a file from where an earlier try ended, unless another process is at it: then the hub's code waits."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # it is documented

    url = hf_hub_url(offer.repository, file)
    about = get_hf_file_metadata(url)
    if (
        not about.etag
        or not about.size
        or not ETAG.fullmatch(about.etag)
        or (place := _blobs(offer) / about.etag).exists()
    ):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(about.etag + PART)
    is_hub = urlsplit(about.location).netloc == urlsplit(url).netloc  # nobody else gets the token
    with part.open("ab") as opened, _own(opened) as is_ours:
        if not is_ours:
            return
        http_get(
            about.location,
            opened,
            resume_size=opened.tell(),
            headers=build_hf_headers() if is_hub else {},
            expected_size=about.size,
        )
        opened.flush()
        _require_content(part, about.etag, about.size)
        part.replace(place)


def _require_content(part: Path, etag: str, size: int) -> None:
    """OSError, and it is gone, if it is not what the hub told: a large file goes by its SHA-256."""
    with part.open("rb") as opened:
        is_right = part.stat().st_size == size
        if is_right and len(etag) == SHA256_DIGITS:
            is_right = hashlib.file_digest(opened, "sha256").hexdigest() == etag
    if not is_right:
        part.unlink()
        raise OSError("what came is not what the hub announced")


@contextmanager
def _own(opened: Any) -> Iterator[bool]:
    """Whether no other process is at this file."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True


def offered(name: str) -> HubOffer:
    """What there is of it. ModelError if the hub cannot be asked, has none, or none that can be used."""
    from huggingface_hub import HfApi

    repository, file = _parts(name)
    try:
        found = HfApi().model_info(repository, files_metadata=True)
    except _troubles() as error:
        raise _no_answer(name, error) from error
    sizes = {str(one.rfilename): int(one.size or 0) for one in found.siblings or ()}
    wanted = {each: size for each, size in sizes.items() if (each == file if file else _is_wanted(each))}
    offer = HubOffer(
        repository=repository,
        files=wanted,
        licence=licence_of(getattr(found, "tags", None) or ()),
        others=tuple(sorted(sizes.keys() - wanted.keys())),
    )
    _require_weights(name, offer)
    return offer


def hub_cache() -> Path:
    """Where the hub keeps what was fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def snapshot_here(name: str) -> Path | None:
    """The snapshot that a name without a revision means, if it is on this machine and whole."""
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text("ascii").strip()
        return snapshot if (snapshot / "config.json").is_file() and weight_files(snapshot) else None
    except (OSError, UnicodeDecodeError, ModelError):
        return None


def licence_of(tags: Sequence[str]) -> str:
    """As the tags of a model state it; empty if they do not."""
    return next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")[:80]


def _parts(name: str) -> tuple[str, str]:
    """Repository, and the one file that is wanted of it, if one is named."""
    *owner, last = name.split("/")
    return ("/".join(owner), last) if last.lower().endswith(SUFFIX) else (name, "")


def _is_wanted(file: str) -> bool:
    return any(fnmatch(file, one) for one in HUB_FILES) and not any(fnmatch(file, one) for one in LEFT_OUT)


def _require_weights(name: str, offer: HubOffer) -> None:
    if any(fnmatch(file, one) for file in offer.files for one in (*WEIGHTS, f"*{SUFFIX}")):
        return
    if ggufs := [file for file in offer.others if file.endswith(SUFFIX) and "/" not in file]:
        raise ModelError(
            f"{name} holds GGUF files: {', '.join(ggufs[:4])}",
            f"take one: peerd models get {offer.repository}/{ggufs[0]}",
        )
    held = ", ".join(file for file in offer.others if file.endswith((".bin", ".pt", ".pth", ".h5", ".msgpack")))
    raise ModelError(
        f"{name} has no weights as safetensors{f'; it has {held[:200]}, which can run code when read' * bool(held)}",
        "choose another copy of the model",
    )


def _require_room(offer: HubOffer) -> None:
    cache = hub_cache()
    there = next(above for above in (cache, *cache.parents) if above.exists())
    wanted = offer.bytes - _here(offer)
    if wanted + SPARE_BYTES > (free := shutil.disk_usage(there).free):
        raise ModelError(
            f"{offer.repository} is {wanted / 1e9:.1f} GB, and {there} has room for {free / 1e9:.1f} GB",
            "make room, or have the hub's cache elsewhere: HF_HOME=DIR",
        )


def _here(offer: HubOffer) -> int:
    """Bytes of it that were fetched already."""
    from huggingface_hub import try_to_load_from_cache

    return sum(
        size for file, size in offer.files.items() if isinstance(try_to_load_from_cache(offer.repository, file), str)
    )


@contextmanager
def _followed(offer: HubOffer, tell: Tell) -> Iterator[None]:
    """Tell how far it is, by what lies on disk: so it holds for whatever way the hub's code downloads."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    folder = _blobs(offer)
    before, done, ended = _size(folder, but=PART), _here(offer), threading.Event()

    def follow() -> None:
        while not ended.wait(LOOK_SECONDS):
            tell(DOWNLOADING, min(offer.bytes, done + _size(folder) - before) // 10**6, offer.bytes // 10**6)

    thread = threading.Thread(target=follow, name="download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _blobs(offer: HubOffer) -> Path:
    return hub_cache() / f"models--{offer.repository.replace('/', '--')}" / "blobs"


def _size(folder: Path, but: str | None = None) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir() if file.suffix != but)
    except OSError:
        return 0


def _no_answer(name: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{name} is only for those who agreed to its terms", f"agree at huggingface.co/{name}, then: hf auth login"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {name}, or not for everybody", "look at how it is spelled: owner/model"
        )
    return ModelError(f"the Hugging Face hub cannot be asked for {name}: {in_a_line(error)}", SPELLING)


def _troubles() -> tuple[type[Exception], ...]:
    """What the hub's code raises for a network, a hub or a disk: of the library that it asks by, too."""
    from huggingface_hub.errors import HfHubHTTPError

    by_library = next(base for base in HfHubHTTPError.__mro__[1:] if issubclass(base, Exception))
    return (OSError, ValueError, by_library)
