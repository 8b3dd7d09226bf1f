"""One export in one call: what is asked for, into a folder, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from p2pfinetune.errors import ExportError
from p2pfinetune.export.experts import must_be_sayable, one_expert, plain, write_mixture
from p2pfinetune.export.gguf_lora import write_lora
from p2pfinetune.export.gguf_model import write_model
from p2pfinetune.export.merged import Progress as Progress  # noqa: PLC0414  # part of what `write_export` takes
from p2pfinetune.export.merged import size_bytes, write_merged
from p2pfinetune.export.modelfile import write_modelfile
from p2pfinetune.export.place import whole
from p2pfinetune.export.stored import Exportable
from p2pfinetune.model.base import public_name
from p2pfinetune.model.peft_folder import export_folder, tokenizer_files
from p2pfinetune.names import ExportFormat


def untold(_done: int, _total: int) -> None:
    """Nobody wants to know."""


def write_export(
    trained: Exportable,
    folder: Path,
    form: ExportFormat = "peft",
    *,
    modelfile: bool = False,
    expert: int | None = None,
    progress: Progress = untold,
) -> list[Path]:
    """Write the folder and return its files. ExportError or ModelError says what cannot be; OSError is the disk's.

    `modelfile` adds one for Ollama. Of several adapters in a layer all are written (`experts`), or that `expert` alone.
    """
    trained = trained if expert is None else one_expert(trained, expert)
    if form == "peft":
        if modelfile:
            raise ExportError(
                "Ollama reads no PEFT folder of every family",
                "a Modelfile goes with --format gguf, gguf-lora or merged",
            )
        single = plain(trained)
        return _peft(single, folder) if single is not None else _mixture(trained, folder)
    trained = must_be_sayable(plain(trained), form)
    adapter_bytes = 4 * sum(tensor.numel() for tensor in trained.adapter.tensors.values())
    with whole(folder, adapter_bytes if form == "gguf-lora" else size_bytes(trained)) as fresh:
        _write(trained, fresh, form, progress)
        if modelfile:
            write_modelfile(trained, fresh, form)
        written = sorted(file.name for file in fresh.iterdir())
    return [folder / name for name in written]


def _write(trained: Exportable, fresh: Path, form: ExportFormat, progress: Progress) -> None:
    if form == "merged":
        write_merged(trained, fresh, progress)
    elif form == "gguf":
        write_model(trained, fresh, progress)
    else:
        write_lora(trained, fresh)


def _mixture(trained: Exportable, folder: Path) -> list[Path]:
    size = 4 * sum(tensor.numel() for tensor in trained.adapter.tensors.values())
    with whole(folder, size) as fresh:
        write_mixture(trained, fresh, tokenizer_files(trained.base.tokenizer))
        written = sorted(file.relative_to(fresh) for file in fresh.rglob("*") if file.is_file())
    return [folder / name for name in written]


def _peft(trained: Exportable, folder: Path) -> list[Path]:
    return export_folder(
        folder,
        trained.adapter,
        trained.spec,
        public_name(trained.base),
        [path for path, _, _ in trained.adapter.pairs()],
        is_transposed=trained.is_transposed,
        beside=tokenizer_files(trained.base.tokenizer),
    )
