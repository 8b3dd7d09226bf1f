"""What is exported of layers with several adapters computes what the peer computed."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import Tensor

from p2pfinetune.batched.speaking import Voice
from p2pfinetune.errors import ExportError, OptionError
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.writing import write_export
from p2pfinetune.model.adapter import Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.model.parts import of_expert
from p2pfinetune.model.peft_folder import import_folder
from p2pfinetune.options import AdapterSpec

IDS = torch.tensor([[5, 9, 3, 7, 11, 2]])
ROUTED = AdapterSpec(rank=4, sharing="generalist", specialists=2, specialist_rank=3)


def trained(base: Base, spec: AdapterSpec) -> tuple[Exportable, Tensor]:
    """Every number moved; and the logits with it."""
    live, dice = attach(base, spec), torch.Generator().manual_seed(1)
    moved = {n: t + 0.3 * torch.randn(t.shape, generator=dice) for n, t in live.initial.tensors.items()}
    adapter = Adapter(moved)
    with torch.no_grad():
        logits = Voice(live).holding(adapter)(input_ids=IDS).logits
    return Exportable(base, live.of_network_rank(adapter), spec), logits


def fresh(base: Base) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base.name).eval()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_loader_beside_a_routed_mixture_gives_what_the_peer_says_in_plain_transformers(
    family: str, base_of: Callable[[str], Base], tmp_path: Path
) -> None:
    base = base_of(family)
    what, expected = trained(base, ROUTED)

    files = write_export(what, tmp_path / "mine")
    place = importlib.util.spec_from_file_location("load_mixture", tmp_path / "mine" / "load_mixture.py")
    assert place is not None
    assert place.loader is not None
    loader = importlib.util.module_from_spec(place)
    place.loader.exec_module(loader)
    with torch.no_grad():
        found = loader.load(fresh(base), tmp_path / "mine")(input_ids=IDS).logits

    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert tmp_path / "mine" / "expert-2" / "adapter_model.safetensors" in files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    told = json.loads((tmp_path / "mine" / "mixture.json").read_text())
    assert told["kind"] == "peerd mixture 1"
    assert sorted({len(numbers) for numbers in told["layers"].values()}) == [1, 3]
    again = write_export(what, tmp_path / "mine")  # into a folder that exists
    assert again == files


@pytest.mark.parametrize(
    "spec",
    [
        AdapterSpec(rank=4, sharing="two-level"),
        AdapterSpec(rank=3, sharing="individual", mixing="layer"),
        structs.replace(ROUTED, mixing="layer"),
    ],
    ids=["two-level", "individual", "generalist"],
)
def test_without_a_router_several_adapters_are_one_plain_folder(
    spec: AdapterSpec, tiny_base: Base, tmp_path: Path
) -> None:
    what, expected = trained(tiny_base, spec)

    write_export(what, tmp_path / "mine")
    plain, adapter = import_folder(tmp_path / "mine")
    again = attach(tiny_base, plain)
    write(again, adapter)
    with torch.no_grad():
        found = again.model(input_ids=IDS).logits

    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_forms_without_words_for_a_router_say_what_can_be_had_instead(tiny_base: Base, tmp_path: Path) -> None:
    what, _ = trained(tiny_base, ROUTED)

    for form in ("merged", "gguf", "gguf-lora"):
        with pytest.raises(ExportError, match=f"{form} has no words for a router") as caught:
            write_export(what, tmp_path / form, form)  # type: ignore[arg-type]
        assert "--expert 0" in caught.value.hint
        assert not (tmp_path / form).exists()


def test_one_expert_alone_is_a_plain_adapter(tiny_base: Base, tmp_path: Path) -> None:
    what, _ = trained(tiny_base, ROUTED)

    write_export(what, tmp_path / "generalist", expert=0)
    write_export(what, tmp_path / "specialist", expert=2)

    spec, adapter = import_folder(tmp_path / "generalist")
    wanted = Adapter(of_expert(what.adapter.tensors, 0))
    for (_, a, b), (_, mine_a, mine_b) in zip(adapter.pairs(), wanted.pairs(), strict=True):
        torch.testing.assert_close(spec.scale * b @ a, ROUTED.scale * mine_b @ mine_a)
    assert import_folder(tmp_path / "specialist")[0].rank == 3
    with pytest.raises(OptionError, match=re.escape("there is no expert 3: a layer has 3 adapters here")):
        write_export(what, tmp_path / "none", expert=3)
