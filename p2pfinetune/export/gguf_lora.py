"""An adapter alone as llama.cpp loads it beside its base: `llama-cli -m base.gguf --lora adapter.gguf`.

As llama.cpp's own `convert_lora_to_gguf` writes one: `adapter.type` is `lora`, `adapter.lora.alpha` is alpha (llama.cpp
divides by the rank that the factors have), and for each layer `NAME.weight.lora_a` of (rank, in) and `.lora_b` of
(out, rank), in fp32 as they were trained. It fits any GGUF of the base, however that is quantised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_families import Family, Names, family_of
from p2pfinetune.export.stored import Exportable
from p2pfinetune.model.base import public_name

ADAPTER_FILE = "adapter.gguf"


def lora_tensors(trained: Exportable) -> dict[str, Tensor]:
    """By llama.cpp's names. ExportError if it does not know the family or one of its layers."""
    config = trained.base.model.config.get_text_config()
    family = family_of(trained.kind)
    names = Names(family, config)
    found = {}
    for path, a, b in trained.adapter.pairs():
        name = f"{names.of(path)}.weight"
        found[f"{name}.lora_a"], found[f"{name}.lora_b"] = a, _placed(b, family, path, config)
    return found


def write_lora(trained: Exportable, folder: Path) -> None:
    """`adapter.gguf` into an empty folder."""
    gguf = library()
    family = family_of(trained.kind)
    writer = gguf.GGUFWriter(folder / ADAPTER_FILE, family.architecture)
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(trained.spec.alpha))
        writer.add_name(f"{public_name(trained.base)}, personalised")
        for name, tensor in lora_tensors(trained).items():
            writer.add_tensor(name, tensor.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def library() -> Any:
    """The package that writes GGUF. ExportError says how to install it."""
    try:
        import gguf
    except ImportError as error:
        raise ExportError("the package gguf is not installed", "install it beside peerd: pip install gguf") from error
    return gguf


def _placed(b: Tensor, family: Family, path: str, config: Any) -> Tensor:
    rows = family.rows_of(path, config, b.shape[0])
    return b if rows is None else b[rows]
