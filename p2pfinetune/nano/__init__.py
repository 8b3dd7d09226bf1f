"""The embedded base model: where it lies. Its `model/README.md` says how it was trained, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

WHAT_IT_IS: Final = (
    "nano, the embedded model, is one to measure with, not to talk to: it has three million parameters; "
    "for one to talk to: peerd models get Qwen/Qwen2.5-0.5B-Instruct"
)
"""Said wherever somebody could take it for more."""


def about_model(name: str) -> str:
    """What a person should know of the model of this name; empty unless it is the embedded one."""
    return WHAT_IT_IS if name == "nano" else ""


def folder() -> Path:
    """The embedded model, an ordinary Hugging Face folder."""
    return Path(__file__).parent / "model"
