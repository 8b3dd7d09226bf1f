"""Models so small that they start in milliseconds. What needs families of them is in tests/families and tests/p2pfinetune."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.texts import WORDS

END = "<|end|>"


def tiny_tokenizer(text: Iterable[str], entries: int) -> Any:
    """A byte-level one."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(text, vocab_size=entries, min_frequency=1, show_progress=False, special_tokens=[END])
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token=END, bos_token=END)


def random_model(family: str, entries: int, seed: int = 0, **shape: Any) -> Any:
    """Weights by dice; the dice of the test stay as they are."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, vocab_size=entries, **ends, **shape))


def make_model(folder: Path) -> Path:
    """A random Llama of some ten thousand parameters, and its tokenizer, as a folder."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tiny_tokenizer([" ".join(words) for words in WORDS.values()], 300).save_pretrained(folder)
    random_model("llama", 300, max_position_embeddings=64, **shape).save_pretrained(folder)
    return folder


def make_tiniest_model(folder: Path) -> Path:
    """One layer, sixteen numbers wide, for tests that train within milliseconds."""
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    tiny_tokenizer(WORDS["water"], 290).save_pretrained(folder)
    random_model("llama", 290, max_position_embeddings=32, **shape).save_pretrained(folder)
    return folder
