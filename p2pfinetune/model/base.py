"""Load a base model and its tokenizer: the embedded `nano`, a folder, a GGUF file, or one of the Hugging Face hub.

A model of a stranger is data and must stay data: code that comes with a model is not run (`trust_remote_code`), pickled
weights, which can run anything on load, are not read, and a checkpoint that lacks weights is refused, since libraries
fill in random ones and only warn. A hub's snapshot that is here already is used without asking the network. A GGUF file
is made into a folder once (`from_gguf`).

Weights that are stored in 16 bits are held so and computed with in fp32 (`held`), which changes no figure. Only on
CUDA, if they are run in bf16 anyway, does the whole model compute in it. The digest is of what is stored, so that all
are one base.

torch and transformers are imported when a model is loaded, so that names can be checked without them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfinetune import nano
from p2pfinetune.errors import ModelError, in_a_line
from p2pfinetune.model.fingerprints import StoredTensor, config_digest, stored_tensors, tensors_digest, tokenizer_digest
from p2pfinetune.model.from_gguf import Say, converted, quiet, record
from p2pfinetune.model.gguf_header import SUFFIX, is_gguf
from p2pfinetune.model.hub import HUB_FILES, WEIGHTS, fetched
from p2pfinetune.model.memory import Quantize
from p2pfinetune.model.precision import Precision
from p2pfinetune.names import Digest
from p2pfinetune.options import NANO

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
TOKENIZER_SIGNS = ("tokenizer*", "*.model", "vocab.*")
HUB_CACHE = re.compile(r"/models--([\w.-]+?)/snapshots/[^/]+/?\Z")
OF_A_MODEL = re.compile(r"config\.json|(model|pytorch_model|consolidated)\b.*|.*\.gguf")
ADAPTER_CONFIG = "adapter_config.json"
CONVERTERS = (("sentencepiece", "sentencepiece<0.2.1"), ("tiktoken", "tiktoken"))
"""Package and what to install, of each format; a later sentencepiece needs a protobuf that libp2p does not bear."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A frozen base model in evaluation mode. `name` is how it was asked for and never enters a digest.

    Nothing ever changes its tensors: adapted models share them, and so do all peers of a simulation.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tensors_digest: Digest
    tokenizer_digest: Digest
    config_digest: Digest
    """What of its configuration changes the function that it computes."""
    device: torch.device
    precision: Precision = "fp32"
    """In which products are computed in training; see `precision` for how it was chosen."""
    folder: Path = Path()
    """Where its `config.json` and tensors lie as they are stored, for an export that folds an adapter into them."""
    title: str = ""
    """What a GGUF file calls the model; empty for any other."""
    quantize: Quantize = "none"
    """In how many bits its adapted layers are held; none: as they are stored."""
    checkpointing: bool = False
    """Whether training computes layers again in the backward pass instead of keeping what they computed."""
    positions: int = 0
    """Tokens of a training pass; 0: as many as keep the device busy. Of a larger step, gradients are added up."""

    @property
    def parameters(self) -> int:
        """How many numbers it has, however they are held."""
        from p2pfinetune.model.targets import sizes_of

        return sum(sizes_of(self.model).values())

    @property
    def max_context(self) -> int:
        """Tokens the model can look at; 0 if it does not say."""
        text_config = self.model.config.get_text_config()
        return int(getattr(text_config, "max_position_embeddings", 0) or 0)


def resolve_model(name: str) -> str:
    """`nano`, folders and GGUF files as a path, anything else that looks like a hub name unchanged."""
    if name == NANO:
        return str(nano.folder())
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # Path.expanduser raises for a user that does not exist
    if name and path.is_dir():
        return str(path)
    if name and path.is_file():
        if not is_gguf(path):
            raise ModelError(f"{name} is a file, and no GGUF", "give the folder around it, or a GGUF file")
        return str(path)
    if name.lower().endswith(SUFFIX) or not HUB_NAME.fullmatch(name):
        raise ModelError(
            f"there is no model folder or file {name}", "give nano, a folder, a .gguf file, or a hub name such as gpt2"
        )
    return name


