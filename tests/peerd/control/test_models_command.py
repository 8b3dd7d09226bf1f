"""`peerd models` against a hub on loopback: what is here, what is fetched, and what is said when it cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune import nano
from p2pfinetune.model import catalogue, hub
from p2pfinetune.model.listing import ModelHere
from peerd.cli import main, models_command
from peerd.control.answers import ModelsListed
from tests.support import gguf_files
from tests.support.hub import FakeHub, serving

CARD = b"---\nlicense: mit\n---\n# Tiny\n"
FACTS = {
    "general.architecture": "llama",
    "general.name": "Tiny Llama",
    "general.license": "apache-2.0",
    "tokenizer.ggml.tokens": ["a"],
}
ODD = {"evil.py": b"1", "pytorch_model.bin": b"2", "consolidated.safetensors": b"3", "onnx/config.json": b"{}"}
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a model, one with pickled weights, and one with GGUF files; caches of its own."""
    tiny = {file.name: file.read_bytes() for file in nano.folder().iterdir()} | {"README.md": CARD, **ODD}
    file = gguf_files.gguf(FACTS, [gguf_files.Stored("token_embd.weight", (8, 4), gguf_files.F32, bytes(128))])
    found = FakeHub(
        {
            "acme/tiny": tiny,
            "acme/pickled": {"config.json": b"{}", "pytorch_model.bin": b"1"},
            "acme/ggufs": {"a.gguf": file},
        }
    )
    with serving(found):
        monkeypatch.setenv("PEERD_MODELS", str(tmp_path / "models"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name, value in {
            "ENDPOINT": found.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": found.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": False,
            "DOWNLOAD_CHUNK_SIZE": 10_000,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        yield found


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Type a command; exit code, what was printed, what was told."""

    def typed(*words: object) -> tuple[int, str, str]:
        code = main([*map(str, words), "--home", str(tmp_path / "home")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


def copied(_file: Path, _header: Any, folder: Path, _say: Any) -> None:
    """Stands where a GGUF is converted: some model or other."""
    shutil.copytree(nano.folder(), folder, dirs_exist_ok=True)


def models_in(text: str) -> dict[str, ModelHere]:
    return {model.name: model for model in msgspec.convert(json.loads(text)["data"], ModelsListed).models}


def files_asked(found: FakeHub) -> list[str]:
    return sorted(one.rpartition("/")[2] for one in found.asked if one.startswith("GET") and "/resolve/" in one)


def test_a_model_is_fetched_with_what_it_needs_and_nothing_that_could_run_and_then_is_in_the_list(
    answering: FakeHub, say: Say
) -> None:
    code, told, _ = say("models", "get", "acme/tiny")
    asked = files_asked(answering)
    listed = models_in(say("models", "--json")[1])

    assert code == 0
    assert "peerd start --model acme/tiny" in told
    assert asked == sorted(file.name for file in nano.folder().iterdir())
    assert list(listed) == ["nano", "acme/tiny"]
    tiny = listed["acme/tiny"]
    assert (tiny.source, tiny.licence, tiny.numbers, tiny.problem) == ("hub", "mit", "BF16", "")
    assert tiny.parameters == 3_098_592
    assert 0 < (tiny.least_bytes or 0) < (tiny.memory_bytes or 0)
    assert say("models", "get", "acme/tiny")[0] == 0
    assert files_asked(answering) == asked


def test_a_download_that_breaks_off_goes_on_where_it_was_and_is_what_the_hub_announced(
    answering: FakeHub, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LARGE_BYTES", 50_000)
    answering.stuck_at = 30_000
    code, _, told = say("models", "get", "acme/tiny")
    assert code == 2
    assert "go on with it" in told
    assert hub.snapshot_here("acme/tiny") is None
    answering.stuck_at = 0
    begun = next(Path(hub.hub_cache()).rglob("*.part"))
    beginning = begun.read_bytes()
    begun.write_bytes(bytes(len(beginning)))
    assert "is not what the hub announced" in say("models", "get", "acme/tiny")[2]
    begun.write_bytes(beginning)
    tried = len(answering.asked)

    assert say("models", "get", "acme/tiny")[0] == 0
    assert [one.rpartition("=")[2] for one in answering.asked[tried:] if "bytes=" in one] == ["30000-"]
    assert hub.snapshot_here("acme/tiny") is not None


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("acme/none", "the hub has no model acme/none", "owner/model"),
        ("acme/pickled", "no weights as safetensors; it has pytorch_model.bin, which can run code", "another copy"),
        ("acme/ggufs", "holds GGUF files: a.gguf", "get acme/ggufs/a.gguf"),
    ],
)
def test_what_cannot_be_fetched_is_said_with_the_cause_and_what_to_do(
    answering: FakeHub, say: Say, name: str, said: str, hint: str
) -> None:
    code, _, told = say("models", "get", name)

    assert code == 2
    assert said in told
    assert hint in told
    assert files_asked(answering) == []


def test_without_a_network_or_without_room_nothing_is_begun(
    answering: FakeHub, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SPARE_BYTES", 1 << 62)
    code, _, told = say("models", "get", "acme/tiny")
    assert code == 2
    assert "has room for" in told
    assert "HF_HOME" in told
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, _, told = say("start", "--data", __file__, "--model", "acme/tiny")
    assert code == 2
    assert "cannot be asked for acme/tiny" in told
    assert "`nano` needs no download" in told
    assert files_asked(answering) == []


def test_a_gguf_file_of_the_hub_is_fetched_and_converted_and_can_be_removed(
    answering: FakeHub, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfinetune.model.from_gguf._run", copied)
    code, told, _ = say("models", "get", "acme/ggufs/a.gguf")
    (made,) = [model for model in models_in(say("models", "--json")[1]).values() if model.source == "gguf"]

    assert code == 0
    assert f"--model {made.name}" in told
    assert (made.title, made.licence) == ("Tiny Llama", "apache-2.0")
    assert say("models", "remove", made.name)[0] == 0
    assert list(models_in(say("models", "--json")[1])) == ["nano"]


def test_a_start_converts_a_gguf_before_the_daemon_begins_and_refuses_one_that_is_damaged(
    answering: FakeHub, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    async def run(_paths: Any, config: Any, *, ready: Any) -> int:
        begun.append(config.model)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("peerd.daemon.assembly.run", run)
    monkeypatch.setattr("p2pfinetune.model.from_gguf._run", copied)
    (tmp_path / "my.gguf").write_bytes(answering.repositories["acme/ggufs"]["a.gguf"])
    (tmp_path / "half.gguf").write_bytes(answering.repositories["acme/ggufs"]["a.gguf"][:100])
    code, _, told = say("start", "--data", __file__, "--model", "my.gguf")
    monkeypatch.chdir(tmp_path)
    refused, _, why = say("start", "--data", __file__, "--model", "half.gguf")

    assert (code, refused) == (0, 2)
    assert "converting my.gguf" in told
    assert begun == [str(tmp_path / "my.gguf")]
    assert "half.gguf is no GGUF file that can be read" in why
    assert "fetch the file again" in why


def test_what_is_not_in_a_cache_or_is_of_this_home_is_not_removed(answering: FakeHub, say: Say, tmp_path: Path) -> None:
    assert say("models", "get", "acme/tiny")[0] == 0
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text('model = "acme/tiny"\n')

    assert "the model of this home" in say("models", "remove", "acme/tiny")[2]
    assert "a part of peerd" in say("models", "remove", "nano")[2]
    own = tmp_path / "own"
    shutil.copytree(hub.snapshot_here("acme/tiny") or "", own)
    assert "in no cache, but in a folder of yours" in say("models", "remove", str(own))[2]
    assert own.is_dir()
    assert "those that are: peerd models" in say("models", "measure", str(tmp_path / "none"))[2]
    assert models_in(say("models", "--json")[1])["acme/tiny"].is_mine
    (tmp_path / "home/config.toml").write_text("")
    assert "are free again" in say("models", "remove", "acme/tiny")[1]
    assert hub.snapshot_here("acme/tiny") is None


def test_a_data_set_of_the_hub_with_the_name_of_a_model_is_not_removed_with_it(answering: FakeHub, say: Say) -> None:
    assert say("models", "get", "acme/tiny")[0] == 0
    model = hub.hub_cache() / "models--acme--tiny"
    data = model.with_name("datasets--acme--tiny")
    shutil.copytree(model, data, symlinks=True)
    say("models", "remove", "acme/tiny")

    assert not model.exists()
    assert len(list(data.glob("snapshots/*/*"))) > 2


def test_speed_is_measured_once_and_remembered_and_nano_says_what_it_is(
    answering: FakeHub, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_command, "_speed", lambda _: 1234.5)
    assert "1,234 tokens a second" in say("models", "measure", "nano")[1]
    shown = say("models")[1]

    assert "1,234" in shown
    assert nano.WHAT_IT_IS in shown
    assert "not to talk to" in nano.WHAT_IT_IS
    catalogue.remember_speed("nowhere at all", 1.0, "daemon")
    assert len(catalogue.speeds()) == 1


@pytest.mark.parametrize("words", [("fetch", "x"), ("get",), ("measure", "acme/none"), ("remove", "acme/none")])
def test_a_slip_costs_nothing(answering: FakeHub, say: Say, words: tuple[str, ...]) -> None:
    code, told, complained = say("models", *words)

    assert (code, told) == (2, "")
    assert "peerd models" in complained
    assert answering.asked == []
