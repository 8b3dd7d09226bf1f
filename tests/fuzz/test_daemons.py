"""Whole daemons are fuzzed for some seconds, and what a run says of them is judged as it should be."""

from __future__ import annotations

import argparse
import json
import random
from types import SimpleNamespace

import pytest

from tests.fuzz.daemons import nonsense, run
from tests.fuzz.daemons.inject import Injector, exceptions
from tests.fuzz.daemons.world import Member, lost


def chosen(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.options(parser)
    return parser.parse_args(given)


@pytest.mark.slow  # in memory the same is said to the same daemons in every run, by test_in_memory; and to real transports in tests/contract
@pytest.mark.timeout(180)
def test_some_seconds_of_nonsense_end_no_daemon_and_no_connection_between_two_honest_ones(capsys):
    code = run.main(chosen("--minutes", "0.1", "--seed", "3", "--plain", "2", "--restarted", "0", "--injected", "1"))

    told = capsys.readouterr().out
    assert told.endswith("no faults\n"), told
    assert code == 0


def member(tmp_path, name, *events, injected=False, restarted=False):
    file = tmp_path / name
    file.write_text(
        "".join(json.dumps(dict(zip(("at", "what", "peer", "why"), e, strict=True))) + "\n" for e in events)
    )
    peer = SimpleNamespace(life=SimpleNamespace(name=name))
    return Member(peer, file, injected=injected, restarted=restarted, id=f"id of {name}")


def test_a_connection_is_lost_where_nothing_was_done_to_either_of_its_ends(tmp_path):
    gone = (1.0, "disconnected", "id of b", "")
    to_restarted, after_the_end = (1.0, "disconnected", "id of r", ""), (9.0, "disconnected", "id of b", "")
    b, r = member(tmp_path, "b"), member(tmp_path, "r", gone, restarted=True)

    assert lost([member(tmp_path, "a", gone, to_restarted, after_the_end), b, r], 5.0) == [
        "a: the connection to b was lost, 1.0"
    ]
    assert lost([member(tmp_path, "i", gone, (2.0, "down", "", "laid"), injected=True), b, r], 5.0) == []


def test_a_network_that_ended_is_a_fault_of_whoever_was_not_made_to_fail(tmp_path):
    assert lost([member(tmp_path, "a", (1.0, "down", "", "UnicodeDecodeError"))], 5.0) == [
        "a: the network ended: UnicodeDecodeError"
    ]


def test_the_same_seed_says_the_same_and_lays_the_same():
    said = [[nonsense.of_negotiation(dice) for _ in range(50)] for dice in (random.Random(7), random.Random(7))]
    laid = [[repr(exceptions(dice)) for _ in range(50)] for dice in (random.Random(7), random.Random(7))]

    assert said[0] == said[1]
    assert laid[0] == laid[1]
    assert len(set(laid[0])) >= 8


def test_what_is_laid_raises_once_and_the_function_is_whole_again(monkeypatch):
    told: list[dict[str, object]] = []
    injector = Injector(1, told.append)
    injector._next_at = 0.0
    injector._names = ["Somebody.does"]

    async def does() -> int:
        return 7

    laid = injector._laid("Somebody.does", does)
    outcomes = []
    for _ in range(3):
        try:
            laid().send(None)
        except StopIteration as done:
            outcomes.append(done.value)
        except Exception as error:  # of any kind
            outcomes.append(error)

    assert len(told) == 1
    assert outcomes.count(7) == 2
