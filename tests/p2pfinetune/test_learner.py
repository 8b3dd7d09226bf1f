"""The learner: rounds, guard, best, restart, and what its words mean."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.judging import RETURNED
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate, default_max_norm, encode_update

ME, FRIEND, STRANGER = PeerId("me"), PeerId("friend"), PeerId("stranger")
OPTIONS = LearnerOptions(
    spec=AdapterSpec(rank=2, dropout=0.1),
    training=TrainingOptions(batch_size=2, context=16, lr=5e-3),
    tolerance=0.5,
    max_share=1.0,  # where one neighbour is all there is, a bound decides every row; it has tests of its own
)
VOCABULARY = 320


def language(kind: int, seed: int, documents: int) -> TokenSplit:
    """Random walks: every token of a language has three successors, so two languages share almost nothing."""
    successors = np.random.default_rng(kind).integers(1, VOCABULARY, (VOCABULARY, 3))
    dice = np.random.default_rng([kind, seed])
    walks = []
    for _ in range(documents):
        walk = [int(dice.integers(1, VOCABULARY))]
        while len(walk) < 40:
            walk.append(int(successors[walk[-1], dice.integers(3)]))
        walks.append(np.array(walk, np.uint16))
    return TokenSplit.of(walks)


def corpus(kind: int = 0, seed: int = 0) -> Corpus:
    splits = [language(kind, 10 * seed + i, documents) for i, documents in enumerate((12, 4, 4, 4))]
    return Corpus(*splits, report=None, fingerprint=f"{kind} {seed}")  # type: ignore[arg-type]


@pytest.fixture
def make(tiny_base: Base) -> Callable[..., Learner]:
    def learner(text: Corpus | None = None, me: PeerId = ME, **changes: Any) -> Learner:
        return Learner(tiny_base, text or corpus(), structs.replace(OPTIONS, **changes), me=me, group="test")

    return learner


def update(learner: Learner, codec: str = "fp32") -> LoraUpdate:
    admitted = learner.admit(learner.encode(codec), codec)
    assert isinstance(admitted, LoraUpdate)
    return admitted


def random_update(learner: Learner, size: float) -> LoraUpdate:
    generator = torch.Generator().manual_seed(7)
    delta = {n: size * torch.randn(t.shape, generator=generator) for n, t in learner.own().tensors.items()}
    return LoraUpdate(Adapter(delta))


def test_a_new_learner_is_the_base_in_every_respect(make: Callable[..., Learner]) -> None:
    learner = make(twin=True)

    losses = {learner.evaluate("guard", which).loss for which in ("base", "own", "personal", "local", "local_best")}

    assert losses == {learner.best_guard}


def test_a_peer_alone_trains_and_its_rounds_end_with_its_own_adapter(make: Callable[..., Learner]) -> None:
    learner = make(twin=True)
    report = learner.train(3)
    ended = learner.collaborate({})

    assert report.steps == 3
    assert report.tokens == 3 * 2 * 16
    assert ended.row.weights == {ME: 1.0}
    assert (ended.accepted, ended.reason) == (True, "")
    assert learner.personal() is learner.own()
    assert ended.figures.guard_personal == ended.figures.guard_own == ended.figures.guard_twin
    assert learner.evaluate("test", "own").loss == learner.evaluate("test", "local").loss


def test_a_merge_that_helps_is_what_the_next_round_starts_from(make: Callable[..., Learner]) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(12)
    learner = make(twin=True, trust="uniform")
    learner.train(1)
    before = learner.own()

    ended = learner.collaborate({FRIEND: update(teacher)})

    assert ended.accepted
    assert ended.figures.guard_personal < ended.figures.guard_own
    assert ended.new_best
    assert ended.best_guard == ended.figures.guard_personal == learner.evaluate("guard", "personal").loss
    assert ended.figures.loss_trust == learner.evaluate("trust", "personal").loss
    assert learner.own() is before
    assert not learner.personal().equals(before)
    learner.train(0)
    assert learner.own().equals(learner.personal())


@pytest.mark.parametrize("second_look", [True, False])
@pytest.mark.parametrize("trust", ["prediction-similarity", "mixture", "uniform"])
def test_no_neighbour_weighs_more_than_the_bound_in_a_merge_that_is_kept(
    make: Callable[..., Learner], trust: str, second_look: bool
) -> None:
    teacher = make()
    teacher.train(20)
    learner = make(trust=trust, max_share=0.3, second_look=second_look)
    learner.train(5)

    ended = learner.collaborate({FRIEND: update(teacher)})

    assert ended.accepted
    mine, theirs = ended.row.weights[ME], ended.row.weights[FRIEND]
    assert theirs <= 0.3
    assert mine + theirs == pytest.approx(1.0)
    mixed = mine * learner.own().vector() + theirs * teacher.own().vector()
    assert torch.allclose(learner.personal().vector(), mixed, atol=1e-5)


def test_without_a_guard_nobody_is_bounded(make: Callable[..., Learner]) -> None:
    teacher, learner = make(), make(trust="uniform", max_share=0.3, guarded=False)
    teacher.train(5)

    assert learner.collaborate({FRIEND: update(teacher)}).row.weights[FRIEND] == pytest.approx(0.5)


@pytest.mark.parametrize("second_look", [True, False])
def test_a_crowd_of_my_shadows_does_not_hide_a_friend_from_a_second_look(
    make: Callable[..., Learner], second_look: bool
) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(24)
    learner = make(second_look=second_look)
    learner.train(12)
    shadows = {PeerId(f"shadow-{number}"): update(learner, "bf16") for number in range(3)}

    ended = learner.collaborate({FRIEND: update(teacher), **shadows})

    weights = ended.row.weights
    assert (weights[FRIEND] > 0.4) == second_look
    assert (max(weights[peer] for peer in shadows) > 0.2) != second_look
    assert (ended.figures.guard_personal < ended.figures.guard_own - 0.005) == second_look


def test_a_merge_that_harms_is_refused_and_the_own_adapter_stays(make: Callable[..., Learner]) -> None:
    learner = make(trust="uniform", credit=0.0)
    learner.train(2)

    ended = learner.collaborate({STRANGER: random_update(learner, 1.0)})

    assert (ended.accepted, ended.reason) == (False, "worse-than-own")
    assert ended.row.weights[STRANGER] == 0.5
    assert learner.personal() is learner.own()
    assert ended.figures.guard_personal == ended.figures.guard_own


def test_a_merge_that_goes_too_far_is_taken_part_of_the_way(make: Callable[..., Learner]) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(8)
    far = LoraUpdate(Adapter({n: 32.0 * t for n, t in update(teacher).delta.tensors.items()}))
    learner = make(trust="uniform")
    learner.train(1)

    ended = learner.collaborate({FRIEND: far})

    assert ended.accepted
    assert ended.row.weights[FRIEND] in (0.25, 0.125)  # of the half that uniform trust gives
    assert ended.figures.guard_personal <= ended.figures.guard_own


def test_credit_of_the_guard_outlives_a_restart(make: Callable[..., Learner], tmp_path: Path) -> None:
    learner = make(trust="uniform", credit=9.0, tolerance=9.0)
    learner.train(2)
    on_credit = learner.collaborate({STRANGER: random_update(learner, 0.3)})
    assert on_credit.accepted
    assert on_credit.figures.guard_personal > on_credit.figures.guard_own
    assert on_credit.best_guard == on_credit.figures.guard_own == learner.evaluate("guard", "best").loss

    learner.save(tmp_path / "it")
    again = make(trust="uniform", credit=9.0, tolerance=9.0)
    again.restore(tmp_path / "it")
    for one in (learner, again):  # no step of training since, so nothing is regained
        refused = one.collaborate({STRANGER: random_update(learner, 0.3)})

        assert (refused.accepted, refused.reason) == (False, "worse-than-own")


def test_an_update_that_breaks_the_arithmetic_is_survived(make: Callable[..., Learner]) -> None:
    learner = make(trust="uniform")
    learner.train(1)

    ended = learner.collaborate({STRANGER: random_update(learner, 1e25)})

    assert (ended.accepted, ended.reason) == (False, "not-finite")
    assert math.isfinite(ended.figures.guard_personal)


def test_validation_gives_such_an_update_no_weight(make: Callable[..., Learner]) -> None:
    learner = make(trust="validation")
    learner.train(1)

    assert learner.collaborate({STRANGER: random_update(learner, 1e25)}).row.weights[STRANGER] == 0.0


def test_own_training_that_drifts_beyond_the_tolerance_returns_to_the_best(make: Callable[..., Learner]) -> None:
    learner = make(tolerance=0.0, training=structs.replace(OPTIONS.training, lr=1.0))
    best = learner.best_guard
    learner.train(8)

    ended = learner.collaborate({})

    assert ended.figures.guard_own > best
    assert (ended.accepted, ended.reason) == (False, RETURNED)
    assert ended.figures.guard_personal == ended.best_guard == best
    assert learner.evaluate("guard", "personal").loss == best
    assert learner.evaluate("guard", "own").loss == ended.figures.guard_own


def test_the_tolerance_is_kept_in_total_over_many_rounds(make: Callable[..., Learner]) -> None:
    learner = make(tolerance=0.02, training=structs.replace(OPTIONS.training, lr=0.1), trust="uniform")
    lowest = learner.best_guard
    for _ in range(6):
        learner.train(3)
        ended = learner.collaborate({STRANGER: random_update(learner, 0.01)})
        lowest = min(lowest, ended.figures.guard_personal)

        assert ended.figures.guard_personal <= lowest + 0.02


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_the_twin_never_notices_that_there_are_others(make: Callable[..., Learner], dropout: float) -> None:
    spec = structs.replace(OPTIONS.spec, dropout=dropout)
    teacher = make(corpus(seed=1), FRIEND, spec=spec)
    teacher.train(8)
    social, hermit = make(twin=True, trust="uniform", spec=spec), make(spec=spec)
    for _ in range(2):
        social.train(2)
        hermit.train(2)
        hermit.collaborate({})
        ended = social.collaborate({FRIEND: update(teacher)})

    assert ended.accepted
    twin, alone = social.evaluate("test", "local").loss, hermit.evaluate("test", "personal").loss
    # with noise one by one, to the bit; without it in the passes of the own training, which add in another order
    assert twin == alone if dropout else twin == pytest.approx(alone, abs=1e-5)
    assert abs(social.evaluate("test", "personal").loss - alone) > 1e-4


def test_without_a_twin_there_is_no_local_model(make: Callable[..., Learner]) -> None:
    learner = make()

    assert learner.collaborate({}).figures.guard_twin is None
    with pytest.raises(OptionError, match="no local model"):
        learner.evaluate("test", "local")


def test_the_twins_best_is_kept_when_it_overfits(make: Callable[..., Learner]) -> None:
    learner = make(twin=True, training=structs.replace(OPTIONS.training, lr=0.5))
    for _ in range(3):
        learner.train(4)
        learner.collaborate({})

    assert learner.evaluate("guard", "local_best").loss <= learner.evaluate("guard", "local").loss
    assert learner.evaluate("guard", "local_best").loss <= learner.evaluate("guard", "base").loss


@pytest.mark.parametrize("stop_after", ["training", "collaborating"])
def test_a_restart_goes_on_to_the_bit(make: Callable[..., Learner], tmp_path: Path, stop_after: str) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(8)
    shared = {FRIEND: update(teacher)}

    def start() -> Learner:
        learner = make(twin=True)
        learner.train(2)
        learner.collaborate(shared)
        learner.train(2)
        return learner

    def finish(learner: Learner, *, collaborated: bool) -> list[Any]:
        ended = [] if collaborated else [learner.collaborate(shared)]
        return [*ended, learner.train(2), learner.collaborate(shared), learner.personal().vector().tolist()]

    interrupted, unbroken = start(), start()
    if collaborated := stop_after == "collaborating":
        assert interrupted.collaborate(shared) == unbroken.collaborate(shared)
    interrupted.save(tmp_path / "checkpoint")
    interrupted.save_best(tmp_path / "best")
    resumed = make(twin=True)
    resumed.restore(tmp_path / "checkpoint")
    resumed.restore_best(tmp_path / "best", interrupted.best_guard)

    assert resumed.own().equals(interrupted.own())
    assert resumed.personal().equals(interrupted.personal())
    assert finish(resumed, collaborated=collaborated) == finish(unbroken, collaborated=collaborated)


def test_a_checkpoint_of_another_network_is_refused(make: Callable[..., Learner], tmp_path: Path) -> None:
    make().save(tmp_path / "checkpoint")
    make().save_best(tmp_path / "best")
    other = make(spec=AdapterSpec(rank=3))

    with pytest.raises(CheckpointError, match="another network"):
        other.restore(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="another network"):
        other.restore_best(tmp_path / "best", 1.0)


def test_a_twin_may_begin_until_a_merge_is_kept_and_may_always_be_left_behind(
    make: Callable[..., Learner], tmp_path: Path
) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(8)
    learner, unbroken = make(trust="uniform"), make(trust="uniform", twin=True)
    for one in (learner, unbroken):
        one.train(2)
        one.collaborate({})
    learner.save(tmp_path / "alone")
    learner.save_best(tmp_path / "best")
    late = make(trust="uniform", twin=True)
    late.restore(tmp_path / "alone")
    late.restore_best(tmp_path / "best", learner.best_guard)

    assert learner.collaborate({FRIEND: update(teacher)}).accepted
    assert late.collaborate({FRIEND: update(teacher)}) == unbroken.collaborate({FRIEND: update(teacher)})
    assert (late.train(2), late.collaborate({})) == (unbroken.train(2), unbroken.collaborate({}))
    learner.save(tmp_path / "merged")
    with pytest.raises(CheckpointError, match="holds no twin"):
        make(twin=True).restore(tmp_path / "merged")
    late.save(tmp_path / "with twin")
    make().restore(tmp_path / "with twin")


def test_until_a_merge_is_kept_a_twin_trains_nothing_of_its_own(make: Callable[..., Learner]) -> None:
    learner = make(twin=True, trust="uniform", credit=0.0)
    for heard in ({}, {STRANGER: random_update(learner, 1.0)}):
        learner.train(2)
        ended = learner.collaborate(heard)

        assert ended.figures.guard_twin == ended.figures.guard_own == learner.evaluate("guard", "local").loss
        assert learner.evaluate("guard", "local_best").loss == ended.best_guard
        assert len(learner.trainers) == 1
    assert not ended.accepted


def astray(make: Callable[..., Learner], credit: float) -> Learner:
    """A peer that hears somebody whose text is of another kind, and may pay for it."""
    teacher = make(corpus(kind=7), STRANGER)
    teacher.train(10)
    learner = make(twin=True, trust="uniform", credit=credit, tolerance=9.0)
    for _ in range(2):
        learner.train(2)
        learner.collaborate({STRANGER: update(teacher)})
    return learner


@pytest.mark.parametrize("credit", [0.0, 1.0, 9.0])
@pytest.mark.parametrize("lr", [5e-3, 0.3])
def test_what_is_served_never_ends_a_round_behind_the_twin_on_the_guard_split(
    make: Callable[..., Learner], credit: float, lr: float
) -> None:
    stranger = make(corpus(kind=7), STRANGER)
    learner = make(
        twin=True, trust="uniform", credit=credit, tolerance=9.0, training=structs.replace(OPTIONS.training, lr=lr)
    )
    lowest = math.inf
    for number in range(4):
        stranger.train(3)
        learner.train(2)
        ended = learner.collaborate({STRANGER: update(stranger)} if number != 2 else {})
        assert ended.figures.guard_twin is not None
        lowest = min(lowest, ended.figures.guard_twin)

        found = learner.evaluate("guard", "served").loss
        assert found <= lowest  # neither behind the twin nor behind what it was at best
        assert (ended.served == "personal") == (ended.figures.guard_personal <= lowest)
        assert learner.evaluate("guard", "personal").loss == ended.figures.guard_personal


def test_who_went_astray_serves_the_twin_and_exports_it(make: Callable[..., Learner], tmp_path: Path) -> None:
    from p2pfinetune.model.peft_folder import import_folder

    learner = astray(make, credit=9.0)

    assert learner.served == "local"
    assert learner.adapter("served") is learner.adapter("local_best")
    learner.export(tmp_path / "folder")
    assert import_folder(tmp_path / "folder")[1].equals(learner.adapter("local_best"))
    learner.train(1)  # what was exported stays what is exported, until the next round ends
    assert learner.adapter("served").equals(import_folder(tmp_path / "folder")[1])


def test_what_is_served_outlives_a_restart_and_is_measured_anew_on_other_text(
    make: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = astray(make, credit=9.0)
    learner.save(tmp_path / "it")
    learner.save_best(tmp_path / "best")

    def resumed(text: Corpus) -> Learner:
        again = make(text, twin=True, trust="uniform", tolerance=9.0)
        again.restore(tmp_path / "it")
        again.restore_best(tmp_path / "best", learner.best_guard)
        return again

    assert resumed(corpus()).served == learner.served == "local"
    learner.reread(corpus(kind=7))  # the stranger's own: what led astray is of use there
    assert resumed(corpus(kind=7)).served == learner.served != "local"
    left = make()
    left.restore(tmp_path / "it")
    assert left.served == "personal"


def test_what_was_best_is_measured_anew_where_less_of_the_guard_split_is_looked_at(
    make: Callable[..., Learner], tmp_path: Path
) -> None:
    learner = make()
    learner.train(2)
    learner.collaborate({})
    learner.save(tmp_path / "it")
    learner.save_best(tmp_path / "best")
    again = make(guard_tokens=20)
    again.restore(tmp_path / "it")
    again.restore_best(tmp_path / "best", learner.best_guard)

    assert again.best_guard == again.evaluate("guard", "best").loss != learner.best_guard


def test_other_text_is_measured_anew_and_training_goes_on(make: Callable[..., Learner], tmp_path: Path) -> None:
    learner = make(twin=True)
    learner.train(2)
    learner.collaborate({})
    learner.save(tmp_path / "checkpoint")
    learner.save_best(tmp_path / "best")
    other = corpus(kind=5)

    learner.reread(other)
    elsewhere = make(other, twin=True)
    elsewhere.restore(tmp_path / "checkpoint")
    elsewhere.restore_best(tmp_path / "best", -1.0)

    assert learner.best_guard == elsewhere.best_guard > 0.0
    assert learner.train(1) == elsewhere.train(1)
    assert learner.collaborate({}) == elsewhere.collaborate({})


def test_while_training_rests_rounds_go_on_from_the_personal_adapter(make: Callable[..., Learner]) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(12)
    learner = make(trust="uniform")
    learner.train(1)
    first = learner.collaborate({FRIEND: update(teacher)})

    second = learner.collaborate({FRIEND: update(teacher)})

    assert second.figures.guard_own == first.figures.guard_personal
    assert second.figures.guard_personal <= second.figures.guard_own


def test_what_is_shared_is_the_adapter_relative_to_the_start(make: Callable[..., Learner]) -> None:
    learner = make()
    learner.train(1)

    assert update(learner).adapter(make().own()).vector().tolist() == pytest.approx(learner.own().vector().tolist())
    assert len(learner.encode("bf16")) <= learner.max_blob_bytes["bf16"]


def test_what_does_not_fit_is_refused_with_a_word(make: Callable[..., Learner]) -> None:
    learner = make()
    huge = random_update(learner, 100.0).delta

    blob = encode_update(huge, Adapter({n: torch.zeros_like(t) for n, t in huge.tensors.items()}), _fp32())

    for answer in (learner.admit(blob, "fp32"), learner.admit(b"nonsense", "fp32"), learner.admit(blob, "telepathy")):
        assert isinstance(answer, Refusal)
    assert isinstance(make(max_norm=1e6).admit(blob, "fp32"), LoraUpdate)


def _fp32() -> Any:
    from p2pfinetune.codec import CODECS

    return CODECS.make("fp32")


def test_the_bound_on_norms_is_far_above_what_training_gives(make: Callable[..., Learner]) -> None:
    learner = make()
    learner.train(20)

    assert update(learner).delta.norm() < 0.2 * default_max_norm(learner.own().schema)


def test_each_neighbour_is_run_once_and_the_progress_ends(make: Callable[..., Learner], monkeypatch: Any) -> None:
    from p2pfinetune.round import context
    from p2pfinetune.round import own_measures as module

    runs: list[str] = []

    def counting(evaluate: Any, name: str) -> Any:
        return lambda model, adapters, *rest, **named: (
            runs.extend([name] * len(adapters)),
            evaluate(model, adapters, *rest, **named),
        )[1]

    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(4)
    learner = make(trust="validation")
    learner.train(1)
    monkeypatch.setattr(context, "evaluate_together", counting(context.evaluate_together, "trust"))
    monkeypatch.setattr(module, "evaluate_together", counting(module.evaluate_together, "guard"))
    seen: list[tuple[int, int]] = []

    ended = learner.collaborate({FRIEND: update(teacher)}, on_progress=lambda done, total: seen.append((done, total)))

    assert ended.accepted
    assert runs.count("trust") == 4  # me, the friend, half of each, and the merge
    assert runs.count("guard") == 3  # me, the merge and, once for each text, the base on the trust split
    assert seen[0] == (1, 4)
    assert seen[-1] == (4, 4)
    runs.clear()
    learner.collaborate({FRIEND: update(teacher)})
    assert runs.count("guard") == 2


def test_each_figure_says_what_it_rests_on_and_how_far_the_personal_model_is_from_base_and_twin(
    make: Callable[..., Learner],
) -> None:
    teacher, learner = make(), make(twin=True, trust="uniform")
    teacher.train(12)
    learner.train(3)

    ended = learner.collaborate({FRIEND: update(teacher)})

    guard, trust = learner.evaluate("guard", "personal"), learner.evaluate("trust", "personal")
    assert (ended.figures.on_guard.tokens, ended.figures.on_guard.documents) == (guard.tokens, guard.documents)
    assert (ended.figures.on_trust.tokens, ended.figures.on_trust.windows) == (trust.tokens, len(trust.per_window))
    assert ended.figures.on_guard.against_base.nats == pytest.approx(
        ended.figures.guard_personal - ended.figures.guard_base
    )
    assert ended.figures.on_guard.against_twin is not None
    assert ended.figures.on_guard.against_twin.nats == pytest.approx(
        ended.figures.guard_personal - (ended.figures.guard_twin or 0.0)
    )
    assert ended.figures.on_trust.against_base.nats == pytest.approx(
        trust.loss - learner.evaluate("trust", "base").loss
    )
    assert ended.figures.on_trust.against_twin is None
    assert ended.figures.on_guard.against_own.nats == pytest.approx(guard.loss - learner.evaluate("guard", "own").loss)
    read = 3 * learner.training.batch_size * learner.training.context
    assert ended.figures.readings == pytest.approx(read / len(learner._corpus.train.tokens))
    assert make().collaborate({}).figures.on_guard.against_twin is None


def test_a_round_that_returned_to_the_best_compares_the_best(make: Callable[..., Learner]) -> None:
    learner = make(tolerance=0.0)
    learner.train(4)
    learner.collaborate({})
    learner.admit(learner.encode("fp32"), "fp32")
    learner._trainer.set_adapter(random_update(learner, 1.0).adapter(learner.adapter("base")))

    ended = learner.collaborate({})

    assert ended.reason == "returned-to-best"
    assert ended.figures.on_guard.against_base.nats == pytest.approx(
        ended.figures.guard_personal - ended.figures.guard_base
    )


def test_similarity_is_of_products_where_the_rule_merges_products(make: Callable[..., Learner]) -> None:
    on_products = [name for name in RULES.names() if RULES.find(name).on_products]

    assert make(trust="weight-similarity")._scheme.of == "factors"
    for name in on_products:
        assert make(trust="weight-similarity", merge=name)._scheme.of == "products"
        chosen = make(trust="weight-similarity", merge=name, trust_options={"of": "factors"})
        assert chosen._scheme.of == "factors"


def test_a_rule_that_turns_the_gauge_resets_the_moments(make: Callable[..., Learner]) -> None:
    teacher = make(corpus(seed=1), FRIEND)
    teacher.train(12)
    for name in RULES.names():
        learner = make(trust="uniform", merge=name)
        learner.train(1)

        assert learner.collaborate({FRIEND: update(teacher)}).accepted
        assert (learner._trainer.state().counts["moment_steps"] == 0) == RULES.find(name).resets_moments


def test_three_models_continue_a_prompt(make: Callable[..., Learner]) -> None:
    learner = make(training=structs.replace(OPTIONS.training, lr=0.5))
    learner.train(3)

    texts = {
        which: learner.generate("the quick", which, max_tokens=8, temperature=0.0, seed=0)
        for which in ("base", "own", "personal")
    }

    assert texts["personal"] == texts["base"] != texts["own"]


def test_what_was_trained_before_the_configuration_was_part_of_the_network_goes_on(
    make: Callable[..., Learner], tmp_path: Path
) -> None:
    old, new, other = make(), make(), make()
    old.train(4)
    old.collaborate({})
    old.network = old._formerly()
    old.save(tmp_path / "saved")
    old.save_best(tmp_path / "best")

    new.restore(tmp_path / "saved")
    new.restore_best(tmp_path / "best", old.best_guard)
    assert new.network != old.network
    assert new.personal().equals(old.personal())
    other._group = "another"
    for restore in (lambda: other.restore(tmp_path / "saved"), lambda: other.restore_best(tmp_path / "best", 1.0)):
        with pytest.raises(CheckpointError, match="another network") as caught:
            restore()
        assert "config.json" in caught.value.hint


def test_the_personal_adapter_is_exported(make: Callable[..., Learner], tmp_path: Path) -> None:
    from p2pfinetune.model.peft_folder import import_folder

    learner = make()
    learner.train(1)
    learner.collaborate({})

    learner.export(tmp_path / "folder")

    assert import_folder(tmp_path / "folder")[1].equals(learner.personal())


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": -1.0},
        {"max_share": 0.0},
        {"max_share": 1.5},
        {"max_share": math.nan},
        {"max_norm": -1.0},
        {"trust": "hope"},
        {"merge": "hope"},
        {"trust_options": {"x": 1}},
    ],
)
def test_options_out_of_range_are_refused(make: Callable[..., Learner], wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        make(**wrong)


PEERS = [PeerId(f"peer{i}") for i in range(4)]


@pytest.fixture(scope="module")
def two_languages(
    tiny_base: Base, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[PeerId, str], dict[PeerId, float]]:
    """Peers 0 and 1 speak one language, 2 and 3 another; a function from peer and scheme to the trust row."""
    folder = tmp_path_factory.mktemp("peers")
    training = TrainingOptions(batch_size=4, context=32, lr=2e-2)
    updates = {}

    def open_learner(peer: PeerId, scheme: str) -> Learner:
        text, options = (
            corpus(PEERS.index(peer) // 2, PEERS.index(peer)),
            structs.replace(OPTIONS, training=training, trust=scheme, second_look=False),  # the scheme's own row
        )
        return Learner(tiny_base, text, options, me=peer, group="test")

    for peer in PEERS:
        learner = open_learner(peer, "local")
        learner.train(25)
        learner.save(folder / peer)
        updates[peer] = update(learner)

    def row(peer: PeerId, scheme: str) -> dict[PeerId, float]:
        learner = open_learner(peer, scheme)
        learner.restore(folder / peer)
        return dict(learner.collaborate({p: u for p, u in updates.items() if p != peer}).row.weights)

    return row


@pytest.mark.parametrize("scheme", ["validation", "prediction-similarity", "weight-similarity"])
def test_of_two_languages_each_peer_trusts_the_peer_of_its_own(two_languages: Any, scheme: str) -> None:
    for i in (0, 3):
        weights = two_languages(PEERS[i], scheme)

        friend, one, other = (PEERS[j] for j in (i ^ 1, i ^ 2, i ^ 3))
        assert weights[friend] > max(weights[one], weights[other])
