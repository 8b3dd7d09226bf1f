"""Standard PEFT folders, against peft itself."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pfinetune.errors import ModelError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, read, write
from p2pfinetune.model.base import Base, public_name
from p2pfinetune.model.fingerprints import tokenizer_digest
from p2pfinetune.model.peft_folder import CONFIG, WEIGHTS, export_folder, import_folder, tokenizer_files
from p2pfinetune.options import AdapterSpec

SPEC = AdapterSpec(rank=4, alpha=12)

# peft 0.21 asks transformers 5 for a name that it is about to drop; goes when peft no longer does
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def tokens() -> torch.Tensor:
    return torch.arange(20).reshape(2, 10)


def trained(base: Base, spec: AdapterSpec = SPEC) -> AdaptedModel:
    live, generator = attach(base, spec), torch.Generator().manual_seed(0)
    write(
        live, Adapter({n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in read(live).tensors.items()})
    )
    return live


def export(live: AdaptedModel, base: Base, folder: Path) -> list[Path]:
    name = public_name(base)
    return export_folder(folder, read(live), live.spec, name, live.targets, is_transposed=live.is_transposed)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tiny_base: Base, tmp_path: Path) -> Path:
    export(trained(tiny_base), tiny_base, tmp_path / "adapter")
    return tmp_path / "adapter"


def edit(folder: Path, **changes: object) -> Path:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_peft_loads_the_folder_and_gives_the_same_logits(
    base_of: Callable[[str], Base], tmp_path: Path, family: str
) -> None:
    base = base_of(family)
    live = trained(base)

    files = export(live, base, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.name), tmp_path / "adapter").eval()

    assert files == [tmp_path / "adapter" / CONFIG, tmp_path / "adapter" / WEIGHTS]
    assert torch.equal(loaded(tokens()).logits, live.model(tokens()).logits)
    assert not torch.allclose(loaded(tokens()).logits, base.model(tokens()).logits, atol=1e-3)


def test_a_peft_model_merges_the_folder_into_plain_weights(tiny_base: Base, folder: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_base.name)
    merged = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()

    assert torch.allclose(merged(tokens()).logits, trained(tiny_base).model(tokens()).logits, atol=1e-4)


def test_an_export_names_its_base_and_no_path_of_this_machine_and_brings_the_tokenizer(
    tiny_base: Base, tmp_path: Path
) -> None:
    live, beside = trained(tiny_base), tokenizer_files(tiny_base.tokenizer)

    files = export_folder(tmp_path / "out", read(live), live.spec, public_name(tiny_base), live.targets, beside=beside)

    told = json.loads((tmp_path / "out" / CONFIG).read_text())["base_model_name_or_path"]
    assert told == f"llama sha256:{tiny_base.tensors_digest[:16]}"
    private = str(Path(tiny_base.name).parent).encode()
    assert [file.name for file in files if private in file.read_bytes()] == []
    assert sorted(names_in(tmp_path / "out")) == sorted(file.name for file in files)
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer_digest(again) == tiny_base.tokenizer_digest


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("nano", "nano sha256:0123456789abcdef"),
        ("{}/models--gpt--two/snapshots/abc", "gpt/two"),
        ("{}/mine", "mine sha256:0123456789abcdef"),
    ],
)
def test_a_base_is_named_as_others_know_it(tmp_path: Path, asked: str, told: str) -> None:
    if asked.startswith("{"):
        Path(asked.format(tmp_path)).mkdir(parents=True)
    base = SimpleNamespace(name=asked.format(tmp_path), tensors_digest="0123456789abcdef" * 4, title="")

    assert public_name(base) == told  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "q4.gguf"])
def test_a_folder_that_holds_a_model_is_no_place_for_an_export(tiny_base: Base, tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("{}")

    with pytest.raises(ModelError, match=re.escape(f"holds a model ({file})")) as caught:
        export(attach(tiny_base, SPEC), tiny_base, tmp_path)
    assert "another folder" in caught.value.hint
    assert names_in(tmp_path) == [file]


def test_what_is_exported_is_imported(tiny_base: Base, folder: Path) -> None:
    live = trained(tiny_base)

    spec, adapter = import_folder(folder)

    assert adapter.equals(read(live))
    assert (spec.rank, spec.alpha, spec.targets) == (4, 12, live.targets)
    again = attach(tiny_base, spec)
    write(again, adapter)
    assert torch.equal(again.model(tokens()).logits, live.model(tokens()).logits)


def test_a_folder_that_peft_wrote_is_imported(tiny_base: Base, tmp_path: Path) -> None:
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base.name), config).eval()
    theirs.save_pretrained(tmp_path)

    spec, adapter = import_folder(tmp_path)
    ours = attach(tiny_base, spec)
    write(ours, adapter)

    assert torch.equal(ours.model(tokens()).logits, theirs(tokens()).logits)


def test_exporting_twice_replaces_the_files_and_keeps_others(tiny_base: Base, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    start = attach(tiny_base, SPEC)

    export(start, tiny_base, folder)

    assert import_folder(folder)[1].equals(start.initial)
    assert names_in(folder) == [CONFIG, WEIGHTS, "notes.txt"]
    assert names_in(folder.parent) == ["adapter"]


def test_an_export_that_fails_leaves_nothing(tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space"):
        export(attach(tiny_base, SPEC), tiny_base, tmp_path / "adapter")
    assert names_in(tmp_path) == []


def test_the_same_adapter_gives_the_same_bytes(tiny_base: Base, folder: Path, tmp_path: Path) -> None:
    export(trained(tiny_base), tiny_base, tmp_path / "again")

    for name in (CONFIG, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"}, {"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"rank_pattern": {"q": 2}},
        {"modules_to_save": ["lm_head"]}, {"lora_alpha": 1.5}, {"r": 5}, {"r": None}, {"r": math.inf}, {"lora_alpha": math.inf}, {"lora_dropout": 10**400},
    ],
    ids=str,
)  # fmt: skip
def test_an_adapter_of_another_kind_is_an_error(folder: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        import_folder(edit(folder, **changes))


def test_foreign_tensors_are_an_error(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "base_model.model.lm_head.weight": torch.zeros(2, 2)}, folder / WEIGHTS)

    with pytest.raises(ModelError, match="no LoRA factor"):
        import_folder(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize(
    "content", [None, b"", b"\x00\x01", b"[" * 9000], ids=["missing", "empty", "damaged", "nested"]
)
def test_a_damaged_folder_is_an_error_with_advice(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)

    with pytest.raises(ModelError, match="not a readable PEFT folder") as caught:
        import_folder(folder)
    assert WEIGHTS in caught.value.hint


def test_what_is_exported_is_for_its_owner_alone_whatever_the_umask(tiny_base: Base, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        files = [file for name in ("new", "kept") for file in export(trained(tiny_base), tiny_base, tmp_path / name)]
    finally:
        os.umask(before)

    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 4
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o755
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted([CONFIG, WEIGHTS] * 2)


def test_a_folder_that_exists_needs_no_right_to_the_one_above(tiny_base: Base, tmp_path: Path) -> None:
    """As in `/`, which has none above, and in the folder of a mount."""
    folder = tmp_path / "above" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / "above").chmod(0o500)
    try:
        files = export(trained(tiny_base), tiny_base, folder)
    finally:
        (tmp_path / "above").chmod(0o700)

    assert all(file.exists() for file in files)
    assert [path.name for path in (tmp_path / "above").iterdir()] == ["mine"]


def test_the_folder_at_the_top_is_written_into_and_not_beside(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = export(trained(tiny_base), tiny_base, Path())  # which has no name, as `/` has none

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)
