"""Activation checkpointing: what a layer computed is dropped after the forward pass and computed again in the backward.

Between layers only the hidden states of a pass are kept, a tenth of what all layers keep inside; it costs a second
forward pass, about a third of a step (Chen et al. 2016, arXiv 1604.06174). Gradients are those without it, since a
layer's backward pass runs once however often its forward pass does; noise is drawn from where it was drawn first.

A layer is what transformers itself would recompute; of a family that says nothing of that, the entries of its longest
list of modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(model: nn.Module, *, is_noisy: bool) -> None:
    """From now on, each layer of this model does so while gradients are recorded."""
    for layer in layers_of(model):
        layer.forward = partial(_twice, layer.forward, is_noisy)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of the model, none of them inside another; none if it has no list of modules."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    marked = {path: module for path, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}
    if outermost := [m for path, m in marked.items() if not any(path.startswith(f"{other}.") for other in marked)]:
        return outermost
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [*max(lists, key=len, default=nn.ModuleList())]


def _twice(forward: Callable[..., Any], is_noisy: bool, *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=is_noisy, **named)
