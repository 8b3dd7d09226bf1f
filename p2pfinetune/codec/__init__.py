"""Codecs: one file each."""

from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.registry import Registry

CODECS: Registry[Codec] = Registry("p2pfinetune.codec", Codec, "codec")  # type: ignore[type-abstract]

__all__ = ["CODECS", "Codec", "Schema"]
