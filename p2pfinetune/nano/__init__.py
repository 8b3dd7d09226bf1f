"""The embedded base model: where it lies. Its `model/README.md` says how it was trained, and how good it is."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The embedded model, an ordinary Hugging Face folder."""
    return Path(__file__).parent / "model"
