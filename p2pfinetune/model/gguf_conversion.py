"""The process that makes a folder of safetensors of a GGUF file: `from_gguf` starts it, with what it has checked.

Standard output has a line of JSON for each step, or why it cannot go on; anything unforeseen is a traceback, whose last
line is told. It ends with its standard input, so with whoever started it. Nothing is fetched and no kernel is used: the
weights are unpacked here, by torch and numpy.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from p2pfinetune.errors import ModelError, in_a_line
from p2pfinetune.model.from_gguf import Progress
from p2pfinetune.model.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SLACK = 1.01  # a model may have a few parameters that its file leaves out, as fixed tables
ONE_BY_ONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Ways to split text, as llama.cpp names them, that are GPT-2's with digits one by one."""
LIKE_GPT2 = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
ELSEWHERE = "take the model from where it was made: its Hugging Face name, or a folder with safetensors"
DAMAGED = "fetch the file again, or " + ELSEWHERE
TROUBLE = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def main(file: Path, folder: Path, stored_as: str) -> int:
    """Convert; the exit code."""
    say = _teller(sys.stdout)
    try:
        convert(file, folder, stored_as, say)
    except ModelError as error:
        say(Progress(error=str(error), hint=error.hint))
        return 2
    return 0


def convert(file: Path, folder: Path, stored_as: str, say: Any) -> None:
    """Write model and tokenizer of the file into the folder. ModelError if it is damaged or of a kind not known."""
    import torch

    header = read_header(file)
    _require_known_split(header)
    config = _config(file, header)
    _require_modest(config, header)
    say(Progress(step="unpacking its weights"))
    model = _model(file, config, getattr(torch, stored_as))
    if stored_as == "float16" and not all(bool(p.isfinite().all()) for p in model.parameters()):
        model = _model(file, config, torch.bfloat16)
    say(Progress(step="reading its tokenizer"))
    tokenizer = _tokenizer(file, header)
    say(Progress(step="writing it"))
    with _quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _config(file: Path, header: GgufHeader) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        with _quiet():
            return AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except ValueError as error:
        raise ModelError(
            f"transformers reads no GGUF of the architecture {header.architecture[:40]!r}: {in_a_line(error)}",
            ELSEWHERE,
        ) from error
    except TROUBLE as error:
        raise ModelError(f"its facts describe no model: {in_a_line(error)}", DAMAGED) from error


def _require_modest(config: PretrainedConfig, header: GgufHeader) -> None:
    """What the facts describe is no larger than what the tensors hold: else libraries allocate what is claimed."""
    import torch
    from transformers import AutoModelForCausalLM

    if int(getattr(config, "num_hidden_layers", 0) or 0) > len(header.tensors):
        raise ModelError(
            f"it claims {config.num_hidden_layers:,} layers, and has {len(header.tensors)} tensors", DAMAGED
        )
    try:
        with torch.device("meta"), _quiet():
            described = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    except TROUBLE as error:
        raise ModelError(f"its facts describe no model: {in_a_line(error)}", DAMAGED) from error
    if described > SLACK * header.parameters:
        raise ModelError(f"its facts describe {described:,} parameters, and it holds {header.parameters:,}", DAMAGED)


def _model(file: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    import transformers

    # "dequantize" is what versions before GgufConfig did anyway; without it a kernel might be fetched
    unpacked = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    )
    try:
        with _quiet():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, config=config, dtype=dtype, output_loading_info=True,
                local_files_only=True, **unpacked,
            )  # fmt: skip
    except TROUBLE as error:
        raise ModelError(f"its weights cannot be unpacked: {in_a_line(error)}", DAMAGED) from error
    if absent := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise ModelError(f"it lacks weights: {absent[0][:200]}", DAMAGED)
    model.hf_quantizer, model.is_quantized = None, False  # it is a plain model now, and can be saved
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _tokenizer(file: Path, header: GgufHeader) -> PreTrainedTokenizerBase:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except TROUBLE as error:
        raise ModelError(f"its tokenizer cannot be read: {in_a_line(error)}", DAMAGED) from error
    if _split(header) in ONE_BY_ONE:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


def _require_known_split(header: GgufHeader) -> None:
    """Text split otherwise than the model learnt it becomes other tokens, and nothing would say so."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    split = _split(header)
    if header.facts.get("tokenizer.ggml.model") != "gpt2" or (not split and header.architecture == "gpt2"):
        return
    if split not in LIKE_GPT2 | ONE_BY_ONE | set(GGUF_PRE_TOKENIZER_SPLITS):
        raise ModelError(
            f"how its tokenizer splits text is not known to transformers: {split[:40] or 'it does not say'!r}",
            ELSEWHERE,
        )


def _split(header: GgufHeader) -> str:
    return str(header.facts.get("tokenizer.ggml.pre", ""))


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the bars that libraries draw."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _teller(output: Any) -> Any:
    def say(progress: Progress) -> None:
        output.write(msgspec.json.encode(progress).decode() + "\n")
        output.flush()

    return say


def _end_with_input() -> None:
    while os.read(0, 1):  # no buffered reader: an interpreter that ends would wait for its lock
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
