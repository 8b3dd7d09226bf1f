"""A whole model as one GGUF file: the base with the adapter folded in, as llama.cpp lays it out.

Matrices are written in the numbers that the base stores (fp32, fp16, bf16), vectors in fp32, since llama.cpp adds them
in it; it quantises such a file further by itself (`llama-quantize`, `ollama create --quantize`). The adapter is added
before the rows are permuted, in fp32, and rounded once. One tensor is in memory at a time.

A configuration says more than llama.cpp has keys for. What changes the function and cannot be said is refused by name,
never left out: see `gguf_keys`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_families import Family, Names, family_of
from p2pfinetune.export.gguf_keys import frequencies, write_keys
from p2pfinetune.export.gguf_lora import library
from p2pfinetune.export.gguf_source import source_keys, write_source
from p2pfinetune.export.gguf_tokenizer import write_tokenizer
from p2pfinetune.export.merged import Progress
from p2pfinetune.export.stored import Exportable, Product, StoredEntry, StoredFile, products, stored_files
from p2pfinetune.model.base import public_name

MODEL_FILE = "model.gguf"
IN_FP32 = ("position_embd.weight",)  # a row of it is added to a vector
RENAMED = {"lm_head.weight": "embed_out.weight"}
"""Parameters that transformers loads from another name, GPT-NeoX's head."""
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
FILE_TYPES = {torch.float32: "ALL_F32", torch.float16: "MOSTLY_F16", torch.bfloat16: "MOSTLY_BF16"}


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """One tensor of the base, and how it stands in the GGUF."""

    file: StoredFile
    entry: StoredEntry
    product: Product | None
    path: str
    """Of its module in the model."""
    name: str
    dtype: torch.dtype
    is_turned: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape[::-1] if self.is_turned else self.entry.shape

    def tensor(self, family: Family, config: Any) -> Tensor:
        """As it is written."""
        with self.file.path.open("rb") as opened:
            found = self.entry.tensor(self.file.content(opened, self.entry)).float()
        if self.product is not None:
            found = self.product.added_to(found)
        found = found.T if self.is_turned else found
        if (rows := family.rows_of(self.path, config, found.shape[0])) is not None:
            found = found[rows]
        if family.shifted_norms and self.path.endswith("norm"):
            found = found + 1.0
        return found.to(self.dtype).contiguous()


def write_model(trained: Exportable, folder: Path, progress: Progress, *, matrices: torch.dtype | None = None) -> None:
    """`model.gguf` into an empty folder. `matrices`: the numbers of these, instead of what is stored."""
    gguf = library()
    config = trained.base.model.config.get_text_config()
    family = family_of(trained.kind)
    laid, extra = list(_laid(trained, family, matrices)), frequencies(trained.base.model, trained.kind)
    writer = gguf.GGUFWriter(folder / MODEL_FILE, family.architecture)
    try:
        _write_head(writer, trained, laid)
        for name, shape, dtype in [*((n, t.shape, t.dtype) for n, t in extra.items()), *_announced(laid)]:
            size = shape.numel() * dtype.itemsize
            writer.add_tensor_info(name, shape, None, size, raw_dtype=gguf.GGMLQuantizationType[TYPES[dtype]])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in extra.values():
            writer.write_tensor_data(_array(tensor))
        for done, one in enumerate(laid):
            writer.write_tensor_data(_array(one.tensor(family, config)))
            progress(done + 1, len(laid))
    finally:
        writer.close()


def _write_head(writer: Any, trained: Exportable, laid: list[Laid]) -> None:
    import gguf

    most = max(laid, key=lambda one: one.entry.end - one.entry.begin).dtype
    config = trained.base.model.config.get_text_config()
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"{public_name(trained.base)}, personalised")
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[most]])
    if keys := source_keys(trained.base, family_of(trained.kind).architecture):
        write_source(writer, keys)
        return
    write_keys(writer, trained.kind, config)
    write_tokenizer(writer, trained.base.tokenizer, int(config.vocab_size))


def _announced(laid: list[Laid]) -> Iterator[tuple[str, torch.Size, torch.dtype]]:
    return ((one.name, torch.Size(one.shape), one.dtype) for one in laid)


def _array(tensor: Tensor) -> Any:
    """Of bf16 the bytes, since numpy has no such numbers."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _laid(trained: Exportable, family: Family, matrices: torch.dtype | None) -> Iterator[Laid]:
    """Every parameter of the model, once. What is stored beside, such as masks and tied heads, is left out."""
    config, files = trained.base.model.config.get_text_config(), stored_files(trained.base.folder)
    names, added, is_tied = Names(family, config), products(trained, files), bool(config.tie_word_embeddings)
    for (file, entry), parameter in _stored_parameters(trained.skeleton, files):
        path, _, ending = parameter.rpartition(".")
        name = f"{names.of(path)}.{ending}"
        in_fp32 = len(entry.shape) == 1 or name in IN_FP32
        dtype = torch.float32 if in_fp32 or entry.dtype == "F64" else matrices or entry.float_type
        turned = len(entry.shape) > 1 and path.rpartition(".")[2] in family.turned
        found = Laid(file, entry, added.get(entry.name), path, name, dtype, turned)
        yield found
        if name == EMBEDDING and is_tied and family.own_head:
            yield replace(found, name=HEAD)


def _stored_parameters(model: Any, files: Sequence[StoredFile]) -> Iterator[tuple[tuple[StoredFile, StoredEntry], str]]:
    """Each parameter's entry, with the prefix of a model with a head or without. ExportError if one is lacking."""
    stored = {entry.name: (file, entry) for file in files for entry in file.entries}
    prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        asked = (name, name.removeprefix(prefix), RENAMED.get(name, name))
        found = next((stored[one] for one in asked if one in stored), None)
        if found is None or found[1].shape != tuple(parameter.shape):
            raise ExportError(
                f"the base does not store {name} under that name and in that shape",
                "export with --format peft or merged instead",
            )
        yield found, name
