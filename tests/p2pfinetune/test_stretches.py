"""Conversations in blocks and windows: whole answers, each counted token once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.data.stretches import answers, stretches
from p2pfinetune.data.tokens import TokenDocument
from p2pfinetune.errors import TooLittleText
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.scoring.evaluate import PADDING, divided, evaluate, measure_of
from p2pfinetune.training.batches import UNCOUNTED, Blocks
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import AdamW

CPU = torch.device("cpu")


def marked(*lengths: int) -> np.ndarray:
    """By turns not counted and counted, so many of each."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


turns = st.lists(st.integers(1, 14), min_size=2, max_size=9)
plain = st.integers(0, 20)


@st.composite
def splits(draw: st.DrawFn) -> TokenSplit:
    """Conversations and other text; every token is different, so that its place can be told."""
    shapes = draw(st.lists(st.one_of(turns, plain), min_size=1, max_size=8).filter(any))
    documents, begin = [], 1
    for shape in shapes:
        counted = marked(*shape) if isinstance(shape, list) else None
        size = shape if isinstance(shape, int) else len(counted)
        documents.append(TokenDocument(np.arange(begin, begin + size, dtype=np.uint16), counted))
        begin += size
    return TokenSplit.of(documents)


@given(splits(), st.integers(1, 30), st.integers(0, 3), st.integers(0, 2))
@settings(deadline=None)
def test_every_counted_token_of_a_conversation_is_learnt_once_an_epoch_and_nothing_else(split, context, seed, epoch):
    if len(split.tokens) < 2:
        return
    try:
        blocks = Blocks(split, context, seed)
    except TooLittleText:
        return
    batch = blocks.batch(epoch * blocks.per_epoch, blocks.per_epoch)

    learnt = np.sort(batch.targets_bt[batch.targets_bt != UNCOUNTED].numpy())
    counted = split.tokens if split.counted is None else split.tokens[split.counted]
    talks = [i for i in range(split.documents) if split.marks(i) is not None]
    spoken = np.concatenate([split.document(i)[split.marks(i)] for i in talks] or [np.empty(0, np.int64)])

    assert len(np.unique(learnt)) == len(learnt) == batch.tokens
    assert np.isin(learnt, counted).all()
    assert np.isin(spoken, learnt).all()
    if talks:  # of other text all but the first of the order, which nothing stands before
        assert len(learnt) >= len(counted) - 1
    follows = (batch.targets_bt == batch.inputs_bt + 1) | (batch.targets_bt == UNCOUNTED)
    assert follows.all() or len(talks) < split.documents  # running text goes on with another document


@given(turns, st.integers(1, 40))
@settings(deadline=None)
def test_no_answer_that_fits_is_cut_and_each_has_as_much_of_its_question_as_fits(lengths, context):
    counted = marked(*lengths)
    found = stretches(counted, context)

    assert all(0 <= begin < first < stop <= begin + context + 1 for begin, first, stop in found)
    if len(counted) <= context + 1:
        assert len(found) == bool(counted.any())
    since = 0
    for first, stop in answers(counted):
        holding = [one for one in found if one.first <= first and stop <= one.stop]
        if stop - first <= context:
            assert len(holding) == 1
            assert holding[0].begin <= max(since, stop - context - 1)
        since = stop


def test_a_split_of_questions_alone_has_nothing_to_train_on():
    split = TokenSplit.of([TokenDocument(np.arange(9, dtype=np.uint16), np.zeros(9, np.bool_))])

    with pytest.raises(TooLittleText, match="no answer"):
        Blocks(split, 4, 0)
    assert measure_of(split, context=4, vocabulary=10).tokens == 0


@pytest.fixture(scope="module")
def mixed() -> TokenSplit:
    """Two notes and eleven conversations, some longer than the context of 16."""
    dice = np.random.default_rng(3)
    shapes = [marked(*dice.integers(1, 9, 2 * dice.integers(1, 4))) for _ in range(10)] + [marked(3, 30)]
    talks = [TokenDocument(dice.integers(1, 90, len(counted)).astype(np.uint16), counted) for counted in shapes]
    notes = [TokenDocument(dice.integers(1, 90, 40).astype(np.uint16)) for _ in range(2)]
    return TokenSplit.of([*notes, *talks])


@pytest.mark.numeric
def test_a_step_is_the_mean_over_answers_alone_by_itself_and_in_company(tiny_base: Base, mixed: TokenSplit) -> None:
    options = TrainingOptions(context=16, batch_size=3, accumulation=2, lr=1e-2, seed=3)
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    batch = Blocks(mixed, 16, 3).batch(0, 6)
    assert 0 < batch.tokens < batch.targets_bt.numel()
    with torch.no_grad():
        logits = tiny_base.model(input_ids=batch.inputs_bt).logits.flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch.targets_bt.flatten())

    alone = AdamW().trainer(adapted, mixed, options)
    both = [AdamW().trainer(adapted, mixed, structs.replace(options, seed=seed)) for seed in (3, 4)]
    report = alone.run(2)[0]
    reports = train_together(both, 2)

    assert (report.tokens, report.loss) == (batch.tokens, pytest.approx(float(expected), rel=1e-5))
    assert reports[0][0].tokens == batch.tokens
    assert reports[0][0].loss == pytest.approx(report.loss, rel=1e-5)
    assert reports[1][0].tokens == Blocks(mixed, 16, 4).batch(0, 6).tokens
    for name, tensor in alone.adapter.tensors.items():
        torch.testing.assert_close(both[0].adapter.tensors[name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.numeric
def test_scores_are_of_answers_alone_however_windows_run(tiny_base: Base, mixed: TokenSplit) -> None:
    measure = measure_of(mixed, context=16, vocabulary=100)
    counted = int(np.count_nonzero(mixed.counted)) - 2  # the first of each note is predicted from nothing
    assert measure.tokens == counted == sum(int((b.targets_bt != PADDING).sum()) for b in measure.batches)

    adapted = attach(tiny_base, AdapterSpec(rank=2))
    one = evaluate(adapted.model, measure, CPU)
    (other,) = evaluate_together(adapted, [adapted.initial], measure, CPU)
    parts = [evaluate(adapted.model, part, CPU) for part in divided(measure, 4)]

    assert sum(part.tokens for part in parts) == counted
    np.testing.assert_allclose(other.per_window, one.per_window, atol=5e-5)
    np.testing.assert_allclose(np.concatenate([part.per_window for part in parts]), one.per_window, rtol=1e-5)
    few = measure_of(mixed, context=16, vocabulary=100, max_tokens=50)
    assert 0 < few.tokens <= 50
