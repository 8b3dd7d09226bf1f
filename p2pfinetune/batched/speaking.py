"""A model that speaks with one adapter at a time, whatever a layer of that adapter is made of.

A plain adapter is written into the live model, as peft runs it. Several adapters in a layer run on a stack, which knows
how to mix them; it is made when something is first said.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from p2pfinetune.batched.stack import AdapterStack, row_of
from p2pfinetune.model.adapter import AdaptedModel, Adapter, write


class Voice:
    """Of one base and spec."""

    def __init__(self, adapted: AdaptedModel) -> None:
        self._adapted = adapted

    @cached_property
    def _stack(self) -> AdapterStack:
        return AdapterStack(self._adapted, speaks=True)

    def holding(self, adapter: Adapter) -> Any:
        """The model with this adapter, until another one is held: the same object each time."""
        if self._adapted.spec.experts == 1:
            write(self._adapted, adapter)
            return self._adapted.model
        row_p = row_of(self._adapted.schema, adapter.tensors)
        self._stack.use(row_p.unsqueeze(0).to(self._stack.device))
        return self._stack.model
