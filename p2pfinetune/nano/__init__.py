"""The embedded base model: where it lies, how it was trained (`pretrain`) and how good it is (`report`)."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The embedded model, an ordinary Hugging Face folder."""
    return Path(__file__).parent / "model"