def folder_of(name: str, say: Say = quiet, *, files: Sequence[str] = HUB_FILES, signs: Sequence[str] = WEIGHTS) -> Path:
    """The folder of safetensors that a name stands for: as it is, fetched, or converted. ModelError if it cannot be.

    `files` are wanted of a hub, and asked for if none here matches `signs`.
    """
    path = Path(resolve_model(name))
    if path.is_file():
        return converted(path, say)
    return path if path.is_dir() else fetched(name, files, signs)


def public_name(base: Base) -> str:
    """What others know it by: the hub's name, or that of its folder with a digest, which is no name of a hub's.

    Of a GGUF file it is the title inside, which is the same for all who have the file, whatever they call it.
    """
    if base.title:
        return f"{base.title} sha256:{base.tensors_digest[:16]}"
    resolved = resolve_model(base.name)
    if not Path(resolved).is_dir():
        return resolved
    if cached := HUB_CACHE.search(str(Path(resolved).absolute())):
        return cached[1].replace("--", "/")
    called = base.name if base.name == NANO else Path(resolved).absolute().name
    return f"{called} sha256:{base.tensors_digest[:16]}"


def model_file(folder: Path) -> str:
    """The name of a file that makes this the folder of a model, and not of an adapter; empty if there is none."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((name for name in names if OF_A_MODEL.fullmatch(name)), "")


def load_base(
    name: str,
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    cache: Path | None = None,
    quantize: Quantize = "none",
) -> Base:
    """The model, frozen, held in the numbers that it is stored in, or its adapted layers in fewer bits (`quantised`).

    `cache` keeps digests of large files. ModelError says what is wrong with the name, the folder or the model itself:
    whatever is returned has passed `soundness`.
    """
    folder = folder_of(name)
    must_be_a_model(folder)
    stored = stored_tensors(folder, cache)
    chosen = choose_device(device)
    from p2pfinetune.model.soundness import check_passes, check_tokens  # torch, which names are checked without

    model, tokenizer = _load(folder, _numbers_of(stored), is_computed_so=chosen.type == "cuda" and precision == "bf16")
    model.requires_grad_(False).eval().to(chosen)
    if quantize != "none":
        from p2pfinetune.model.quantised import quantise

        quantise(model, quantize)
    check_tokens(name, model, tokenizer)
    check_passes(name, model)
    return Base(
        name=name,
        model=model,
        tokenizer=tokenizer,
        tensors_digest=tensors_digest(stored, _canonical_names(model, stored)),
        tokenizer_digest=tokenizer_digest(tokenizer),
        config_digest=config_digest(model.config),
        device=chosen,
        precision=precision,
        quantize=quantize,
        folder=folder,
        title=about.title if (about := record(folder)) else "",
    )


def load_tokenizer(name: str, say: Say = quiet) -> PreTrainedTokenizerBase:
    """The tokenizer of a base alone: no weight is read, nor fetched. Raises ModelError, as `load_base`."""
    folder = folder_of(name, say, signs=TOKENIZER_SIGNS, files=[each for each in HUB_FILES if each not in WEIGHTS])
    must_be_a_model(folder)
    return _tokenizer(folder, {"local_files_only": True, "trust_remote_code": False})


def must_be_a_model(folder: Path) -> None:
    """ModelError for a folder of GGUF files, and for one with an adapter's configuration.

    Libraries would take the second for the adapter's base.
    """
    if not (folder / "config.json").is_file() and (files := sorted(folder.glob(f"*{SUFFIX}"))):
        raise ModelError(
            f"{folder} holds GGUF files and no other model", f"give the file: {shlex.quote(str(files[0]))}"
        )
    if not (beside := folder / ADAPTER_CONFIG).is_file():
        return
    if (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter beside its model ({beside.name})",
            f"move {beside.name} and adapter_model.safetensors to a folder of their own, then start again",
        )
    raise ModelError(f"{folder} holds an adapter and no model", f"give the base model that {beside} names")


def _load(folder: Path, numbers: str, *, is_computed_so: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`numbers` as stored: BF16 or F16 are held so, and with `is_computed_so` the model also computes in bf16."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    from p2pfinetune.model.held import STORED, computes_in_fp32, holding

    logging.disable_progress_bar()  # the caller shows progress
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, **local}
    try:
        is_held = numbers != "F32" and not is_computed_so
        if is_held:
            model_class = AutoModelForCausalLM._model_mapping[type(AutoConfig.from_pretrained(folder, **local))]  # noqa: SLF001
            held = holding(model_class, STORED[numbers])
            model, report = held.from_pretrained(folder, dtype=torch.float32, **options)
            model.__class__ = model_class
        if not is_held or not computes_in_fp32(model):
            dtype = torch.bfloat16 if is_computed_so and numbers != "F32" else torch.float32
            model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"{folder} cannot be loaded as a causal language model: {in_a_line(error)}",
            "it needs a config.json and a model.safetensors of an architecture that transformers knows",
        ) from error
    if absent := sorted(report["missing_keys"]) or sorted(map(str, report["mismatched_keys"])):
        raise ModelError(f"{folder} does not fit its config.json: {absent[0]}", "fetch the model again")
    return model, _tokenizer(folder, local)


def _tokenizer(folder: Path, local: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """What is stored in the form of sentencepiece or tiktoken alone is converted by those packages, if installed."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **local)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as error:
        raise _no_tokenizer(folder, error) from error
    return tokenizer


