"""`peerd export`: one of the models as a folder that other programs load.

The daemon's worker writes it, in a folder beside its place that it renames at the end. How large that has become is
what is shown meanwhile: whoever is at this machine's socket sees its disk as well.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Annotated

import typer

from p2pfinetune.model.base import model_file
from p2pfinetune.options.sections import typed
from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import complain, finish, say, say_bold
from peerd.cli.waiting import shown_progress
from peerd.control import answers, words
from peerd.control.client import Client
from peerd.control.questions import ExportQuestion, checked, target
from peerd.control.render import written
from peerd.errors import UsageError

MODELS = {
    "personal": "the personal adapter",
    "best": "the personal adapter as it was at its best, since it ended behind the twin that trains alone",
    "local": "the twin that trains alone, as it was at its best, since it is ahead of all that merging gave",
}
"""What was served, in words."""
LOOK_SECONDS = 0.2
LOAD = {
    "peft": "Load it with: PeftModel.from_pretrained(base_model, {folder!r})",
    "merged": "Load it with: AutoModelForCausalLM.from_pretrained({folder!r})",
    "gguf-lora": "Run it with: llama-cli -m BASE.gguf --lora {file}",
    "gguf": "Run it with: llama-cli -m {file}",
}
MIXED = "Load it with: load(base_model, {folder!r}), which is in load_mixture.py beside it"
OLLAMA = "or: ollama create mine -f {file}"


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write; new or empty.", show_default=False)],
    form: Annotated[
        str, typer.Option("--format", metavar="peft|merged|gguf-lora|gguf", **typed(ExportQuestion, "format"))
    ] = "peft",
    which: Annotated[
        str, typer.Option("--which", metavar="served|personal|own|base|...", **typed(ExportQuestion, "which"))
    ] = "served",
    modelfile: Annotated[bool, typer.Option("--modelfile", **typed(ExportQuestion, "modelfile"))] = False,
    expert: Annotated[int | None, typer.Option("--expert", metavar="NUMBER", **typed(ExportQuestion, "expert"))] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write what is served, the personal adapter unless a twin is ahead, as a folder that other programs load."""
    where = target(folder)
    fields = {"folder": str(where), "which": which, "format": form, "modelfile": modelfile, "expert": expert}
    asked = checked(ExportQuestion, fields)
    with Client(home) as client:
        status = client.status()  # where no daemon runs, that is the thing to say first
        _check_target(where, force)
        if asked.which == "served" and status.served == "mixture":
            complain(words.served(status))
        if not as_json:
            complain("exporting; the worker finishes what it is doing first")
        with contextlib.nullcontext() if as_json else _growing(where):
            data = client.export(where, asked.which, asked.format, modelfile=asked.modelfile, expert=asked.expert)
    finish("export", data, as_json, lambda: _exported(data))


def _check_target(where: Path, force: bool) -> None:
    """Before the worker is asked, which may be busy for a while."""
    try:
        if found := model_file(where):
            raise UsageError(f"{where} holds a model ({found})", "files of two models would mix: name a new folder")
        if not force and where.is_dir() and any(where.iterdir()):
            again = f"peerd export {shlex.quote(str(where))} --force"
            raise UsageError(f"{where} is not empty", f"name a new folder, or: {again}")
        above = next(folder for folder in (where, *where.parents) if folder.exists())
    except OSError as error:
        raise UsageError(f"{where} cannot be used: {error.strerror}", "choose another folder") from error
    if not above.is_dir():
        raise UsageError(f"{above} is a file", "name a folder elsewhere")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write in the folder {above}", "look at its rights, or choose another")


@contextlib.contextmanager
def _growing(where: Path) -> Iterator[None]:
    """Says now and then how much is written."""
    ended = threading.Event()

    def look() -> None:
        with shown_progress() as tell:
            while not ended.wait(LOOK_SECONDS):
                if size := _size_so_far(where):
                    tell("written, in MB", size // 1_000_000, 0)

    watcher = threading.Thread(target=look, name="export progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _size_so_far(where: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(file.stat().st_size for file in where.parent.glob(f".{escape(where.name)}.*.part/*"))
    return 0


def _exported(data: answers.ExportedFolder) -> None:
    kind = "" if data.format in {"peft", "gguf-lora"} or data.which == "base" else ", folded into its base,"
    say_bold(f"{MODELS.get(data.which, f'the {data.which} model').capitalize()}{kind} is in {data.folder}")
    for file in data.files:
        say(f"  {file}")
    if data.bytes:
        say(f"{written(data.bytes, 'bytes')} in all")
    single = next((shlex.quote(file) for file in data.files if file.endswith(".gguf")), "")
    is_mixed = any(file.endswith("/mixture.json") for file in data.files)
    say((MIXED if is_mixed else LOAD[data.format]).format(folder=data.folder, file=single))
    if recipe := next((file for file in data.files if file.endswith("/Modelfile")), ""):
        say(OLLAMA.format(file=shlex.quote(recipe)))
