"""One suite for what does a worker's jobs: the real library, and the learning by one number that whole daemons are tested with.

Every job is sent through MessagePack and back, as between two processes, so that no answer lacks a field or has one of another type.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.errors import OptionError, TextError, TooLittleText
from p2pfinetune.speech import Begun, ChatLine, Sampling
from peerd.worker import messages
from peerd.worker.child import MakeJobs
from peerd.worker.hidden import Private
from peerd.worker.jobs import BETWEEN_STEPS, Jobs
from tests.support.bench import BOB, ME, Bench
from tests.support.learning import FakeLearning
from tests.support.models import make_tiniest_model

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiniest_model(tmp_path_factory.mktemp("model"))


class OverAPipe:
    """Jobs whose answers are what the daemon would read."""

    def __init__(self, jobs: Any) -> None:
        self.jobs = jobs

    def perform(self, job: messages.AnyJob) -> messages.AnyAnswer:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=messages.AnyJob)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self.jobs.perform(sent)), type=messages.AnyAnswer)


@pytest.fixture(params=[Jobs, FakeLearning], ids=["real", "fake"])
def make(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path) -> MakeBench:
    jobs: MakeJobs = request.param
    model = str(tiny_model) if jobs is Jobs else "nano"

    def bench(name: str = "a", **options: Any) -> Bench:
        return Bench(tmp_path / name, model, make=lambda *ports: OverAPipe(jobs(*ports)), **options)

    return bench


@pytest.fixture
def bench(make: MakeBench) -> Bench:
    return make()


def in_scratch(bench: Bench, path: str) -> bool:
    return Path(path).is_file() and Path(path).parent == bench.folder / "scratch"


def test_opening_says_what_there_is(bench: Bench) -> None:
    opened = bench.open()

    assert isinstance(opened, messages.Opened)
    assert len(opened.network) == 64
    assert opened.traits.keys() == {"model", "adapter"}
    assert opened.max_blob_bytes["bf16"] > 0
    assert opened.base_guard > 0
    assert 0 < opened.adapter_parameters <= opened.parameters
    assert (opened.restored, opened.best_guard, opened.steps) == (False, None, 0)
    assert opened.report
    assert opened.fingerprint


def test_networks_are_one_where_group_and_adapter_are_and_else_two(make: MakeBench) -> None:
    first, same, group, rank = make("a"), make("b", seed=5), make("c", group="elsewhere"), make("d", rank=2)

    assert first.open().network == same.open().network
    assert len({bench.open().network for bench in (first, group, rank)}) == 3


def test_training_tells_how_far_it_is_and_leaves_a_checkpoint(bench: Bench) -> None:
    bench.open()
    bench.notes.clear()
    trained = bench.train(steps=3)

    assert isinstance(trained, messages.Stepped)
    assert (trained.steps, in_scratch(bench, trained.checkpoint)) == (3, True)
    assert trained.tokens > 0
    assert [(note.activity, note.done, note.total) for note in bench.notes][-1] == ("training", 3, 3)


def test_quick_jobs_may_come_between_two_steps(make: MakeBench) -> None:
    asked: list[set[type]] = []
    bench = make(interrupt=lambda bench, kinds: asked.append(set(kinds)))
    bench.open()
    asked.clear()
    bench.train(steps=3)

    assert asked.count(set(BETWEEN_STEPS)) >= 2


def test_every_file_has_a_name_of_its_own(bench: Bench) -> None:
    bench.open()
    paths = [bench.train().checkpoint, bench.train().checkpoint, bench.do(messages.Encode, codec="bf16").path]

    assert len(set(paths)) == 3


def test_an_own_update_is_admitted_by_another_of_the_network_and_nonsense_is_not(make: MakeBench) -> None:
    one, other = make("a"), make("b", seed=5)
    for bench in (one, other):
        bench.open()
    other.train()
    update = other.do(messages.Encode, codec="bf16")
    (nonsense := one.folder / "nonsense").write_bytes(b"no update")

    assert (Path(update.path).stat().st_size, update.epsilon) == (update.size, None)
    assert isinstance(one.do(messages.AdmitUpdate, path=update.path, codec="bf16"), messages.Admitted)
    refused = one.do(messages.AdmitUpdate, path=str(nonsense), codec="bf16")
    assert isinstance(refused, messages.NotAdmitted)
    assert refused.reason


def test_a_merge_has_a_row_over_all_that_took_part(make: MakeBench) -> None:
    one, other = make("a"), make("b", seed=5)
    for bench in (one, other):
        bench.open()
        bench.train()
    merged = one.merge(other.do(messages.Encode, codec="bf16").path)

    assert isinstance(merged, messages.Merged)
    assert merged.row.keys() <= {ME, BOB}
    assert sum(merged.row.values()) == pytest.approx(1.0)
    assert in_scratch(one, merged.checkpoint)
    assert merged.best is None or in_scratch(one, merged.best)
    assert merged.best_guard > 0


def test_a_newcomer_is_given_gates_beside_an_update_and_assembles_of_both(make: MakeBench) -> None:
    sharer, newcomer, other = make("a", gate_steps=1), make("b", seed=5), make("c", seed=6)
    said = [bench.open() for bench in (sharer, newcomer, other)]
    sharer.train()
    other.train()
    given, without = sharer.do(messages.Encode, codec="bf16"), other.do(messages.Encode, codec="bf16")
    updates = [messages.UpdateFile(peer=BOB, path=given.path, codec="bf16")]

    with pytest.raises(OptionError, match="no neighbour gave"):
        newcomer.do(messages.AssembleFrom, updates=updates, gates={BOB: str(sharer.text / "0.txt")})
    merged = newcomer.do(messages.AssembleFrom, updates=updates, gates={BOB: given.gates})

    assert in_scratch(sharer, given.gates)
    assert 0 < Path(given.gates).stat().st_size <= said[0].gate_bytes
    assert [one.gates for one in said] == [""] * 3
    assert without.gates == ""
    assert isinstance(merged, messages.Merged)
    assert merged.row[BOB] == pytest.approx(1.0)
    assert merged.figures.assembly is not None
    assert merged.figures.assembly.peers == 1
    assert in_scratch(newcomer, merged.checkpoint)
    assert newcomer.open(merged.checkpoint).restored


def test_a_round_alone_is_a_merge_with_oneself(bench: Bench) -> None:
    bench.open()
    bench.train()

    assert bench.merge().row == pytest.approx({ME: 1.0})


def test_who_goes_on_from_a_checkpoint_says_so_and_counts_on(make: MakeBench) -> None:
    bench = make()
    bench.open()
    bench.train(steps=3)
    merged = bench.merge()
    again = make()
    opened = again.open(merged.checkpoint, merged.best, merged.best_guard)

    assert (opened.restored, opened.steps) == (True, 3)
    assert opened.best_guard == pytest.approx(merged.best_guard)


def test_a_prompt_is_continued_and_what_is_served_named(bench: Bench) -> None:
    bench.open()
    found = bench.generate()

    assert isinstance(found, messages.Generated)
    assert found.served_by in {"personal", "best", "local"}
    assert found.served_by != "personal" or found.served == found.personal != ""


def say(bench: Bench, **asked: Any) -> list[Any]:
    """Each pass of an answer, over the pipe; what is left out is usual."""
    usual = {"which": "own", "prompt": "river bank and sea", "chat": (), "cuts": True}
    sampling = Sampling(max_tokens=asked.pop("max_tokens", 3), choices=asked.pop("choices", None))
    job = messages.Respond(id=1, sampling=sampling, **{**usual, **asked})
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=messages.Sent)
    told = [passed for passed in bench.jobs.jobs.respond(sent) if passed is not None]
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=messages.AnyAnswer) for one in told]


@pytest.mark.parametrize("asked", [{}, {"prompt": None, "chat": (ChatLine("user", "river bank and sea"),)}])
def test_an_answer_begins_comes_in_pieces_and_ends(bench: Bench, asked: dict[str, Any]) -> None:
    bench.open()
    begun, *pieces, ended = say(bench, choices=2, **asked)

    assert isinstance(begun.said, Begun)
    assert begun.said.prompt_tokens == ended.ended.prompt_tokens > 0
    assert "".join(piece.said.text for piece in pieces)
    assert all(len(chance.top) == 2 for piece in pieces for chance in piece.said.chances)
    assert (ended.ended.reason, ended.ended.completion_tokens) == ("length", 3)


def test_answers_of_two_may_be_under_way_at_once(bench: Bench) -> None:
    bench.open()
    both = zip(say(bench), say(bench), strict=True)

    assert all(one == other for one, other in both)


def test_the_test_split_is_measured(bench: Bench) -> None:
    bench.open()
    found = bench.do(messages.EvaluateTest)

    assert isinstance(found, messages.TestEvaluated)
    assert min(found.base, found.own, found.personal, found.served) > 0
    assert min(found.documents, found.tokens) > 0


def test_every_model_is_measured_on_a_text_that_is_named_and_on_the_held_out_one(bench: Bench, tmp_path: Path) -> None:
    bench.open()
    text = tmp_path / "letter.txt"
    text.write_text("The captain waits at the harbour. " * 60, encoding="utf-8")

    named = bench.do(messages.EvaluateText, files=[str(text)], max_tokens=0)
    held_out = bench.do(messages.EvaluateText, files=[], max_tokens=64)

    for found in (named, held_out):
        assert isinstance(found, messages.TextEvaluated)
        assert {"base", "own", "personal", "served"} <= found.models.keys()
        assert 0 < found.tokens < found.of_tokens
    assert named.text.files == 1
    assert held_out.text is None
    with pytest.raises(TextError):
        bench.do(messages.EvaluateText, files=[str(tmp_path / "missing")], max_tokens=0)


def test_updates_with_noise_are_counted_and_withheld_beyond_the_budget(make: MakeBench) -> None:
    bench = make()
    bench.open()
    bench.train()
    private = Private(clip=0.05, noise=4.0, delta=1e-5, budget=0.0, spent=())
    first = bench.do(messages.Encode, codec="bf16", private=private)
    tight = Private(clip=0.05, noise=4.0, delta=1e-5, budget=first.epsilon / 2, spent=())

    assert first.epsilon > 0
    assert isinstance(bench.do(messages.Encode, codec="bf16", private=tight), messages.Withheld)


def test_text_that_has_changed_is_read_again(bench: Bench) -> None:
    fingerprint = bench.open().fingerprint
    bench.write(seed=9, files=30)
    found = bench.do(messages.Reread)

    assert isinstance(found, messages.ReadAgain)
    assert found.changed
    assert found.fingerprint != fingerprint
    assert found.report


def test_too_little_text_is_an_error_of_the_user(make: MakeBench) -> None:
    bench = make()
    short = bench.folder / "short"
    short.mkdir()
    (short / "a.txt").write_text("too short")
    bench.config = msgspec.structs.replace(bench.config, data=(str(short),))

    with pytest.raises(TooLittleText):
        bench.open()
