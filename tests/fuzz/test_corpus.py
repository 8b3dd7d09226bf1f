"""Every kept input again, and mutations of them by dice that are always the same: no fuzzer is needed."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target


@cache
def kept_of(name: str) -> list[corpus.Input]:
    return corpus.kept(TARGETS[name])


every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_every_kept_input_is_refused_or_taken_as_the_contract_says(target: Target) -> None:
    kept = kept_of(target.name)

    assert kept
    for one in kept:
        target.run(one.data)


@every_target
def test_no_kept_input_buys_memory_by_a_number_that_stands_in_it(target: Target) -> None:
    kept = kept_of(target.name)
    target.run(kept[0].data)  # what is imported late and kept for ever is not counted
    tracemalloc.start()
    try:
        for one in kept:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            target.run(one.data)
            assert tracemalloc.get_traced_memory()[1] - before < target.peak_bytes, one.name
    finally:
        tracemalloc.stop()


@every_target
@given(draws=st.data())
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_inputs_that_are_nearly_right_are_refused_or_taken_as_the_contract_says(target: Target, draws) -> None:
    data = draws.draw(st.sampled_from(kept_of(target.name))).data
    for seed in draws.draw(st.lists(st.integers(0, 2**32), max_size=4)):
        data = target.mutate(data, Random(seed))[: target.max_bytes]

    target.run(data)


@every_target
@given(data=st.binary(max_size=200))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_refused_or_taken_as_the_contract_says(target: Target, data: bytes) -> None:
    target.run(data)


def test_what_was_found_is_small_and_belongs_to_a_target() -> None:
    found = corpus.found_by_fuzzing()

    assert {one.target for one in found} <= set(TARGETS)
    assert all(one.where and len(one.data) <= corpus.MAX_FOUND_BYTES for one in found)
    assert len({(one.target, one.data) for one in found}) == len(found)
    assert max(Counter(one.target for one in found).values()) <= corpus.MAX_FOUND


@every_target
def test_seeds_are_few_small_and_the_same_whenever_they_are_made(target: Target) -> None:
    seeds = list(target.seeds())

    assert seeds == list(target.seeds())
    assert 0 < len(seeds) <= 64
    assert max(map(len, seeds)) <= 6000
    assert sum(map(len, seeds)) <= 100_000


def test_an_input_found_is_kept_with_where_it_went_first_and_never_twice(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(corpus, "FOUND", tmp_path / "found.txt")
    corpus.FOUND.write_text("# what this is\n")
    (tmp_path / "new").mkdir()
    for name, data in (("a", b"/ip4/1.2.3.4/tcp/0"), ("b", b"/ip4/1.2.3.4/tcp/00"), ("c", b"x" * 3000)):
        (tmp_path / "new" / name).write_bytes(data)
    target = replace(TARGETS["addresses"], name="few-seeds", seeds=lambda: [b""])

    taken = corpus.keep_found(target, tmp_path / "new")

    assert [one.data for one in taken] == [b"/ip4/1.2.3.4/tcp/0"]
    assert 0 < len(taken[0].where) <= corpus.MAX_NAMED
    assert corpus.FOUND.read_text().startswith("# what this is\nfew-seeds")
    assert corpus.keep_found(target, tmp_path / "new") == []


def test_an_input_is_shown_byte_by_byte() -> None:
    assert list(corpus.hex_dump(b"\0peerd\xff")) == ["000000  00 70 65 65 72 64 ff                             .peerd."]
    assert list(corpus.hex_dump(bytes(600)))[-1] == "... 600 bytes in all"
