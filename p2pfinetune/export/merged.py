"""A folder of a whole model: the base's own files with the adapter folded into the weights that it changes.

W + (alpha / R) B A (Hu et al. 2021, arXiv 2106.09685, section 4.1) is computed in fp32 and rounded once to the numbers
that the base stores. In 16 bits that loses of an adapter what is smaller than half a step of the weight; the adapter by
itself loses nothing.

A merged file is its base's file with some bytes replaced: the same shards, headers, names and order, one tensor in
memory at a time. So whatever loads the base loads this.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from p2pfinetune.data.chats.template import SIMPLE
from p2pfinetune.export.card import card
from p2pfinetune.export.stored import Exportable, Product, StoredFile, products, stored_files
from p2pfinetune.model.peft_folder import tokenizer_files

TAKEN_OVER = ("config.json", "generation_config.json", "model.safetensors.index.json", "LICENSE*", "NOTICE*")
CARD = "README.md"
TEMPLATE = "chat_template.jinja"

Progress = Callable[[int, int], None]
"""Called with how much is done, of how much, in bytes."""


def size_bytes(trained: Exportable) -> int:
    """Of the weights, on disk."""
    return sum(file.size_bytes for file in stored_files(trained.base.folder))


def write_merged(trained: Exportable, folder: Path, progress: Progress) -> None:
    """Into an empty folder. ExportError if the base stores what cannot be added to, OSError for what a disk refuses."""
    files = stored_files(trained.base.folder)
    added = products(trained, files)
    total, done = sum(file.size_bytes for file in files), 0
    for file in files:
        for size in _write_file(file, folder / file.path.name, added):
            progress(done + size, total)
        done += file.size_bytes
    for name, content in tokenizer_files(trained.base.tokenizer).items():
        (folder / name).write_bytes(content)
    if not trained.base.tokenizer.chat_template:
        (folder / TEMPLATE).write_text(SIMPLE, encoding="utf-8")
    for source in _beside(trained.base.folder):
        shutil.copyfile(source, folder / source.name)
    (folder / CARD).write_text(card(trained, sorted(product.path for product in added.values())), encoding="utf-8")


def _write_file(file: StoredFile, target: Path, added: Mapping[str, Product]) -> Iterator[int]:
    """Says after each tensor how many bytes there are."""
    with file.path.open("rb") as source, target.open("wb") as out:
        out.write(file.head)
        for entry in file.entries:
            content = file.content(source, entry)
            if (product := added.get(entry.name)) is not None:
                content = product.added_to(entry.tensor(content)).contiguous().view(torch.uint8).numpy().tobytes()
            out.write(content)
            yield len(file.head) + entry.end


def _beside(folder: Path) -> Sequence[Path]:
    return [path for pattern in TAKEN_OVER for path in sorted(folder.glob(pattern)) if path.is_file()]
