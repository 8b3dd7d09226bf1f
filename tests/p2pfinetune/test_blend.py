"""A mixture of predictions: weights, what is served, what is said, restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.batched.by_token import losses_by_token
from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.blend import (
    CANDIDATES,
    LEAST,
    MEMBERS,
    PERSONAL,
    Blend,
    blend_of,
    chosen,
    learned,
    mixed,
    most_trusted,
)  # fmt: skip
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.serving import Serving
from p2pfinetune.round.speaker import Speaker
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.scoring.evaluate import measure_of
from p2pfinetune.speech import Piece, Sampling

SPEC = AdapterSpec(rank=2, alpha=4)
ME, FRIEND = PeerId("me"), PeerId("friend")
OPTIONS = LearnerOptions(spec=SPEC, training=TrainingOptions(batch_size=2, context=16, lr=5e-2), max_share=0.2)
DICE = np.random.default_rng(5)


def some(adapted: AdaptedModel, count: int) -> list[Adapter]:
    dice = torch.Generator().manual_seed(1)
    return [
        Adapter({n: 0.3 * torch.randn(s, generator=dice) for n, s in adapted.initial.schema.items()})
        for _ in range(count)
    ]


def corpus(seed: int = 0) -> Corpus:
    """Random walks of one language: every token has three successors."""
    successors = np.random.default_rng(0).integers(1, 320, (320, 3))
    dice = np.random.default_rng([1, seed])

    def walk() -> np.ndarray[Any, Any]:
        steps = [int(dice.integers(1, 320))]
        while len(steps) < 40:
            steps.append(int(successors[steps[-1], dice.integers(3)]))
        return np.array(steps, np.uint16)

    train, trust, guard, test = ([walk() for _ in range(count)] for count in (8, 6, 6, 6))
    return of_documents(train, trust, guard, test, fingerprint=str(seed))


def of_documents(*splits: Any, fingerprint: str) -> Corpus:
    return Corpus(*map(TokenSplit.of, splits), report=None, fingerprint=fingerprint)  # type: ignore[arg-type]


def held_out_of(text: Corpus) -> Corpus:
    """Whose training text is what the other is judged by: a neighbour who knows more than any mean of the two."""
    known = [split.document(i) for split in (text.trust, text.guard) for i in range(split.documents)]
    return of_documents(known, known, known, known, fingerprint="held out")


def update(learner: Learner) -> LoraUpdate:
    admitted = learner.admit(learner.encode("fp32"), "fp32")
    assert isinstance(admitted, LoraUpdate)
    return admitted


def losses(*means: float, tokens: int = 400) -> np.ndarray[Any, Any]:
    return np.stack([DICE.exponential(mean, tokens) for mean in means])


def test_a_mixture_gives_each_token_the_weighted_mean_of_its_probabilities() -> None:
    losses_kn, weights_k = np.array([[1.0, 900.0], [2.0, 1000.0]]), np.array([0.25, 0.75])

    assert mixed(losses_kn, weights_k)[0] == pytest.approx(-np.log(0.25 * np.exp(-1.0) + 0.75 * np.exp(-2.0)))
    assert mixed(losses_kn, weights_k)[1] == pytest.approx(900.0 - np.log(0.25)), "probabilities of zero in fp64"


def test_no_weights_of_a_fine_grid_are_likelier_than_the_learnt_ones() -> None:
    losses_kn = losses(1.0, 1.1, 1.4)
    grid = [np.array([a, b, 1.0 - a - b]) for a in np.linspace(0, 1, 41) for b in np.linspace(0, 1 - a, 41)]

    best = min(mixed(losses_kn, np.maximum(w, 1e-12)).mean() for w in grid)

    assert mixed(losses_kn, learned(losses_kn, prior=0.0)).mean() <= best + 1e-6


def test_a_small_split_chooses_less_sharply_than_a_large_one_of_the_same_text() -> None:
    few = losses(1.0, 2.5, tokens=30)
    many = np.tile(few, 50)

    assert 0.5 < learned(few)[0] < learned(many)[0]


def test_no_neighbour_weighs_more_than_in_a_merge_and_the_rest_is_the_personal_ones(tiny_base: Base) -> None:
    personal, friend = some(attach(tiny_base, SPEC), 2)
    made = blend_of(personal, personal, {"f": friend}, lambda _: (losses(3.0, 0.5), losses(3.0, 0.5)), 0.4)

    assert made is not None
    assert made.weights == {PERSONAL: pytest.approx(0.6), "f": pytest.approx(0.4)}


def test_who_is_not_worth_a_pass_is_left_out_and_without_company_there_is_no_mixture(tiny_base: Base) -> None:
    personal, friend, stranger = some(attach(tiny_base, SPEC), 3)
    both = np.concatenate([losses(1.0, 1.0, tokens=4000), np.full((1, 4000), 30.0)])

    made = blend_of(personal, personal, {"f": friend, "s": stranger}, lambda _: (both, both))

    assert made is not None
    assert [*made.members] == [PERSONAL, "f"]
    assert min(made.weights.values()) >= LEAST
    assert blend_of(personal, personal, {"s": stranger}, lambda _: (both[::2], both[::2])) is None
    assert blend_of(personal, personal, {}, lambda _: pytest.fail("nothing to measure")) is None
    assert blend_of(personal, personal, {"f": friend}, lambda _: (both[:2] * np.nan, both[:2])) is None


def test_each_split_judges_the_weights_that_the_other_has_taught(tiny_base: Base) -> None:
    personal, friend = some(attach(tiny_base, SPEC), 2)
    trust, guard = losses(2.0, 0.5), losses(0.5, 2.0)  # the friend is good on the one and bad on the other

    made = blend_of(personal, personal, {"f": friend}, lambda _: (trust, guard))

    assert made is not None
    on_guard, on_trust = mixed(guard, learned(trust)), mixed(trust, learned(guard))
    assert made.loss == pytest.approx(on_guard.mean())
    assert made.gain == pytest.approx(np.concatenate([trust[0] - on_trust, guard[0] - on_guard]).mean())
    assert made.loss > guard[0].mean()


def test_who_adds_something_is_preferred_to_who_is_alike() -> None:
    """The alike has nearly the loss of the personal adapter at every token; the other is worse in all, and otherwise."""
    mine = losses(1.0)[0]
    alike, other = 0.99 * mine, mine[::-1] + 0.3

    weights_k = chosen(np.stack([mine, alike, other]), np.ones(3), members=2)

    assert weights_k[1] == 0.0
    assert weights_k[2] > 0.2


def test_a_mixture_has_a_few_members_however_many_candidates() -> None:
    weights_k = chosen(losses(*[1.0] * 7), np.full(7, 0.4))

    assert int((weights_k > 0.0).sum()) == MEMBERS
    assert weights_k.sum() == pytest.approx(1.0)


def test_candidates_are_those_that_the_row_weighs_most() -> None:
    peers = {PeerId(f"{i:02}"): f"{i:02}" for i in range(12)}
    row = TrustRow({ME: 0.45, **{peer: (0.1 if i in {3, 5} else 0.035) for i, peer in enumerate(peers)}})

    found = most_trusted(row, ME, peers)  # type: ignore[arg-type]

    assert [*found][:3] == ["03", "05", "00"]
    assert len(found) == CANDIDATES
    assert most_trusted(TrustRow({ME: 1.0, PeerId("00"): 0.0}), ME, peers) == {}  # type: ignore[arg-type]


@pytest.mark.numeric
@pytest.mark.parametrize("packs", [True, False])
def test_losses_by_token_add_up_to_those_by_window(tiny_base: Base, packs: bool) -> None:
    adapted = attach(tiny_base, SPEC)
    stack, measure = AdapterStack(adapted), measure_of(corpus().trust, context=16, vocabulary=320)
    stack.__dict__["packs"] = packs
    adapters = some(adapted, 3)

    losses_kn, window_n = losses_by_token(stack, adapters, measure)

    whole = evaluate_together(adapted, adapters, measure, torch.device("cpu"))
    for mine, one in zip(losses_kn, whole, strict=True):
        sums_w = np.bincount(window_n, weights=mine)
        np.testing.assert_allclose(sums_w / one.per_window_tokens, one.per_window, atol=5e-5)


@pytest.mark.numeric
def test_a_mixture_says_what_the_mean_of_probabilities_says(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    members = dict(zip((PERSONAL, "f"), some(adapted, 2), strict=True))
    blend = Blend(members, {PERSONAL: 0.3, "f": 0.7})
    sampling = Sampling(max_tokens=1, choices=3)

    said = [*Speaker(tiny_base, SPEC).respond(blend, "the river", sampling)]

    (chance,) = next(one for one in said if isinstance(one, Piece)).chances
    ids = torch.tensor([tiny_base.tokenizer("the river")["input_ids"]])
    likely = []
    for adapter in members.values():
        write(adapted, adapter)
        with torch.inference_mode():
            likely.append(adapted.model(ids).logits[0, -1].softmax(dim=0))
    expected = 0.3 * likely[0] + 0.7 * likely[1]
    assert np.exp([one.logprob for one in chance.top]) == pytest.approx(expected.topk(3).values.numpy(), rel=1e-4)
    alone = [*Speaker(tiny_base, SPEC).respond(members["f"], "the river", sampling)]
    assert said.count(None) == alone.count(None) + 1, "a pass of each member, and a value for each pass"


@pytest.fixture(scope="module")
def mixing(tiny_base: Base) -> Callable[..., Learner]:
    def make(me: PeerId = ME, **changes: Any) -> Learner:
        options = structs.replace(OPTIONS, **{"serve": "mixture", **changes})
        text = corpus() if me == ME else held_out_of(corpus())
        return Learner(tiny_base, text, options, me=me, group="test")

    return make


@pytest.fixture(scope="module")
def after_a_round(mixing: Callable[..., Learner], tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, Path]:
    """With a friend that knows more than may weigh in a merge; and its checkpoint."""
    learner, friend = mixing(), mixing(FRIEND)
    learner.train(20)
    friend.train(60)
    learner.collaborate({FRIEND: update(friend)})
    path = tmp_path_factory.mktemp("state") / "it"
    learner.save(path)
    return learner, path


@pytest.fixture
def served(mixing: Callable[..., Learner], after_a_round: tuple[Learner, Path]) -> Learner:
    again = mixing()
    again.restore(after_a_round[1])
    return again


def test_what_is_served_is_the_mixture_and_no_worse_where_it_is_judged(served: Learner) -> None:
    assert served.served == "mixture"
    assert served.evaluate("guard", "served").loss < served.evaluate("guard", "personal").loss
    assert served.evaluate("test", "served").loss != served.evaluate("test", "personal").loss
    both = served.evaluate_on(served.measure(served.split("test")), ["personal", "served"])
    assert both["served"].loss == served.evaluate("test", "served").loss


def test_a_mixture_speaks_and_an_export_is_the_best_single_adapter(served: Learner) -> None:
    told: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "seed": 3}

    assert served.generate("the river", "served", **told) != served.generate("the river", "personal", **told)
    assert served.exported == "personal"
    assert served.adapter("served") is served.personal()


def test_a_mixture_outlives_a_restart_unless_it_is_wanted_no_more(
    mixing: Callable[..., Learner], served: Learner, after_a_round: tuple[Learner, Path]
) -> None:
    before, path = after_a_round
    plain = mixing(serve="adapter")
    plain.restore(path)

    assert served.served == before.served == "mixture"
    assert served.evaluate("test", "served").loss == before.evaluate("test", "served").loss
    assert plain.served == "personal"
    assert plain.evaluate("test", "served").loss == served.evaluate("test", "personal").loss


def test_a_round_that_hears_nobody_keeps_the_neighbours_of_the_last(served: Learner) -> None:
    served.train(2)
    alone = served.collaborate({})

    assert alone.figures.guard_mixture is not None
    assert alone.figures.guard_mixture < alone.figures.guard_personal


def test_with_other_text_the_mixture_is_forgotten_until_the_next_round(served: Learner) -> None:
    served.reread(replace(corpus(seed=3), fingerprint="other"))

    assert served.served == "personal"
    assert served.evaluate("test", "served").loss == served.evaluate("test", "personal").loss


def test_without_the_option_nothing_is_mixed_or_measured(mixing: Callable[..., Learner]) -> None:
    learner, friend = mixing(serve="adapter"), mixing(FRIEND)
    friend.train(2)

    assert learner.collaborate({FRIEND: update(friend)}).figures.guard_mixture is None
    assert learner.served == "personal"


@pytest.mark.parametrize(
    ("gain", "loss", "has_parted", "served"),
    [
        (0.01, 3.0, False, "mixture"),
        (-0.01, 2.0, False, "personal"),
        (0.01, 3.0, True, "personal"),
        (0.01, 2.0, True, "mixture"),
    ],
)
def test_a_mixture_is_served_if_it_is_no_worse_crosswise_and_not_behind_a_twin(
    after_a_round: tuple[Learner, Path], gain: float, loss: float, has_parted: bool, served: str
) -> None:
    """The personal adapter has 2.5 on the guard split, the twin at its best 2.6."""
    learner = after_a_round[0]
    serving = Serving(AdapterStack(learner._adapted), structs.replace(OPTIONS, serve="mixture"))
    members = {PERSONAL: learner.personal(), "f": learner.own()}
    serving.blend = Blend(members, {PERSONAL: 0.5, "f": 0.5}, loss=loss, gain=gain)
    twin: Any = SimpleNamespace(trainer=object() if has_parted else None, best_loss=2.6)

    assert serving.choose(2.5, 2.5, twin) == serving.which == served
    assert serving.adapter == "personal"
