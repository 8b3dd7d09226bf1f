"""From rows of JSON to what a real small model says when it is asked, by its own template."""

import json

import pytest
import torch

from p2pfinetune.data.chats.marking import prompt_ids
from p2pfinetune.data.chats.turns import ChatTurn
from p2pfinetune.data.corpus import read_loose
from p2pfinetune.model.adapter import attach, write
from p2pfinetune.model.base import load_base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.scoring.evaluate import evaluate, measure_of
from p2pfinetune.training.trainers.adamw import AdamW


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_model_answers_in_the_style_that_it_learnt(smollm2, tmp_path):
    asked = [
        "the weather",
        "your name",
        "Rome",
        "bread",
        "a good book",
        "the sea",
        "my garden",
        "sleep",
        "numbers",
        "music",
    ]
    rows = [
        {"messages": [{"role": "user", "content": f"{verb} {thing}."}, {"role": "assistant", "content": f"Ahoy, {thing}! Sails up."}]}
        for verb in ("Tell me about", "Explain", "Write a line on", "What do you say of", "Describe")
        for thing in asked
    ]  # fmt: skip
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = load_base(str(smollm2), device="cpu")
    text = read_loose([tmp_path / "chats.jsonl"], base.tokenizer).split
    trainer = AdamW().trainer(
        attach(base, AdapterSpec(rank=8)), text, TrainingOptions(batch_size=2, context=128, lr=4e-3)
    )
    measure = measure_of(text, context=128, vocabulary=len(base.tokenizer), max_tokens=100)

    before = evaluate(base.model, measure, base.device).loss
    trainer.run(16)
    write(trainer.adapted, trainer.adapter)
    after = evaluate(trainer.adapted.model, measure, base.device).loss

    ids = prompt_ids(base.tokenizer, [ChatTurn("user", "Tell me about horses.")])
    with torch.inference_mode():
        said = trainer.adapted.model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False)[0, len(ids) :]
    assert after < before / 4
    assert base.tokenizer.decode(said).startswith("Ahoy, horses! Sails up.<|im_end|>")
