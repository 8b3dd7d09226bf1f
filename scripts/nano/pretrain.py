"""Train the embedded base model from nothing: `python -m scripts.nano.pretrain --data DIR --work DIR`.

* Interrupt it at any moment and run the same command again: it goes on from the last checkpoint, with the same batches.
* The schedule is warm-up, constant, then a linear decay over the last fifth (WSD), so that the number of tokens may
  be raised later without having trained in vain: run again with a larger --tokens before the decay has begun.
* Batches are a function of (seed, step) alone; no sampler state is kept.

The result is written to `--out` as an ordinary Hugging Face folder.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from p2pfinetune.nano import folder
from scripts.nano import corpus

CONTEXT = 256
BATCH = 16  # sequences a step: 4,096 tokens
PEAK_LR = 2e-3
WARMUP_STEPS = 100
DECAY_SHARE = 0.2
WEIGHT_DECAY = 0.1
CHECKPOINT_STEPS = 200
SEED = 20_240_409


def build_model() -> nn.Module:
    """A Llama of 3.1 million parameters with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=corpus.VOCABULARY,
        hidden_size=224,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model: nn.Module = LlamaForCausalLM(config)
    return model


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, linear decay to zero over the last DECAY_SHARE of `steps`."""
    decay_start = math.floor(steps * (1 - DECAY_SHARE))
    if step < WARMUP_STEPS:
        return PEAK_LR * (step + 1) / WARMUP_STEPS
    if step < decay_start:
        return PEAK_LR
    return PEAK_LR * max(0.0, (steps - step) / (steps - decay_start))


def batch_at(tokens: np.ndarray[Any, np.dtype[np.uint16]], step: int) -> torch.Tensor:
    """The batch of one step, (BATCH, CONTEXT + 1): blocks in a fresh random order on every pass over the file."""
    blocks = (len(tokens) - 1) // CONTEXT
    per_pass = blocks // BATCH
    order = np.random.default_rng([SEED, step // per_pass]).permutation(blocks)
    chosen = order[(step % per_pass) * BATCH : (step % per_pass + 1) * BATCH]
    rows = [tokens[i * CONTEXT : i * CONTEXT + CONTEXT + 1].astype(np.int64) for i in chosen]
    return torch.from_numpy(np.stack(rows))


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.95), fused=True)


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write to a neighbour and rename, so that an interruption never leaves half a checkpoint."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
    scratch = path.with_suffix(".part")
    save_file(tensors, scratch, metadata={"step": str(step)})
    scratch.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put weights and moments back; returns the step to go on from."""
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
        for name in file.keys():  # noqa: SIM118  # a safetensors file is no dict
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = file.get_tensor(name)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def prepare(data: Path, work: Path) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Tokenizer and token file, made once and kept in the work folder."""
    from tokenizers import Tokenizer

    work.mkdir(parents=True, exist_ok=True)
    tokenizer_file, token_file = work / "tokenizer.json", work / "train.u16"
    if not tokenizer_file.exists():
        print("training the tokenizer", flush=True)
        corpus.train_tokenizer(data).save(str(tokenizer_file))
    if not token_file.exists():
        print("encoding the corpus", flush=True)
        corpus.write_tokens(data, Tokenizer.from_file(str(tokenizer_file)), token_file)
    return np.memmap(token_file, dtype=np.uint16, mode="r")


def train(tokens: np.ndarray[Any, np.dtype[np.uint16]], total: int, work: Path) -> nn.Module:
    """Train until `total` tokens have been seen, from the last checkpoint where there is one."""
    model = build_model().train()
    optimizer = optimizer_of(model)
    checkpoint, step = work / "checkpoint.safetensors", 0
    if checkpoint.exists():
        step = load_checkpoint(checkpoint, model, optimizer)
    steps = total // (BATCH * CONTEXT)
    begun, first, smooth = time.monotonic(), step, math.nan
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = batch_at(tokens, step)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0:
            rate = (step - first) * BATCH * CONTEXT / (time.monotonic() - begun)
            left = (steps - step) * BATCH * CONTEXT / rate / 60
            print(f"step {step}/{steps}  loss {smooth:.3f}  {rate:,.0f} tokens/s  {left:.0f} min left", flush=True)
        if step % CHECKPOINT_STEPS == 0 or step == steps:
            save_checkpoint(checkpoint, model, optimizer, step)
    return model


def export(model: nn.Module, work: Path, out: Path) -> None:
    """Write an ordinary Hugging Face folder with bf16 weights."""
    from transformers import PreTrainedTokenizerFast

    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)  # type: ignore[operator]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(work / "tokenizer.json"),
        bos_token=corpus.END_OF_TEXT,
        eos_token=corpus.END_OF_TEXT,
        pad_token=corpus.END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, which a checkout should not carry


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds novels/ and peps/")
    parser.add_argument("--work", type=Path, required=True, help="folder for tokens and checkpoints; kept between runs")
    parser.add_argument("--out", type=Path, default=folder(), help="where the model goes")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens to see in all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokens = prepare(options.data, options.work)
    print(f"{len(tokens):,} tokens on disk, {options.tokens:,} to see", flush=True)
    export(train(tokens, options.tokens, options.work), options.work, options.out)


if __name__ == "__main__":
    main()
