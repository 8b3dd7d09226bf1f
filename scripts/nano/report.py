"""How good the embedded model is: `python -m scripts.nano.report --data DIR`.

Bits per byte against the 260,000-parameter model in DIR/stories260k, on text that neither was trained on (see `bits`
for how windows are laid), and how both go on from the same beginnings. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.nano import folder
from scripts.nano import corpus
from scripts.nano.bits import Score, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLE_BYTES = 200_000  # of each set: a standard error well below a hundredth of a bit per byte
PROMPTS = ("The old house stood at the end of the", "This PEP proposes", "She turned to the window and said,")
CONTINUATION = 60  # tokens
TEMPERATURE = 0.8
SEED = 1


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model with its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load(name: str, path: Path) -> Contestant:
    """A Hugging Face folder, in fp32 and evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return Contestant(name, model, AutoTokenizer.from_pretrained(path))


def unseen(data: Path, limit: int) -> dict[str, list[str]]:
    """About `limit` characters each of the held-out novels and PEPs, WikiText-2 (test) and Shakespeare."""
    held_out = list(corpus.read(data, "held-out"))
    sets = {
        f"held-out {source}": middles([text.text for text in held_out if text.source == source], limit)
        for source in corpus.SOURCES
    }
    wiki = (data / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    with (data / "shakespeare" / "by_speaker.jsonl").open(encoding="utf-8") as lines:
        speeches = ["\n\n".join(json.loads(line)["turns"]) for line in lines]
    return sets | {"WikiText-2 test": middles([wiki], limit), "Shakespeare": middles(speeches[:20], limit)}


def middles(texts: Sequence[str], limit: int) -> list[str]:
    """An equal piece from the middle of each text: beginnings are title pages."""
    each = limit // max(1, len(texts))
    pieces = []
    for text in texts:
        begin = max(0, (len(text) - each) // 2)
        pieces.append(text[begin : begin + each])
    return [piece for piece in pieces if piece]


def continuation(contestant: Contestant, prompt: str) -> str:
    """How the model goes on, drawn at TEMPERATURE with a fixed seed."""
    import torch

    ids = contestant.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    first = torch.tensor([[contestant.tokenizer.bos_token_id]])
    ids = torch.cat([first, ids], dim=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        out = contestant.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=CONTINUATION,
            do_sample=True,
            temperature=TEMPERATURE,
            pad_token_id=contestant.tokenizer.eos_token_id,
        )
    return str(contestant.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def table(results: Mapping[str, Mapping[str, Score]]) -> str:
    """A line for each set, a column for each model: bits per byte and, in brackets, bytes per token."""
    names = list(next(iter(results.values())))
    lines = [f"{'bits per byte':<18}" + "".join(f"{name:>24}" for name in names)]
    for text, scores in results.items():
        cells = (f"{scores[name].bits_per_byte:.3f} ({scores[name].bytes_per_token:.2f})" for name in names)
        lines.append(f"{text:<18}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def compare(contestants: Sequence[Contestant], sets: Mapping[str, list[str]]) -> dict[str, dict[str, Score]]:
    """Every model on every set, with progress on standard error."""
    results: dict[str, dict[str, Score]] = {}
    for name, texts in sets.items():
        results[name] = {}
        for contestant in contestants:
            progress = Progress(f"{name}, {contestant.name}", sum(len(text.encode()) for text in texts))
            results[name][contestant.name] = score(
                contestant.model, contestant.tokenizer, texts, on_progress=progress.advance
            )
    return results


@dataclass(slots=True)
class Progress:
    """One line on standard error: rewritten on a terminal, written once elsewhere."""

    label: str
    total: int
    done: int = 0

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        self.done += size
        end = "\n" if self.done >= self.total else ""
        if end or sys.stderr.isatty():
            start = "\r" if sys.stderr.isatty() else ""
            print(f"{start}{self.label}: {self.done / self.total:4.0%}", end=end, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with novels, peps, wikitext2, stories260k ...")
    parser.add_argument("--model", type=Path, default=folder(), help="model folder to report on")
    parser.add_argument("--bytes", type=int, default=SAMPLE_BYTES, help="text of each set to score")
    options = parser.parse_args(arguments)
    contestants = [load("nano", options.model), load("stories260k", options.data / "stories260k")]
    print("Non-overlapping windows of the model's context; in brackets: bytes a token.\n")
    for contestant in contestants:
        context = contestant.model.config.max_position_embeddings
        print(f"{contestant.name}: {contestant.parameters:,} parameters, context {context} tokens")
    print("\n" + table(compare(contestants, unseen(options.data, options.bytes))))
    for prompt in PROMPTS:
        for contestant in contestants:
            print(f"\n[{contestant.name}] {prompt}|{continuation(contestant, prompt)}")


if __name__ == "__main__":
    main()
