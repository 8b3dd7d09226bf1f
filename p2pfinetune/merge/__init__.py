"""Merge rules: one file each."""

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._products import product_error
from p2pfinetune.merge._vectors import adapter_of
from p2pfinetune.registry import Registry

RULES: Registry[MergeRule] = Registry("p2pfinetune.merge", MergeRule, "merge rule")  # type: ignore[type-abstract]

__all__ = ["RULES", "MergeRule", "adapter_of", "product_error"]
