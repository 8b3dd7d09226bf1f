"""Every kept input again, and mutations of them by dice that are always the same: no fuzzer is needed."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@every_target
def test_every_kept_input_is_refused_or_taken_as_the_contract_says(target: Target) -> None:
    kept = corpus.kept(target)

    assert kept, f"no input is kept: python -m tests.fuzz seeds ({target.name})"
    for path in kept:
        target.run(path.read_bytes())


@every_target
def test_no_kept_input_buys_memory_by_a_number_that_stands_in_it(target: Target) -> None:
    kept = corpus.kept(target)
    target.run(kept[0].read_bytes())  # what is imported late and kept for ever is not counted
    tracemalloc.start()
    try:
        for path in kept:
            data = path.read_bytes()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            target.run(data)
            assert tracemalloc.get_traced_memory()[1] - before < target.peak_bytes, path.name
    finally:
        tracemalloc.stop()


@every_target
@given(draws=st.data())
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_inputs_that_are_nearly_right_are_refused_or_taken_as_the_contract_says(target: Target, draws) -> None:
    data = draws.draw(st.sampled_from(corpus.kept(target))).read_bytes()
    for seed in draws.draw(st.lists(st.integers(0, 2**32), max_size=4)):
        data = target.mutate(data, Random(seed))[: target.max_bytes]

    target.run(data)


@every_target
@given(data=st.binary(max_size=200))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_refused_or_taken_as_the_contract_says(target: Target, data: bytes) -> None:
    target.run(data)


def test_the_corpus_is_small_and_every_input_belongs_to_a_target() -> None:
    assert {folder.name for folder in corpus.FOLDER.iterdir()} == set(TARGETS)
    for target in TARGETS.values():
        sizes = [path.stat().st_size for path in corpus.kept(target)]
        assert len(sizes) <= 64
        assert max(sizes) <= 6000
        assert sum(sizes) <= 100_000


def test_an_input_is_shown_byte_by_byte() -> None:
    assert list(corpus.hex_dump(b"\0peerd\xff")) == ["000000  00 70 65 65 72 64 ff                             .peerd."]
    assert list(corpus.hex_dump(bytes(600)))[-1] == "... 600 bytes in all"
