"""A Modelfile, so that `ollama create NAME -f Modelfile` makes a model of what was exported.

Ollama's templates are Go's. One is written if the base's chat template only puts something around each turn (`turns`);
otherwise none is, and the file says why: Ollama then takes what it recognises of the template inside the GGUF.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_lora import ADAPTER_FILE
from p2pfinetune.export.gguf_model import MODEL_FILE
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.turns import ROLES, Surroundings, turns_of
from p2pfinetune.model.base import public_name
from p2pfinetune.names import ExportFormat

NAME = "Modelfile"
BASE_FILE = "base.gguf"
QUOTES = '"""'


def write_modelfile(trained: Exportable, folder: Path, form: ExportFormat) -> None:
    """Beside what was written in that form."""
    lines = [*_from(trained, form), *_template(trained.base.tokenizer)]
    (folder / NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def go_template(turns: Surroundings) -> str:
    """In Go's template language. ExportError if a part of it would read as something else there."""
    parts = [part for role in ROLES for part in turns.around[role]] + [turns.answer, turns.system]
    if any("{{" in part or "}}" in part or QUOTES in part for part in parts):
        raise ExportError("it holds braces or quotes that Ollama would read as its own")
    system, user, assistant = ("{}{{{{ .Content }}}}{}".format(*turns.around[role]) for role in ROLES)
    by_role = f'{{{{ if eq .Role "system" }}}}{system}{{{{ else if eq .Role "assistant" }}}}{assistant}'
    return f"{{{{ range .Messages }}}}{by_role}{{{{ else }}}}{user}{{{{ end }}}}{{{{ end }}}}{turns.answer}"


def _from(trained: Exportable, form: ExportFormat) -> list[str]:
    if form == "merged":
        return ["FROM ."]
    if form == "gguf":
        return [f"FROM ./{MODEL_FILE}"]
    return [
        f"# Put the base model, {public_name(trained.base)}, here as {BASE_FILE}.",
        "# It can be written with: peerd export DIR --which base --format gguf",
        f"FROM ./{BASE_FILE}",
        f"ADAPTER ./{ADAPTER_FILE}",
    ]


def _template(tokenizer: Any) -> list[str]:
    try:
        turns = turns_of(tokenizer)
        template = go_template(turns)
    except ExportError as error:
        return [f"# No TEMPLATE: {error}. What Ollama recognises of the file's own it takes."]
    system = [f"SYSTEM {QUOTES}{turns.system}{QUOTES}"] if turns.system else []
    says_next = turns.around["user"][0].strip() if not tokenizer.chat_template else ""  # a base that learnt no chats
    ends = (turns.around["assistant"][1].strip(), tokenizer.eos_token or "", says_next)
    stops = sorted({stop for stop in ends if stop})
    quoted = [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop and "\n" not in stop]
    return [f"TEMPLATE {QUOTES}{template}{QUOTES}", *system, *quoted]