def _no_tokenizer(folder: Path, error: Exception) -> ModelError:
    old = next(iter(sorted(folder.glob("*.model"))), None)
    if old is None or (folder / "tokenizer.json").is_file():
        return ModelError(f"the tokenizer in {folder} cannot be loaded: {in_a_line(error)}", "it needs tokenizer.json")
    package, version = CONVERTERS[_is_text(old)]
    is_here = find_spec(package) is not None
    return ModelError(
        f"the tokenizer in {folder} is stored as {old.name} alone, which has to be converted, and "
        + (f"{package} as installed here cannot: {in_a_line(error)}" if is_here else f"{package} is not installed"),
        f"install it beside peerd: pip install {shlex.quote(version)}; or take a copy of the model that has a "
        "tokenizer.json",
    )


def _is_text(file: Path) -> bool:
    """Whether it is tiktoken's format, lines of base64, and not sentencepiece's, which begins with a control byte."""
    with file.open("rb") as opened:
        return opened.read(1).isalnum()


def _canonical_names(model: PreTrainedModel, stored: tuple[StoredTensor, ...]) -> dict[str, str]:
    """Stored name to canonical name: with the prefix of the base model, and one name for tied weights.

    One checkpoint has `wte.weight` and another `transformer.wte.weight`, and an output layer that is tied to the
    embedding is stored by some and left out by others. Both are one model, and have to have one digest.
    """
    first: dict[int, str] = {}  # parameter identity to the first of its names
    parameters = dict(sorted(model.named_parameters(remove_duplicate=False)))
    for name, parameter in parameters.items():
        first.setdefault(id(parameter), name)
    full = {t.name: t.name for t in stored}
    for name in full:
        prefixed = f"{model.base_model_prefix}.{name}"
        if name not in parameters and prefixed in parameters:
            full[name] = prefixed
    return {name: first[id(parameters[long])] if long in parameters else long for name, long in full.items()}


def choose_device(device: str) -> torch.device:
    """What `auto` means here. ModelError for a device that is not there."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"no device {device!r} here: {in_a_line(error)}", "choose auto, cpu, cuda or mps") from error
    return chosen


def _numbers_of(stored: tuple[StoredTensor, ...]) -> str:
    """BF16 or F16 if all matrices are stored so, else F32."""
    found = {tensor.dtype for tensor in stored if len(tensor.shape) > 1}
    return found.pop() if found in ({"BF16"}, {"F16"}) else "F32"
