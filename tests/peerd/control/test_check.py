from __future__ import annotations

import os
from pathlib import Path

import pytest

from peerd.cli.check import checked, open_group_warning
from peerd.config import Config
from peerd.errors import UsageError

PEER = "12D3KooWJJxixyRR9T2kKoxbE9Nfh7b1wwSQs3gQCjbq34hZuNYD"


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    return str(tmp_path / "notes")


def test_good_options_pass_and_paths_become_absolute(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(text).parent)
    config = checked(
        Config(
            data=("notes",),
            bootstrap=(f"/ip4/192.168.1.20/tcp/4001/p2p/{PEER}",),
            peer=(f"/dns4/alice.example/tcp/4001/p2p/{PEER}",),
            trust="weight-similarity",
            trust_options={"top_k": 3},
        )
    )

    assert config.data == (text,)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": ()}, "--data"),
        ({"sharing": "a", "merge": "core-svd"}, "needs both factors"),
        ({"sharing": "generalist", "merge": "core-svd"}, "needs both factors"),
        ({"specialists": 1}, "--sharing both: specialists go with sharing generalist"),
        ({"sharing": "two-level", "trainer": "mezo"}, "trained in turn, by gradients"),
        ({"own_rank": 9}, "above the network.s rank"),
        ({"lr": float("inf")}, "--lr has to be"),
        ({"collect_seconds": float("inf")}, "--collect-seconds has to be"),
        ({"private_clip": 0.05, "private_noise": 4.0, "private_delta": 0.5}, "fails with a chance of 0.5"),
        ({"max_upload": 31}, "--max-upload: 31 KiB a second is too slow"),
        ({"max_download": 1}, "--max-download"),
        ({"data": ("nowhere",)}, "--data: cannot find .*nowhere"),
        ({"trust": "nonsense"}, "--trust: .*nonsense"),
        ({"trust_options": {"nope": 1}}, "--trust: .*nope"),
        ({"trust_options": {"top_k": "many"}}, "--trust: .*top_k = 'many'"),
        ({"trust": "oracle"}, "demo"),
        ({"trust": "layer-similarity", "merge": "krum"}, "--trust layer-similarity with --merge krum: .*as a whole"),
        ({"trainer": "lion"}, "--trainer: .*lion"),
        ({"trainer": "sgd", "trainer_options": {"beta1": 0.5}}, "--trainer: .*no option 'beta1'"),
        ({"trainer": "sgd", "trainer_options": {"momentum": "much"}}, "--trainer: .*momentum = 'much'"),
        ({"trainer": "sgd", "trainer_options": {"momentum": 1.0}}, "--trainer: .*below 1"),
        ({"merge": "nonsense"}, "--merge"),
        ({"merge_options": {"trimmed": 0.2}}, "--merge: .*trimmed"),
        ({"merge": "trimmed-mean", "merge_options": {"trimmed": 0.7}}, "--merge: .*below 0.5"),
        ({"codec": "nonsense"}, "--codec"),
        ({"bootstrap": ("hello",)}, "--bootstrap: 'hello'"),
        ({"bootstrap": ("/ip4/1.2.3.4/tcp/4001",)}, "does not end in /p2p/"),
        ({"peer": (f"/ip4/1.2.3/tcp/1/p2p/{PEER}",)}, "--peer: .*no /ip4/ address"),
        ({"peer": ("/ip4/1.2.3.4/tcp/4001/p2p/12D3KooWnonsense",)}, "no peer id"),
        ({"listen": ("/ip4/0.0.0.0/udp/0",)}, "--listen"),
        ({"listen": ()}, "--listen"),
        ({"listen": (f"/ip4/0.0.0.0/tcp/0/p2p/{PEER}",)}, "ends in a peer id"),
        ({"announce": (f"/ip4/1.1.1.1/tcp/1/p2p/{PEER}",)}, "ends in a peer id"),
        ({"announce": ("nonsense",)}, "--announce: 'nonsense'"),
        ({"announce": ("/dns4/ada.example.org/tcp/1",)}, "is a name, and peers resolve no names"),
        ({"announce": ("/ip4/127.0.0.1/tcp/1",)}, "nobody else can dial"),
        ({"announce": ("/ip4/0.0.0.0/tcp/1",)}, "nobody else can dial"),
        ({"announce": ("/ip4/1.1.1.1/tcp/0",)}, "nobody else can dial"),
        ({"announce": tuple(f"/ip4/1.1.1.{n}/tcp/1" for n in range(9))}, "9 addresses"),
        ({"group_key": "nowhere.key"}, "--group-key: cannot find"),
        ({"reference": "nowhere.txt"}, "--reference: cannot find"),
        ({"model": "./nowhere"}, "--model: there is no model"),
        ({"model": "two words"}, "--model"),
        ({"device": "tpu"}, "--device"),
        ({"trust": "cobo", "private_clip": 0.01, "private_noise": 4.0}, "--trust cobo tells neighbours of gradients"),
        ({"gate_steps": 1, "private_clip": 0.01, "private_noise": 4.0}, "--gate-steps gives away gates"),
        ({"assemble": True, "sharing": "a"}, "--assemble and --gate-steps: with sharing a"),
        ({"assemble_options": {"top": 1}}, "--assemble and --gate-steps: assembling pieces: .*`top`"),
        ({"private_clip": 1.0}, "both --private-clip and --private-noise"),
        ({"private_noise": 1.0}, "both --private-clip and --private-noise"),
        ({"private_budget": 8.0}, "both --private-clip and --private-noise"),
        ({"private_clip": 1.0, "private_noise": 1.0}, "more than other peers take"),
        ({"private_clip": 0.01, "private_noise": 1e-9}, "--private-noise is between"),
        ({"private_clip": float("nan"), "private_noise": 1.0}, "--private-clip"),
        ({"private_clip": 0.01, "private_noise": 1.0, "private_budget": float("inf")}, "--private-budget"),
        ({"name": "bob\x1b[2J"}, "--name"),
        ({"group": "a\u202eb"}, "--group"),
        ({"group": ""}, "--group"),
        ({"encoding": {"": "cp125"}}, "--encoding: Python knows no encoding 'cp125'"),
        ({"encoding": {"": "rot13"}}, "--encoding: Python knows no encoding 'rot13'"),
        ({"encoding": {"nowhere": "cp1250"}}, "--encoding: cannot find .*nowhere"),
        ({"data": ("caf\udce9",)}, r"caf\\xe9: this name holds bytes that are no UTF-8"),
        ({"reference": "caf\udce9"}, "no UTF-8"),
        ({"name": "caf\udce9"}, "--name: caf.*xe9 holds bytes that are no UTF-8"),
    ],
)
def test_a_mistake_names_its_option(text: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        checked(Config(**{"data": (text,), **options}))

    assert caught.value.hint
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).encode()


