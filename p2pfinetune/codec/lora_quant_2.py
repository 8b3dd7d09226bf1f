"""lora-quant-2: half of the components in 3 bits, the other half as signs: 2 bits an entry and its scales.

See `_lora_quant`.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pfinetune.codec._lora_quant import LoraQuant


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraQuant2(LoraQuant):
    """Four of eight components in 3 bits, four in 1; bf16 scales for groups of 128, and a turn for each layer.

    Error: of an important component a seventh of the largest in its group, of another one how far its magnitude is from
    the mean of its group; then turned back.
    """

    important: int = 4
