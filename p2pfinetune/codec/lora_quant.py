"""lora-quant: three eighths of the components in 3 bits, the rest as signs: about 1.75 bits an entry and its scales.

The paper's form of 1.65 bits, for updates that are merged; see `_lora_quant`.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfinetune.codec._lora_quant import LoraQuant


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraQuant165(LoraQuant):
    """Three of eight components in 3 bits, five in 1; bf16 scales for groups of 128, and a turn for each layer.

    Error: of an important component a seventh of the largest in its group, of another one how far its magnitude is from
    the mean of its group; then turned back.
    """

    important: int = 3
