"""What the jobs do, with the real library and a tiny random model, in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from unittest.mock import patch

import pytest

from p2pfinetune.errors import CheckpointError, OptionError, TextError, TooLittleText
from p2pfinetune.speech import Sampling
from peerd.config import Config
from peerd.worker import evaluating, messages
from peerd.worker.hidden import Private
from peerd.worker.jobs import BETWEEN_STEPS, WHILE_EVALUATING, WHILE_MEASURING, Jobs, learner_options
from peerd.worker.restoring import restore
from peerd.worker.supervisor import how_far
from tests.families.tiny import write_model
from tests.support.bench import BOB, ME, Bench
from tests.support.models import make_tiniest_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_tiniest_model(tmp_path_factory.mktemp("model"))


def digest(path):
    with open(path, "rb") as file:  # noqa: PTH123  # a path as text
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def bench(tmp_path, tiny_model):
    return Bench(tmp_path / "a", tiny_model)


def test_what_a_user_chooses_of_learning_reaches_the_learner():
    chosen = {"tolerance": 0.1, "credit": 0.2, "max_share": 0.3, "trust_tokens": 5, "guard_tokens": 6}

    options = learner_options(Config(**chosen))

    assert {name: getattr(options, name) for name in chosen} == chosen


def test_opening_reports_the_network_the_text_and_the_base(bench):
    opened = bench.open()

    assert len(opened.network) == 64
    assert opened.max_blob_bytes["bf16"] > 0
    assert opened.base_guard > 0
    assert not opened.restored
    assert any("24 files" in sentence for sentence in opened.report)
    assert 0 < opened.adapter_parameters < opened.parameters
    assert opened.notices == []


def test_an_opening_says_how_far_it_is_with_the_text_and_can_be_ended_in_the_middle(tmp_path, tiny_model):
    def leave(bench, kinds):
        assert kinds == ()
        if bench.notes[-1].activity == "counting tokens":
            raise KeyboardInterrupt

    bench = Bench(tmp_path / "b", tiny_model, interrupt=leave)
    with pytest.raises(KeyboardInterrupt):
        bench.open()

    told = [how_far(note) for note in bench.notes if note.planned is None]
    assert told[:2] == ["finding files: 0", "finding files: 1"]
    assert "reading files: 12 of 24" in told
    assert told[-1] == "counting tokens: 0 of 24"


def test_layers_that_cannot_be_adapted_are_told_when_a_model_is_opened(tmp_path):
    bench = Bench(tmp_path / "a", write_model("mixtral", tmp_path / "model"))

    assert "mixtral model is adapted in its attention alone: its experts" in bench.open().notices[0]


def test_a_round_trains_shares_scores_and_merges(bench, tmp_path, tiny_model):
    other = Bench(tmp_path / "b", tiny_model, seed=5)
    assert bench.open().network == other.open().network
    other.train()
    shared = other.do(messages.Encode, codec="bf16")
    trained = bench.train()
    admitted = bench.do(messages.AdmitUpdate, path=shared.path, codec="bf16")
    merged = bench.merge(shared.path)

    assert trained.steps == 4
    assert isinstance(admitted, messages.Admitted)
    assert merged.row.keys() == {ME, BOB}
    assert sum(merged.row.values()) == pytest.approx(1.0)
    assert merged.figures.guard_personal <= merged.figures.guard_base
    assert [note.done for note in bench.notes if note.activity == "training"] == [0, 1, 2, 3, 4]
    assert bench.notes[-1].activity == "collaborating"


def test_a_blob_of_nonsense_is_refused_by_a_value(bench, tmp_path):
    bench.open()
    (tmp_path / "blob").write_bytes(b"nonsense")

    refused = bench.do(messages.AdmitUpdate, path=str(tmp_path / "blob"), codec="bf16")

    assert isinstance(refused, messages.NotAdmitted)
    assert refused.reason


def test_an_update_that_went_bad_on_disk_is_left_out_of_the_merge(bench, tmp_path, capsys):
    bench.open()
    bench.train()
    (tmp_path / "blob").write_bytes(b"nonsense")
    merged = bench.merge(str(tmp_path / "blob"))

    assert merged.row == {ME: 1.0}
    assert "left out" in capsys.readouterr().err


def test_jobs_between_two_steps_leave_the_training_the_same_to_the_bit(tmp_path, tiny_model):
    def meddle(bench, kinds):
        if messages.Generate in kinds:
            bench.generate()

    plain = Bench(tmp_path / "a", tiny_model, twin="on")
    disturbed = Bench(tmp_path / "b", tiny_model, interrupt=meddle, twin="on")
    for each in (plain, disturbed):
        each.open()

    assert digest(plain.train().checkpoint) == digest(disturbed.train().checkpoint)


def test_answers_between_two_passes_leave_training_and_merging_the_same_to_the_bit(tmp_path, tiny_model):
    said = []

    def speak(bench, kinds):
        if not kinds:  # it is not opened yet
            return
        if not said or said[-1] is None:
            sampling = Sampling(max_tokens=20, temperature=1.0, stop=("never",))
            job = messages.Respond(id=2, which="personal", prompt="river", chat=(), sampling=sampling, cuts=True)
            said.append(bench.jobs.respond(job))
        if next(said[-1], None) is None:
            said.append(None)

    plain = Bench(tmp_path / "a", tiny_model, twin="on")
    disturbed = Bench(tmp_path / "b", tiny_model, interrupt=speak, twin="on")
    for each in (plain, disturbed):
        each.open()
        each.train()
    update = plain.do(messages.Encode, codec="bf16").path

    assert digest(plain.merge(update).checkpoint) == digest(disturbed.merge(update).checkpoint)
    assert digest(plain.train().checkpoint) == digest(disturbed.train().checkpoint)
    assert said


def test_only_jobs_that_leave_the_model_alone_may_cut_into_a_measurement(tmp_path, tiny_model):
    seen = []
    bench = Bench(tmp_path / "a", tiny_model, interrupt=lambda _, kinds: seen.append(kinds))
    bench.open()
    bench.train(1)
    bench.merge()

    assert set(seen) == {(), BETWEEN_STEPS, WHILE_MEASURING}  # while it opens nothing may but the end
    assert messages.Generate not in WHILE_MEASURING


def test_a_restart_goes_on_to_the_bit(tmp_path, tiny_model):
    through, restarted = Bench(tmp_path / "a", tiny_model), Bench(tmp_path / "b", tiny_model)
    for each in (through, restarted):
        each.open()
        each.train()
    end = restarted.merge()
    again = Bench(tmp_path / "b", tiny_model)
    opened = again.open(end.checkpoint, end.best, end.best_guard)
    through.merge()

    assert opened.restored
    assert (opened.steps, opened.best_guard) == (4, end.best_guard)
    assert digest(again.train().checkpoint) == digest(through.train().checkpoint)


def test_a_checkpoint_of_another_rank_is_refused_with_the_way_out_and_stays(bench, tmp_path, tiny_model):
    bench.open()
    kept = bench.train().checkpoint
    before = digest(kept)

    with pytest.raises(CheckpointError, match="does not fit") as raised:
        Bench(tmp_path / "a", tiny_model, rank=4).open(kept)
    assert "--home" in raised.value.hint
    assert digest(kept) == before


def test_too_little_text_is_an_error_that_says_how_much_is_needed(tmp_path, tiny_model):
    bench = Bench(tmp_path / "a", tiny_model)
    for file in list(bench.text.iterdir())[1:]:
        file.unlink()

    with pytest.raises(TooLittleText, match="needed"):
        bench.open()


def test_text_is_read_again_only_where_it_has_changed(bench):
    bench.open()
    same = bench.do(messages.Reread)
    bench.write(seed=9, files=30)
    other = bench.do(messages.Reread)

    assert not same.changed
    assert other.changed
    assert any("30 files" in sentence for sentence in other.report)
    assert bench.train().steps == 4


def test_generating_evaluating_and_exporting(bench, tmp_path):
    bench.open()
    bench.train()
    texts, losses = bench.generate(), bench.do(messages.EvaluateTest)
    exported = bench.do(messages.Export, folder=str(tmp_path / "out"))

    assert {type(texts.base), type(texts.own), type(texts.personal)} == {str}
    assert losses.own < losses.base
    assert (losses.twin, losses.personal) == (None, losses.base)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 8
    assert all(str(tmp_path / "out") in file for file in exported.files)


def test_there_is_a_way_to_do_every_job_there_is():
    jobs = Jobs(lambda _: None, lambda _: None)

    assert jobs._by_kind.keys() == set(get_args(messages.AnyJob))


def test_text_is_measured_in_pieces_between_which_quick_jobs_are_done_and_nothing_changes(tmp_path, tiny_model):
    asked = []
    bench = Bench(tmp_path / "a", tiny_model, interrupt=lambda _, kinds: asked.append(kinds))
    bench.open()
    bench.train()
    whole = bench.do(messages.EvaluateTest)
    asked.clear()
    with patch.object(evaluating, "PIECE", 64):
        found = bench.do(messages.EvaluateText, files=[], max_tokens=0)

    assert asked.count(WHILE_EVALUATING) >= 2
    assert found.tokens == whole.tokens
    assert found.models["own"].loss == pytest.approx(whole.own)
    assert found.models["base"].loss == pytest.approx(whole.base)


def test_reading_a_text_that_is_to_be_measured_is_told_and_can_be_ended_in_the_middle(tmp_path, tiny_model):
    def leave(bench, kinds):
        assert kinds == WHILE_EVALUATING
        if bench.notes[-1].activity == "counting tokens":
            raise KeyboardInterrupt

    bench = Bench(tmp_path / "b", tiny_model)
    bench.open()
    bench.notes.clear()
    bench.interrupt = leave
    with pytest.raises(KeyboardInterrupt):
        bench.do(messages.EvaluateText, files=[str(bench.folder / "text")], max_tokens=0)

    assert "reading files: 12 of 24" in [how_far(note) for note in bench.notes]


def test_documents_of_my_own_text_are_known_by_their_split_when_they_are_measured(bench):
    bench.open()
    found = bench.do(messages.EvaluateText, files=[str(bench.folder / "text")], max_tokens=0)

    assert found.known.keys() == {"train", "trust", "guard", "test"}
    assert sum(found.known.values()) == found.of_documents


def test_each_model_is_exported_by_its_name_and_a_twins_only_where_one_trains(bench, tmp_path):
    bench.open()
    bench.train()
    for which in ("own", "personal"):
        bench.do(messages.Export, folder=str(tmp_path / which), which=which)
    own, personal = ((tmp_path / which / "adapter_model.safetensors").read_bytes() for which in ("own", "personal"))

    assert own != personal  # no round has ended: the personal model is still the seeded one
    with pytest.raises(OptionError, match="no local model"):
        bench.do(messages.Export, folder=str(tmp_path / "local"), which="local")


def test_the_twin_is_measured_where_there_is_one(tmp_path, tiny_model):
    bench = Bench(tmp_path / "a", tiny_model, twin="on")
    bench.open()
    bench.train()

    assert bench.do(messages.EvaluateTest).twin == pytest.approx(bench.do(messages.EvaluateTest).own)
    merged = bench.merge()
    assert merged.figures.guard_twin is not None
    assert merged.figures.on_guard.against_twin is not None
    assert merged.figures.on_guard.against_base.nats == pytest.approx(
        merged.figures.guard_personal - merged.figures.guard_base
    )
    assert min(merged.figures.on_trust.tokens, merged.figures.on_trust.documents, merged.figures.on_trust.windows) > 0


def private(**changes):
    fields = {"clip": 0.01, "noise": 2.0, "delta": 1e-5, "budget": 0.0, "spent": ()}
    return Private(**{**fields, **changes})


def test_a_private_update_is_hidden_by_fresh_noise_counted_and_as_long_as_any_other(bench):
    bench.open()
    bench.train(2)
    bare = [bench.do(messages.Encode, codec="bf16") for _ in range(2)]
    hidden = [bench.do(messages.Encode, codec="bf16", private=private()) for _ in range(2)]
    later = bench.do(messages.Encode, codec="bf16", private=private(spent=((2.0, 9),)))

    assert digest(bare[0].path) == digest(bare[1].path)
    assert len({digest(encoded.path) for encoded in [*bare, *hidden]}) == 3
    assert {encoded.size for encoded in [*bare, *hidden]} == {bare[0].size}
    assert bare[0].epsilon is None
    assert 0.0 < hidden[0].epsilon == hidden[1].epsilon < later.epsilon
    learner = bench.jobs._held().learner
    update = learner.admit(Path(hidden[0].path).read_bytes(), "bf16")
    rms = update.delta.norm() / learner.adapter_parameters**0.5
    assert rms == pytest.approx(2 * 0.01 * 2.0, rel=0.1)  # the learnt part is shortened to 0.01, and drowned


def test_an_update_that_would_exceed_the_budget_is_not_even_written(bench):
    bench.open()
    spend = bench.do(messages.Encode, codec="bf16", private=private()).epsilon
    before = sorted((bench.folder / "scratch").iterdir())

    answer = bench.do(messages.Encode, codec="bf16", private=private(budget=0.99 * spend))

    assert answer == messages.Withheld(id=1, epsilon=spend)
    assert sorted((bench.folder / "scratch").iterdir()) == before
    assert isinstance(bench.do(messages.Encode, codec="bf16", private=private(budget=spend)), messages.Encoded)


class Stubborn:
    """Refuses a file some times, as a full disk does."""

    def __init__(self, error, times):
        self.error, self.times, self.asked = error, times, 0

    def __call__(self, really):
        def write(path):
            self.asked += 1
            if self.asked <= self.times:
                path.write_bytes(b"half")
                raise self.error
            return really(path)

        return write


@pytest.fixture
def no_pause(monkeypatch):
    for name in ("DISK_PAUSE_SECONDS", "DISK_LOOK_SECONDS"):
        monkeypatch.setattr(f"peerd.worker.jobs.{name}", 0.01)


def disk_errors():
    from safetensors import SafetensorError

    return [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")]


@pytest.mark.parametrize("error", disk_errors(), ids=["a plain file", "a checkpoint"])
def test_what_was_learnt_waits_in_memory_until_the_disk_takes_it(bench, tmp_path, tiny_model, no_pause, error):
    twin = Bench(tmp_path / "twin", tiny_model)
    for one in (bench, twin):
        one.open()
    stubborn = Stubborn(error, 3)
    bench.jobs._now.learner.save = stubborn(bench.jobs._now.learner.save)
    trained, same = bench.train(), twin.train()
    waiting = [note.trouble for note in bench.notes if note.trouble]

    assert stubborn.asked == 4
    assert len(waiting) == 3
    assert "No space left" in waiting[0]
    assert "free some space" in waiting[0]
    assert digest(trained.checkpoint) == digest(same.checkpoint)
    assert len(list((bench.folder / "scratch").iterdir())) == 1


def test_who_waits_for_the_disk_can_be_asked_to_leave(bench, no_pause):
    class Left(Exception):
        pass

    def leave(_, kinds):
        if kinds == WHILE_MEASURING:
            raise Left

    bench.open()
    bench.interrupt = leave
    bench.jobs._now.learner.save = Stubborn(OSError(28, "No space left on device"), 10**9)(None)

    with pytest.raises(Left):
        bench.train()


def test_a_scratch_folder_that_is_tidied_away_is_made_again(bench, tmp_path, tiny_model, no_pause):
    twin = Bench(tmp_path / "twin", tiny_model)
    for one in (bench, twin):
        one.open()
    shutil.rmtree(bench.folder / "scratch")

    assert digest(bench.train().checkpoint) == digest(twin.train().checkpoint)
    assert (bench.folder / "scratch").stat().st_mode & 0o777 == 0o700
    assert not [note.trouble for note in bench.notes if note.trouble]


def test_the_cache_may_vanish_while_the_worker_trains_and_reads_again(bench):
    bench.open()
    shutil.rmtree(bench.folder / "cache")
    bench.train()
    same = bench.do(messages.Reread)
    bench.write(seed=3)

    assert not same.changed
    assert bench.do(messages.Reread).changed
    bench.train()


def test_held_out_text_stays_so_when_the_cache_vanishes_between_two_starts(bench):
    bench.open()
    checkpoint = bench.train().checkpoint
    held_out = {
        name: bench.jobs._now.learner._corpus.split(name).tokens.tolist() for name in ("trust", "guard", "test")
    }
    shutil.rmtree(bench.folder / "cache")
    bench.open(checkpoint)

    assert held_out == {name: bench.jobs._now.learner._corpus.split(name).tokens.tolist() for name in held_out}


def test_a_lost_record_of_what_is_held_out_ends_the_start_with_what_to_do(bench):
    bench.open()
    checkpoint = bench.train().checkpoint
    shutil.rmtree(bench.folder / "cache")
    (bench.folder / "splits.record").unlink()

    with pytest.raises(TextError, match=r"splits\.record, cannot be used: it is gone"):
        bench.open(checkpoint)


def test_what_another_trust_scheme_remembered_is_said_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    learner = SimpleNamespace(restore=lambda path: None, forgotten="'smoothed-validation' says nothing to 'validation'")
    job = SimpleNamespace(checkpoint="somewhere", best=None, best_guard=None)

    assert restore(learner, job)  # type: ignore[arg-type]

    assert "'smoothed-validation' says nothing to 'validation'" in capsys.readouterr().err
