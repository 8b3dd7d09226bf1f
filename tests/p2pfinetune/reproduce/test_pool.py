"""Quotas met to the token, and no document given twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.paper.pool import cut_to, fill

LENGTHS = st.lists(st.integers(1, 20), max_size=40)
QUOTAS = st.lists(st.integers(0, 60), max_size=6)


@given(lengths=LENGTHS, quotas=QUOTAS)
def test_every_quota_is_met_to_the_token_and_no_document_is_given_twice(lengths: list[int], quotas: list[int]) -> None:
    documents = [np.full(length, i, np.uint16) for i, length in enumerate(lengths)]

    ranges = fill(np.array(lengths, np.int64), quotas)

    if ranges is None:  # then a greedy deal runs out too
        left = iter(lengths)
        assert any(not _take(left, quota) for quota in quotas)
        return
    given_out = [cut_to([documents[i] for i in chosen], quota) for chosen, quota in zip(ranges, quotas, strict=True)]
    assert [sum(map(len, parts)) for parts in given_out] == quotas
    indices = [i for chosen in ranges for i in chosen]
    assert len(indices) == len(set(indices))
    assert all(len(part) for parts in given_out for part in parts)


def _take(left: object, quota: int) -> bool:
    while quota > 0:
        length = next(left, None)  # type: ignore[call-overload]
        if length is None:
            return False
        quota -= length
    return True
