"""Windows of any length one behind the other in one row: no padding, so no work that nobody needs.

All layers but attention look at positions one by one; attention is run window by window, through the interface that
transformers has for attention of one's own. Whether a model can be run so is found out by trying, since a layer that
looks across positions without being attention (a convolution, a state space) would see the window before. On a
processor this saves what padding costs; an accelerator would rather run equal windows at once.

Positions begin at zero in each window, so that a window is what it is by itself. The lengths of the windows reach the
attention through a context variable: a model's forward passes nothing on that it does not know.

Shapes: n positions of a pack, w windows of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from p2pfinetune.scoring.evaluate import Measure

ATTENTION = "p2pfinetune_packed"  # its name in the registry of transformers
NOT_OURS = ("softcap", "s_aux", "position_bias")  # what some models do to scores, and we do not
PROBE = (5, 3, 1)  # lengths of windows
CLOSE = 1e-4  # of returned numbers of the size of one

_lengths: ContextVar[tuple[int, ...]] = ContextVar("lengths")


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Windows that run in one row; n positions, w windows."""

    inputs_n: Tensor
    targets_n: Tensor
    """PADDING where nothing counts."""
    places_n: Tensor
    """Of each token in its window."""
    lengths: tuple[int, ...]
    windows_w: NDArray[np.int64]
    """Which window of the measure each is."""


def packs_of(measure: Measure, most: int) -> list[Pack]:
    """The windows of a measure in packs of up to `most` positions, or of one window that is longer."""
    windows = [
        (inputs[:length], targets[:length], number)
        for batch in measure.batches
        for inputs, targets, length, number in zip(
            batch.inputs_bt, batch.targets_bt, batch.lengths_b.tolist(), batch.windows_b, strict=True
        )
    ]
    groups: list[list[tuple[Tensor, Tensor, int]]] = []
    room = 0
    for window in windows:
        if len(window[0]) > room:
            groups.append([])
            room = most
        groups[-1].append(window)
        room -= len(window[0])
    return [_pack(group) for group in groups]


def _pack(windows: Sequence[tuple[Tensor, Tensor, int]]) -> Pack:
    lengths = tuple(len(inputs) for inputs, _, _ in windows)
    return Pack(
        inputs_n=torch.cat([inputs for inputs, _, _ in windows]),
        targets_n=torch.cat([targets for _, targets, _ in windows]),
        places_n=torch.cat([torch.arange(length) for length in lengths]),
        lengths=lengths,
        windows_w=np.array([number for _, _, number in windows], np.int64),
    )


def returned(model: Any, pack: Pack, rows: int) -> Tensor:
    """What the model returns as logits for `rows` times the pack; call it inside `packed`."""
    token = _lengths.set(pack.lengths)
    try:
        found: Tensor = model(
            input_ids=pack.inputs_n.expand(rows, -1), position_ids=pack.places_n.expand(rows, -1), use_cache=False
        ).logits
    finally:
        _lengths.reset(token)
    return found


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """The model's attention is ours inside, and what it was afterwards, whatever happens."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
    before = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name for reading it
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def can_pack(model: Any) -> bool:
    """Whether windows in one row are what they are by themselves: three short ones, run both ways and compared."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    vocabulary = int(model.config.get_text_config().vocab_size)
    windows = [(torch.arange(7 * i, 7 * i + size) % vocabulary, torch.zeros(size), 0) for i, size in enumerate(PROBE)]
    pack = _pack(windows)
    with torch.inference_mode():
        alone = torch.cat([model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0] for ids, _, _ in windows])
        try:
            with packed(model):
                together = returned(model, pack, 1)[0]
        except (NotImplementedError, TypeError, ValueError):
            return False
    return bool(torch.allclose(together, alone, atol=CLOSE * float(alone.abs().max().clamp(min=1.0)), rtol=0.0))


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each window; (rows, heads, positions, width) in, (rows, positions, heads, width) out."""
    if any(others.get(name) is not None for name in NOT_OURS) or not getattr(module, "is_causal", True):
        raise NotImplementedError
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = []
    start = 0
    for length in _lengths.get():
        q, k, v = (tensor[:, :, start : start + length] for tensor in (query, key, value))
        start += length
        seen = None
        if sliding_window is not None and length > sliding_window:
            seen = torch.ones((length, length), dtype=torch.bool, device=q.device).tril().triu(1 - sliding_window)
        found = scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None, scale=scaling)
        parts.append(found.transpose(1, 2))
    return torch.cat(parts, dim=1), None
