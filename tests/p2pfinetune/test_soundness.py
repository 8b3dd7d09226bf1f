"""What a base model has to be, found out when it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import ModelError
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.soundness import check_loss, check_passes, check_text, check_tokens, rows_of, share_seen

ROWS = 320


@pytest.fixture
def copy_of(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(family: str) -> Path:
        return Path(shutil.copytree(tiny_folder(family), tmp_path / family))

    return copy


def with_token(folder: Path, number: int, *, special: bool) -> Path:
    """One more token in the tokenizer, with this id."""
    path, token = folder / "tokenizer.json", "<more>" if special else "more more"
    content = json.loads(path.read_text())
    added = {"content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"].append({"id": number, "special": special, **added})
    content["model"]["vocab"][token] = number
    path.write_text(json.dumps(content))
    return folder


def bert(*, is_decoder: bool) -> BertLMHeadModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        return BertLMHeadModel(BertConfig(vocab_size=ROWS, is_decoder=is_decoder, **sizes)).eval()


def test_a_model_that_sees_what_comes_after_is_refused_and_the_same_with_a_mask_is_not() -> None:
    with pytest.raises(ModelError, match="words that come after") as caught:
        check_passes("bert", bert(is_decoder=False))
    assert "causal language model" in caught.value.hint

    check_passes("bert", bert(is_decoder=True))


def test_one_that_sees_a_little_of_the_future_is_told_from_rounding() -> None:
    dice = torch.Generator().manual_seed(0)
    one, other = torch.randn((16, 8), generator=dice), torch.randn((16, 8), generator=dice)
    rounded, leaks = torch.cat([one[:8] + 1e-6, other[8:]]), torch.cat([one[:8] + 1e-3 * other[:8], other[8:]])

    assert share_seen(one, rounded) < 1e-5
    assert share_seen(one, leaks) > 5e-4


def test_a_model_that_gives_no_numbers_is_refused(copy_of: Callable[[str], Path]) -> None:
    weights = copy_of("llama") / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})

    with pytest.raises(ModelError, match="NaN") as caught:
        load_base(str(weights.parent), device="cpu")
    assert "--precision fp32" in caught.value.hint


def test_a_model_that_cannot_be_run_is_refused_by_its_family(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise ImportError("kernels are missing")

    monkeypatch.setattr(tiny_base.model, "forward", fails)

    with pytest.raises(ModelError, match="a llama model, cannot be run: kernels are missing"):
        check_passes("mine", tiny_base.model)


def test_a_lack_of_memory_is_no_fault_of_the_model(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tiny_base.model, "forward", fails)

    with pytest.raises(RuntimeError, match="allocate"):
        check_passes("mine", tiny_base.model)


def test_a_model_that_changes_while_it_runs_is_refused(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, weight = tiny_base.model.forward, next(tiny_base.model.parameters())

    def changing(**given: object) -> object:
        weight.mul_(1.0)
        return plain(**given)

    monkeypatch.setattr(tiny_base.model, "forward", changing)

    with pytest.raises(ModelError, match="changes its own weights"):
        check_passes("mine", tiny_base.model)


def test_a_tokenizer_longer_than_the_model_is_refused_by_its_first_such_token(copy_of: Callable[[str], Path]) -> None:
    folder = with_token(copy_of("llama"), ROWS, special=False)

    with pytest.raises(ModelError, match=r"one of its tokens lies beyond the 320 .* 'more more' \(320\)") as caught:
        load_base(str(folder), device="cpu")
    assert "resize_token_embeddings" in caught.value.hint


def test_a_special_token_beyond_the_model_is_fine_since_no_text_becomes_one(copy_of: Callable[[str], Path]) -> None:
    base = load_base(str(with_token(copy_of("llama"), ROWS, special=True)), device="cpu")

    assert max(base.tokenizer.get_vocab().values()) == rows_of(base.model) == ROWS


def test_more_rows_than_tokens_are_fine(tiny_base: Base) -> None:
    assert max(tiny_base.tokenizer.get_vocab().values()) < rows_of(tiny_base.model) - 1
    check_tokens("mine", tiny_base.model, tiny_base.tokenizer)


def test_a_text_with_tokens_beyond_the_model_is_refused_before_a_step_is_taken_on_it(tiny_base: Base) -> None:
    fits, beyond = (TokenSplit.of([np.array([1, last], np.uint16)]) for last in (ROWS - 1, ROWS))
    texts = [Corpus(fits, fits, split, fits, report=None, fingerprint="") for split in (fits, beyond)]  # type: ignore[arg-type]

    check_text("mine", tiny_base.model, texts[0])
    with pytest.raises(ModelError, match="the text holds token 320, and mine knows 320"):
        check_text("mine", tiny_base.model, texts[1])


def test_a_base_without_a_loss_on_the_users_text_is_refused() -> None:
    check_loss("mine", 3.0)

    for loss in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match="no number") as caught:
            check_loss("mine", loss)
        assert "--precision fp32" in caught.value.hint
