"""The round: train, publish, collect, merge, rest; what ends each, and that waiting always ends."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.options import sections
from p2pfinetune.round.figures import RoundFigures
from peerd.config import Config
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import ANNOUNCEMENT_BURST, ANNOUNCEMENTS_A_SECOND
from peerd.core.outlook import next_deadline, sentence, state
from peerd.core.patience import waited_rounds
from peerd.core.settings import Settings
from peerd.pacing import Bucket


def test_settings_are_made_from_the_configuration() -> None:
    config = Config(rounds=7, collect_seconds=4.0)

    settings = sections.of(Settings, config)

    assert (settings.rounds, settings.collect_seconds) == (7, 4.0)
    shared = set(Settings.__struct_fields__) & set(Config.__struct_fields__)
    assert len(shared) == len(Settings.__struct_fields__) - 1  # all but the noise margin
    assert all(getattr(Settings(), name) == getattr(Config(), name) for name in shared)


def test_nothing_is_asked_of_a_worker_that_has_not_started(playbook: Any) -> None:
    play = playbook()

    assert play.tick() == []
    assert state(play.node) == "starting"


def test_a_started_worker_trains_its_round(playbook: Any) -> None:
    play = playbook(steps_per_round=7)

    assert play.worker(round=3) == [do.Train(round=3, steps=7)]
    assert state(play.node) == "training"


def test_a_worker_whose_round_is_trained_goes_on_with_publishing(playbook: Any) -> None:
    play = playbook()

    assert play.worker(round=3, trained=True) == [do.Publish(round=3)]


def test_a_round_that_goes_on_after_a_restart_is_not_as_old_as_the_machine(playbook: Any) -> None:
    play = playbook()
    play.worker(after=9000.0, round=3, trained=True)

    assert play.node.round_began_at == play.at


def test_a_worker_that_dies_again_and_again_does_not_make_its_round_younger(playbook: Any) -> None:
    play = playbook()
    play.worker(round=3, trained=True)
    began = play.at
    play.tell(on.WorkerDied, after=490.0, reason="killed")
    play.worker(after=10.0, round=3, trained=True)

    assert play.node.round_began_at == began


def test_a_trained_round_is_published(playbook: Any) -> None:
    play = playbook()
    play.worker()

    assert play.trained() == [do.Publish(round=1)]


def test_quick_rounds_are_not_announced_oftener_than_others_listen(playbook: Any) -> None:
    play = playbook(patience=1000)
    play.worker()
    spoken = []
    for _ in range(400):
        play.at += 0.5
        if play.trained() == [do.Publish(round=play.node.round)]:
            spoken.append(play.at)
            play.published()
        play.collaborated()
    heard = Bucket(level=ANNOUNCEMENT_BURST, filled_at=0.0)
    for at in spoken:
        heard = heard.take(at, ANNOUNCEMENT_BURST / 2, ANNOUNCEMENTS_A_SECOND / 2)
        assert heard is not None

    assert play.node.round == 401  # no round waits for it
    assert len(spoken) > 40


def test_an_answer_for_another_round_is_ignored(playbook: Any) -> None:
    play = playbook()
    play.worker(round=3)

    assert play.tell(on.Trained, round=2, steps=1) == []
    assert (
        play.tell(on.Collaborated, round=3, row={}, accepted=True, reason="", figures=RoundFigures(), best_guard=1)
        == []
    )
    assert play.tell(on.CollaborationFailed, round=3, reason="late") == []
    assert play.tell(on.PublishFailed, round=3, reason="late") == []
    assert state(play.node) == "training"


def test_with_no_peers_nobody_is_waited_for_and_it_is_said_once(playbook: Any) -> None:
    play = playbook()
    play.worker()

    note = do.Note(level="info", message="training alone: no peer found yet")
    assert play.to_collecting() == [note, do.Collaborate(round=1, candidates=())]
    assert play.collaborated() == [do.Train(round=2, steps=20)]
    assert play.to_collecting() == [do.Collaborate(round=2, candidates=())]


def test_being_alone_is_said_again_after_company(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.to_collecting()
    play.connect()
    play.tell(on.PeerDisconnected, peer="peer-one")
    play.collaborated()

    play.to_collecting()
    assert [note.message for note in play.wanted(do.Note)] == ["training alone: no peer found yet"]


def test_warm_up_rounds_are_recorded_without_merging(playbook: Any) -> None:
    play = playbook(warmup_rounds=1)
    play.worker()
    play.connect()
    play.receive()

    assert play.to_collecting() == [do.Collaborate(round=1, candidates=())]
    play.collaborated()
    (merge,) = play.to_collecting()
    assert [candidate.peer for candidate in merge.candidates] == ["peer-one"]


def test_collecting_waits_for_a_live_neighbour_and_ends_with_its_update(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()

    assert play.to_collecting() == []
    assert sentence(play.node) == "waiting for 1 of 1 neighbour, 30 s left"
    assert next_deadline(play.node) is not None
    play.fetched()
    (merge,) = play.admitted()
    candidate = do.Candidate(peer="peer-one", digest=play.said().blob, codec="bf16", round=1, age_seconds=0.0)
    assert merge == do.Collaborate(round=1, candidates=(candidate,))


def test_collecting_ends_after_its_seconds_whatever_is_missing(playbook: Any) -> None:
    play = playbook(collect_seconds=30.0)
    play.worker()
    play.connect()
    play.hear()
    play.to_collecting()

    assert play.tick(29.0) == []
    play.tick(1.0)
    assert play.wanted(do.Collaborate) == [do.Collaborate(round=1, candidates=())]


def test_an_update_that_was_merged_before_does_not_end_the_wait(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive()
    play.to_collecting()
    play.collaborated()

    assert play.to_collecting() == []
    play.hear(sequence=2)
    play.fetched(sequence=2)
    play.admitted(sequence=2)
    (merge,) = play.wanted(do.Collaborate)
    assert [candidate.round for candidate in merge.candidates] == [2]


def test_a_slow_neighbours_last_update_takes_part_again(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive()
    play.to_collecting()
    play.collaborated()
    play.to_collecting()
    play.tick(30.0)

    (merge,) = play.wanted(do.Collaborate)
    assert [candidate.round for candidate in merge.candidates] == [1]
    assert merge.candidates[0].age_seconds == 30.0


def test_a_neighbour_that_has_left_is_not_waited_for(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    play.tell(on.PeerDisconnected, peer="peer-one")

    play.to_collecting()
    assert play.wanted(do.Collaborate)


def test_a_neighbour_that_has_not_announced_for_long_is_not_waited_for(playbook: Any) -> None:
    play = playbook(collect_seconds=30.0)
    play.worker()
    play.connect()
    play.receive()
    play.to_collecting()
    play.collaborated()
    play.tick(200.0)

    assert [type(effect) for effect in play.to_collecting()] == [do.Collaborate]


def test_a_stale_update_takes_no_part_and_is_forgotten(playbook: Any) -> None:
    play = playbook(staleness_seconds=100.0)
    play.worker()
    play.connect()
    play.receive()

    assert do.Forget(digests=(play.said().blob,)) in play.tick(101.0)
    play.to_collecting()
    assert play.wanted(do.Collaborate) == [do.Collaborate(round=1, candidates=())]


def test_an_update_that_grew_stale_since_the_last_tick_takes_no_part(playbook: Any) -> None:
    play = playbook(staleness_seconds=100.0)
    play.worker()
    play.connect()
    play.receive()
    play.at += 101.0
    play.to_collecting()

    assert play.wanted(do.Collaborate) == [do.Collaborate(round=1, candidates=())]


def test_the_best_trusted_then_the_freshest_take_part_and_no_more_than_allowed(playbook: Any) -> None:
    play = playbook(max_neighbours=3, row={"peer-me": 0.5, "peer-two": 0.4, "peer-four": 0.1})
    play.worker()
    for second, peer in enumerate(("peer-one", "peer-two", "peer-three", "peer-four", "peer-five")):
        play.at += second
        play.connect(peer)
        play.hear(peer)
        play.fetched(peer)
        play.admitted(peer)

    play.to_collecting()
    (merge,) = play.wanted(do.Collaborate)
    assert [candidate.peer for candidate in merge.candidates][:2] == ["peer-two", "peer-four"]
    assert len(merge.candidates) == 3


def test_what_could_not_be_published_does_not_stop_the_round(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.trained()

    effects = play.tell(on.PublishFailed, round=1, reason="the disk is full")
    assert effects[0] == do.Note(level="warning", message="round 1 could not be published: the disk is full")
    assert effects[-1] == do.Collaborate(round=1, candidates=())


def test_what_could_not_be_merged_does_not_stop_the_next_round(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.to_collecting()

    effects = play.tell(on.CollaborationFailed, round=1, reason="no memory")
    assert [type(effect) for effect in effects] == [do.Note, do.Train]
    assert effects[1].round == 2


@pytest.mark.parametrize("moment", ["training", "publishing", "collecting", "merging"])
def test_a_dead_worker_is_said_and_the_next_one_resumes(playbook: Any, moment: str) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.hear()
    if moment != "training":
        play.trained()
    if moment in {"collecting", "merging"}:
        play.published()
    if moment == "merging":
        play.tick(30.0)
    assert state(play.node) == moment

    (note,) = [effect for effect in play.tell(on.WorkerDied, reason="out of memory") if isinstance(effect, do.Note)]
    assert "out of memory" in note.message
    assert "out of memory" in sentence(play.node)
    assert state(play.node) == "starting"
    assert play.worker(round=1, trained=moment != "training") == [
        do.Train(round=1, steps=20) if moment == "training" else do.Publish(round=1)
    ]


def test_a_round_whose_merge_kills_the_worker_twice_goes_on_without_neighbours(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    play.receive()
    for _ in range(2):
        play.trained()
        play.published()
        play.tick(30.0)
        assert state(play.node) == "merging"
        play.tell(on.WorkerDied, reason="out of memory")
        play.worker(trained=True)

    play.published()
    play.tick(30.0)
    assert state(play.node) == "merging"
    assert play.wanted(do.Collaborate) == [do.Collaborate(round=1, candidates=())]
    play.collaborated()
    play.hear(sequence=2)
    play.fetched(sequence=2)
    play.admitted(sequence=2)
    play.to_collecting()
    assert play.wanted(do.Collaborate)[0].candidates


def finish_rounds(play: Any, guards: list[float]) -> None:
    for guard in guards:
        play.to_collecting()
        play.collaborated(guard)


def test_training_rests_after_so_many_rounds_without_a_better_guard_loss(playbook: Any) -> None:
    play = playbook(patience=2)
    play.worker()
    finish_rounds(play, [3.0, 2.9, 2.8995, 2.95])

    assert state(play.node) == "resting"
    assert "no better guard loss in 2 rounds" in sentence(play.node)
    assert play.wanted(do.Train) == []


def test_small_steps_add_up_to_progress(playbook: Any) -> None:
    play = playbook(patience=2)
    play.worker()
    finish_rounds(play, [3.0, 2.9995, 2.9985, 2.9980, 2.9970])

    assert state(play.node) == "training"


def test_patience_goes_on_where_it_stood_before_a_restart(playbook: Any) -> None:
    play = playbook(patience=3)
    waited = waited_rounds([3.0, None, 2.5, 2.6, 2.5], 1e-3)
    play.worker(round=6, best_guard=2.5, waited_rounds=waited)
    finish_rounds(play, [2.7])

    assert waited == 2
    assert state(play.node) == "resting"


def test_training_rests_when_all_rounds_are_done(playbook: Any) -> None:
    play = playbook(rounds=2)
    play.worker()
    finish_rounds(play, [3.0, 2.0])

    assert state(play.node) == "resting"
    assert "all 2 rounds are done" in sentence(play.node)


def test_the_last_round_trains_only_the_steps_that_are_left(playbook: Any) -> None:
    play = playbook(steps_per_round=20, total_steps=30)

    assert play.worker(round=2, steps=20) == [do.Train(round=2, steps=10)]
    play.tell(on.Trained, round=2, steps=10)
    play.published()
    play.collaborated()
    assert "all 30 steps are done" in sentence(play.node)


def test_a_restart_in_the_rest_rests_on(playbook: Any) -> None:
    play = playbook(rounds=2)

    play.worker(round=5)
    assert state(play.node) == "resting"


def resting(playbook: Any, **settings: Any) -> Any:
    play = playbook(**({"patience": 1} | settings))
    play.worker(round=2, best_guard=2.0, waited_rounds=5)
    assert state(play.node) == "resting"
    return play


def test_a_resting_peer_merges_what_is_new_under_a_new_round_number(playbook: Any) -> None:
    play = resting(playbook)
    play.connect()
    play.receive()

    (merge,) = play.wanted(do.Collaborate)
    assert merge.round == 2
    assert play.collaborated(2.0) == []
    assert state(play.node) == "resting"
    assert play.node.round == 3


def test_a_resting_peer_collects_before_it_merges(playbook: Any) -> None:
    play = resting(playbook)
    play.connect("peer-one")
    play.connect("peer-two")
    play.hear("peer-two")
    play.receive("peer-one")

    assert play.wanted(do.Collaborate) == []
    play.tick(29.0)
    assert play.wanted(do.Collaborate) == []
    play.tick(1.0)
    assert len(play.wanted(do.Collaborate)[0].candidates) == 1


def test_a_resting_peer_merges_nothing_twice(playbook: Any) -> None:
    play = resting(playbook)
    play.connect()
    play.receive()
    play.collaborated(2.0)

    for _ in range(100):
        assert not [effect for effect in play.tick(10.0) if not isinstance(effect, do.Repeat)]


def test_a_resting_peer_merges_nothing_twice_under_whatever_number_it_is_said_again(playbook: Any) -> None:
    play = resting(playbook)
    play.connect()
    play.receive()
    play.collaborated(2.0)

    for sequence in range(2, 40):  # as quickly as anybody may speak: each was a merge, a checkpoint and a round
        assert not play.hear(sequence=sequence, after=5.0, blob=play.said(sequence=1).blob)
    assert play.receive(sequence=40)
    assert play.wanted(do.Collaborate)


def test_training_resumes_when_a_merge_beats_the_best_guard_loss(playbook: Any) -> None:
    play = resting(playbook)
    play.connect()
    play.receive()

    assert play.collaborated(1.9) == [do.Train(round=3, steps=20)]


def test_training_resumes_when_the_text_changes(playbook: Any) -> None:
    play = resting(playbook)

    assert play.tell(on.TextChanged, fingerprint="other") == [do.Train(round=2, steps=20)]


@pytest.mark.parametrize("end", [{"rounds": 1}, {"total_steps": 20}])
def test_training_does_not_resume_where_it_was_to_end_for_good(playbook: Any, end: dict[str, int]) -> None:
    play = playbook(**end)
    play.worker(round=2, steps=20)
    play.connect()

    assert play.tell(on.TextChanged, fingerprint="other") == []
    play.receive()
    assert play.collaborated(0.5) == []
    assert state(play.node) == "resting"


def test_changed_text_begins_patience_anew(playbook: Any) -> None:
    play = playbook(patience=2)
    play.worker()
    finish_rounds(play, [2.0, 2.0])
    play.tell(on.TextChanged, fingerprint="other")
    finish_rounds(play, [3.0, 2.9])

    assert state(play.node) == "training"


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_stop_comes_before_everything_in_any_state(playbook: Any, rounds: int) -> None:
    play = playbook()
    if rounds:
        play.worker()
        finish_rounds(play, [3.0] * rounds)

    assert play.tell(on.StopAsked, reason="asked by you") == [do.Stop(reason="asked by you")]
    assert state(play.node) == "stopping"
    assert play.worker() == []
    assert play.connect() == []
    assert play.tick(1000.0) == []


def test_a_clock_that_jumps_back_does_no_harm(playbook: Any) -> None:
    play = playbook(collect_seconds=30.0)
    play.worker()
    play.connect()
    play.hear()
    play.to_collecting()
    play.tick(-3600.0)
    play.tick(3600.0)

    assert state(play.node) == "collecting"
    play.tick(30.0)
    assert play.wanted(do.Collaborate)


def test_every_state_has_a_sentence(playbook: Any) -> None:
    play = playbook()
    heard = [sentence(play.node)]
    play.worker()
    heard.append(sentence(play.node))
    play.connect()
    play.receive()
    play.trained()
    heard.append(sentence(play.node))
    play.published()
    heard.append(sentence(play.node))
    play.tell(on.StopAsked, reason="SIGTERM")
    heard.append(sentence(play.node))

    assert heard == [
        "loading the model and your text",
        "training round 1, alone: no peer found yet",
        "publishing round 1",
        "scoring and merging 1 update in round 1",
        "stopping: SIGTERM",
    ]


def test_a_round_whose_update_is_withheld_goes_on_and_it_is_said_once(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for round_ in (1, 2):
        play.trained()
        effects = play.tell(on.PublishWithheld, round=round_, reason="the budget is 8")
        assert [note.message for note in play.wanted(do.Note) if "publishing" in note.message] == (
            ["not publishing any more: the budget is 8"] if round_ == 1 else []
        )
        assert any(isinstance(effect, do.Collaborate) for effect in effects)
        assert sentence(play.node).endswith("; not publishing: the budget is 8")
        play.collaborated()

    play.trained()
    play.published()

    assert "not publishing" not in sentence(play.node)


def test_a_withheld_update_of_another_round_is_ignored(playbook: Any) -> None:
    play = playbook()
    play.worker(round=3)

    assert play.tell(on.PublishWithheld, round=3, reason="late") == []
    assert play.node.withheld == ""