def test_encodings_are_named_for_all_and_for_folders(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(text).parent)
    config = checked(Config(data=(text,), encoding={"": "cp1250", "notes": "KOI8_R"}))

    assert config.encoding == {"": "cp1250", text: "koi8-r"}


def test_an_unknown_scheme_is_answered_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(Config(data=(text,), trust="nonsense"))

    assert "validation" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"zz" * 32, b"ab" * 33, os.urandom(9000)])
def test_a_group_key_is_64_hexadecimal_digits(tmp_path: Path, text: str, content: bytes) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        checked(Config(data=(text,), group_key=str(tmp_path / "key")))


def test_a_good_group_key_closes_the_group_and_silences_the_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("ab" * 32 + "\n")
    config = checked(Config(data=(text,), group_key=str(tmp_path / "key")))

    assert open_group_warning(config) == ""
    assert "openssl" in open_group_warning(Config(data=(text,)))


@pytest.mark.parametrize("model", ["nano", "gpt2", "Qwen/Qwen3-0.6B", "owner/model_name.v2"])
def test_names_of_models_are_left_as_they_are(text: str, model: str) -> None:
    assert checked(Config(data=(text,), model=model)).model == model


def test_the_embedded_model_is_meant_wherever_a_folder_of_its_name_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)

    assert checked(Config(data=(str(tmp_path),), model="nano")).model == "nano"
