"""The model card of an export: what it is, what it was made of, and what to know before giving it away."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfinetune.export.stored import Exportable
from p2pfinetune.model.base import public_name

HEAD = """---
library_name: transformers
pipeline_tag: text-generation
{base}tags:
- lora
- peerd
---

"""
BODY = """# {name}, personalised

The model `{name}` ({kind}) with a LoRA adapter folded into its weights: W + ({alpha} / {rank}) B A in {layers} layers
({targets}), computed in fp32 and rounded to the numbers that the base is stored in. The adapter was trained by
[peerd](https://pypi.org/project/peerd/) on its owner's text, and merged with the adapters of other peers.

* Tensors of the base: SHA-256 `{digest}`.
* The licence of the base holds for this model, too.
* A model betrays something of the text it was trained on. Whoever has this folder can ask it.
"""


def card(trained: Exportable, paths: Sequence[str]) -> str:
    """Markdown with the head that hubs read. `paths` are the adapted layers."""
    base = trained.base
    name = public_name(base)
    endings = sorted({path.rpartition(".")[2] for path in paths})
    head = HEAD.format(base=f"base_model: {name}\n" if " " not in name else "")
    return head + BODY.format(
        name=name, kind=trained.kind, alpha=trained.spec.alpha, rank=trained.spec.rank, layers=len(paths),
        targets=", ".join(endings), digest=base.tensors_digest,
    )  # fmt: skip
