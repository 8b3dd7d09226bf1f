from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import msgspec
import pytest

from p2pfinetune.options.sections import described
from peerd.cli import main
from peerd.cli.commands import COMMANDS
from peerd.cli.options import FROM_A_FILE, PAIRS
from peerd.cli.start import LAST_LINES, _still_starting, _until_ready, last_words
from peerd.config import Config
from peerd.control import answers
from peerd.errors import NotHealthy, PeerdError, StoreError, TransportError, UsageError
from peerd.machine import lock
from peerd.machine.paths import Paths
from peerd.status import BannedNow, MemoryNow

EVE = "12D3KooWEveEveEveEveEveEveEveEveEveEveEveEveEveEve33"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


class Started:
    """Stands where the daemon would; says what it was started with."""

    def __init__(self) -> None:
        self.configs: list[Config] = []
        self.error: Exception | None = None
        self.is_ready = True

    async def run(self, paths: Paths, config: Config, *, ready: Callable[[Any], None]) -> int:
        self.configs.append(config)
        if self.is_ready:
            ready(self.status)
        if self.error is not None:
            raise self.error
        return 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, view: Any) -> Started:
    fake = Started()
    fake.status = view.status()
    monkeypatch.setattr("peerd.daemon.assembly.run", fake.run)
    return fake


def test_stop_waits_until_the_daemon_has_ended(daemon: Any, say: Any, view: Any) -> None:
    code, out, _ = say("stop", "--home", daemon.paths.home, "--json")

    assert code == 0
    assert msgspec.convert(json.loads(out)["data"], answers.Stopped).stopped
    assert lock.holder(daemon.paths.lock) is None
    assert say("stop", "--home", daemon.paths.home)[0] == 3


def test_a_ban_is_shown_and_lifted_by_name(daemon: Any, say: Any, view: Any) -> None:
    view.banned = [BannedNow(peer_id=EVE, name="eve", seconds=540.0, bans=2, reason="norm")]
    _, shown, _ = say("peers", "--home", daemon.paths.home)
    _, status, _ = say("status", "--home", daemon.paths.home)

    code, out, _ = say("unban", "eve", "--home", daemon.paths.home)

    assert "Banned" in shown
    assert "norm" in shown
    assert "1 banned: see peerd peers" in status
    assert (code, out.strip()) == (0, f"The ban of {EVE} is lifted: it calls itself eve")
    assert view.banned == []


def test_a_ban_is_not_lifted_by_the_name_of_a_friend(daemon: Any, say: Any, view: Any) -> None:
    view.banned = [BannedNow(peer_id="12D3KooWMallory9", name="bob", seconds=540.0, bans=2, reason="norm")]
    code, out, err = say("unban", "bob", "--home", daemon.paths.home)
    by_id, _, _ = say("unban", "allory9", "--home", daemon.paths.home)

    assert (code, out, by_id) == (2, "", 0)
    assert "'bob' can mean 2 peers" in err
    assert "bob  12D3KooWMallory9  banned" in err
    assert view.banned == []


def test_in_every_table_a_name_is_what_may_be_shown(daemon: Any, say: Any, view: Any) -> None:
    view.bob_name = "alice (me)\u202e\u3164"
    texts = [say(verb, "--home", daemon.paths.home)[1] for verb in ("status", "peers", "trust", "sent")]

    assert [text.count("(me)") for text in texts] == [0, 0, 1, 0]
    assert all("alice me" in text for text in texts)


@pytest.mark.parametrize("name", ["anna (me)", "\u3164", " anna", "a\u0301\u0302\u0303\u0304\u0305"])
def test_my_own_name_is_one_that_others_see_as_it_is(
    home: Path, text: Path, say: Any, started: Started, name: str
) -> None:
    code, _, err = say("start", "--home", home, "--data", text, "--name", name)

    assert code == 2
    assert "--name" in err
    assert started.configs == []


def test_only_who_is_banned_can_be_let_in_again(daemon: Any, say: Any) -> None:
    code, _, err = say("unban", "bob", "--home", daemon.paths.home)

    assert code == 2
    assert "'bob' is not banned" in err
    assert "banned: nobody" in err


@pytest.mark.parametrize(
    ("served_by", "named", "said"),
    [
        ("local", "twin that trains alone", "The twin that trains alone is ahead"),
        ("best", "as it was at its best", "It ended behind the twin"),
        ("mixture", "The personal adapter", "a mixture of the predictions of the personal model"),
    ],
)
def test_what_is_served_in_place_of_the_personal_model_is_named_wherever_it_is_used(
    daemon: Any, view: Any, say: Any, tmp_path: Path, served_by: Any, named: str, said: str
) -> None:
    view.served_by, view.served_text = served_by, "the better one"
    _, _, generated = say("generate", "Hi", "--home", daemon.paths.home)
    _, exported, told = say("export", tmp_path / "adapter", "--home", daemon.paths.home)
    _, status, _ = say("status", "--home", daemon.paths.home)
    _, document, _ = say("export", tmp_path / "other", "--home", daemon.paths.home, "--json")

    assert said in generated
    assert f"{named}" in exported.splitlines()[0]
    assert said in status
    assert (said in told) == (served_by == "mixture"), "an export is not what generate gives"
    assert json.loads(document)["data"]["which"] == ("personal" if served_by == "mixture" else served_by)


def test_while_the_personal_model_is_served_it_is_called_that(daemon: Any, say: Any, tmp_path: Path) -> None:
    _, exported, _ = say("export", tmp_path / "adapter", "--home", daemon.paths.home)
    _, status, _ = say("status", "--home", daemon.paths.home)

    assert exported.startswith("The personal adapter is in")
    assert "generate and export" not in status
    how = f"peerd stop --home {daemon.paths.home} && peerd start --home {daemon.paths.home} --twin on"
    assert "none trains (a round would take 53 % longer with one), so nothing is measured against" in status
    assert how in status


def test_generate_as_a_document(daemon: Any, say: Any) -> None:
    code, out, err = say("generate", "Hi", "--max-tokens", 9, "--home", daemon.paths.home, "--json")

    assert (code, err) == (0, "")
    assert json.loads(out)["data"]["personal"] == "Hi personal 9"


def test_a_failing_worker_is_1_with_advice(daemon: Any, say: Any) -> None:
    code, out, err = say("generate", "fail", "--home", daemon.paths.home, "--json")

    assert (code, json.loads(out)["error"]["code"]) == (1, "worker")
    assert "stop other programs" in err


def test_export_names_an_absolute_folder_and_its_files(
    daemon: Any, view: Any, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = say("export", "adapter", "--home", daemon.paths.home, "--json")

    assert code == 0
    assert view.exported == [str(tmp_path / "adapter")]
    assert json.loads(out)["data"]["files"][1].endswith("adapter_model.safetensors")


def test_export_never_writes_over_what_is_there_unless_told(daemon: Any, view: Any, say: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    refused, _, err = say("export", tmp_path, "--home", daemon.paths.home)
    file, _, _ = say("export", tmp_path / "thesis.txt", "--force", "--home", daemon.paths.home)
    forced, _, _ = say("export", tmp_path, "--force", "--home", daemon.paths.home)

    assert (refused, file, forced) == (2, 2, 0)
    assert "--force" in err
    (tmp_path / "config.json").write_text("{}")
    model, _, told = say("export", tmp_path, "--force", "--home", daemon.paths.home)

    assert model == 2
    assert "holds a model (config.json)" in told
    assert view.exported == [str(tmp_path)]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("", "folder's name is empty"),
        ("  ", "folder's name is empty"),
        (".", "is not empty"),
        ("..", "is not empty"),
        ("/", "/ is not empty"),
        ("file", "is a file"),
        ("file/below", "is a file"),
        ("dangling", "is a file"),
        ("n" * 300, "File name too long"),
        ("/proc/nothing", "cannot"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name"),
        ("\udcff", "no UTF-8"),
    ],
)
def test_what_cannot_be_exported_to_is_named_before_the_worker_is_asked(
    daemon: Any, view: Any, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, _: not str(path).startswith("/proc"))  # root may write everywhere
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to("nowhere")

    code, out, err = say("export", folder, "--home", daemon.paths.home)

    assert (code, out) == (2, "")
    assert said in err
    assert err.rstrip().count("\n") == 1  # the next thing to do
    assert view.exported == []
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_is_meant_as_it_is_where_it_is_typed(
    daemon: Any, view: Any, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (".", "./a/../b", "../c", "d/"):
        assert say("export", folder, "--home", daemon.paths.home)[0] == 0

    assert view.exported == [str(tmp_path / name) for name in ("here", "here/b", "c", "here/d")]


HUGE = "9" * 30
OPTIONS_WITH_NUMBERS = [
    ("generate", "x", "--seed"),
    ("generate", "x", "--max-tokens"),
    ("eval", "--on", "heldout", "--max-tokens"),
    ("generate", "x", "--temperature"),
    ("data", "--show"),
    ("export", "folder", "--expert"),
    ("rounds", "--last"),
    ("sent", "--last"),
    ("dashboard", "--port"),
    ("serve", "--port"),
    ("demo", "--peers"),
    ("demo", "--rounds"),
    ("demo", "--seed"),
]


@pytest.mark.parametrize(
    "number", [HUGE, "-" + HUGE, "9" * 5000, "nan", "inf", "1e400", "0x", "", "٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣"]
)
@pytest.mark.parametrize("words", OPTIONS_WITH_NUMBERS)
def test_a_number_out_of_bounds_is_told_by_the_name_of_its_option(
    daemon: Any, say: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], number: str
) -> None:
    monkeypatch.setattr("peerd.demo.run.run", None)
    home = () if words[0] == "demo" else ("--home", daemon.paths.home)
    code, out, err = say(*words, number, *home)

    assert (code, out) == (2, "")
    assert words[-1].removeprefix("--") in err
    assert "understood" not in err


def test_every_option_of_a_command_that_takes_a_number_is_tried_above() -> None:
    functions = {name: getattr(import_module(f"peerd.cli.{module}"), f) for name, module, f, _ in COMMANDS}
    numbers = {
        (name, f"--{parameter.replace('_', '-')}")
        for name, function in functions.items()
        if name != "start"  # its options are fields of Config: tests of the settings
        for parameter, kind in get_type_hints(function).items()
        if kind in {int, float, int | None, float | None}
    }

    assert numbers == {(words[0], words[-1]) for words in OPTIONS_WITH_NUMBERS}


def test_words_that_are_no_utf_8_are_called_that(daemon: Any, say: Any) -> None:
    code, _, err = say("generate", "\udcff", "--home", daemon.paths.home)

    assert code == 2
    assert "no UTF-8" in err


def test_the_first_start_asks_for_text_and_makes_nothing(home: Path, say: Any, started: Started) -> None:
    code, _, err = say("start", "--home", home)

    assert code == 2
    assert "--data" in err
    assert not home.exists()
    assert started.configs == []


def test_options_given_once_are_remembered(home: Path, text: Path, say: Any, started: Started) -> None:
    first, _, err = say(
        "start", "--home", home, "--data", text, "--name", "alice", "--lan", "--trust-option", "top_k=3"
    )
    second, _, quiet = say("start", "--home", home, "--no-lan", "--rank", 4)
    third, _, _ = say("start", "--home", home)

    assert (first, second, third) == (0, 0, 0)
    assert started.configs[0] == Config(data=(str(text),), name="alice", lan=True, trust_options={"top_k": 3})
    assert started.configs[2] == Config(data=(str(text),), name="alice", rank=4, trust_options={"top_k": 3})
    assert "is open" in err
    assert f"peerd start --home {home} --group-key group.key" in err  # for whoever pastes it
    assert "is open" not in quiet


@pytest.mark.parametrize(
    ("typed", "twin"),
    [
        ([], "auto"),
        (["--twin"], "on"),
        (["--twin", "--lan"], "on"),
        (["--no-twin"], "off"),
        (["--twin", "auto"], "auto"),
        (["--twin=off"], "off"),
    ],
)
def test_a_twin_is_chosen_by_a_word_and_by_the_switches_that_were(
    home: Path, text: Path, say: Any, started: Started, typed: list[str], twin: str
) -> None:
    code, _, err = say("start", "--home", home, "--data", text, *typed)

    assert code == 0, err
    assert started.configs[0].twin == twin


def test_a_word_for_the_twin_that_there_is_not_is_refused_with_those_there_are(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    code, _, err = say("start", "--home", home, "--data", text, "--twin", "maybe")

    assert (code, started.configs) == (2, [])
    assert "choose one of: auto, on, off" in err


@pytest.mark.parametrize(("written", "twin"), [("true", "on"), ("false", "off")])
def test_a_home_that_remembers_the_twin_as_a_switch_goes_on(
    home: Path, text: Path, say: Any, started: Started, written: str, twin: str
) -> None:
    say("start", "--home", home, "--data", text)
    with (home / "config.toml").open("a") as file:
        file.write(f"twin = {written}\n")

    code, _, err = say("start", "--home", home, "--lan")

    assert code == 0, err
    assert started.configs[1].twin == twin
    assert tomllib.loads((home / "config.toml").read_text())["twin"] == twin


def test_encodings_are_given_for_all_or_for_a_folder_remembered_and_forgotten(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    codes = [
        say("start", "--home", home, "--data", text, "--encoding", "cp1250", "--encoding", f"{text}=866")[0],
        say("start", "--home", home)[0],
        say("start", "--home", home, "--encoding", "")[0],
    ]

    assert codes == [0, 0, 0]
    assert [config.encoding for config in started.configs] == [{"": "cp1250", str(text): "cp866"}] * 2 + [{}]


def test_names_that_are_no_utf_8_are_refused_by_name_and_not_by_a_traceback(home: Path, text: Path, say: Any) -> None:
    for words in (
        ("start", "--home", home, "--data", f"{text}/caf\udce9"),
        ("start", "--home", home, "--data", text, "--group-key", "caf\udce9"),
        ("status", "--home", "caf\udce9"),
    ):
        code, out, err = say(*words, "--json")

        assert code == 2
        assert r"caf\xe9" in err
        assert r"caf\xe9" in json.loads(out)["error"]["message"]


def test_a_robust_merge_rule_is_chosen_with_its_options(home: Path, text: Path, say: Any, started: Started) -> None:
    chosen = ("--merge", "trimmed-mean", "--merge-option", "trimmed=0.3")

    code, _, _ = say("start", "--home", home, "--data", text, *chosen)
    wrong, _, err = say("start", "--home", home, "--merge-option", "trimmed")

    assert (code, wrong) == (0, 2)
    assert (started.configs[0].merge, started.configs[0].merge_options) == ("trimmed-mean", {"trimmed": 0.3})
    assert "--merge-option: 'trimmed' is not KEY=VALUE" in err


def test_a_bound_on_any_single_neighbour_is_a_share_and_is_remembered(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    code, _, _ = say("start", "--home", home, "--data", text, "--max-share", "0.25")
    again, _, _ = say("start", "--home", home)
    wrong = [say("start", "--home", home, "--max-share", share) for share in ("0", "1.5", "nan", "half")]

    assert (code, again) == (0, 0)
    assert [config.max_share for config in started.configs] == [0.25, 0.25]
    assert [found[0] for found in wrong] == [2, 2, 2, 2]
    assert all("max-share" in found[2].replace("max_share", "max-share") for found in wrong)


def test_an_empty_option_forgets_what_was_remembered(home: Path, text: Path, say: Any, started: Started) -> None:
    say("start", "--home", home, "--data", text, "--reference", text)
    say("start", "--home", home, "--reference", "")

    assert started.configs[1].reference == ""


def test_start_says_what_to_type_next(home: Path, text: Path, say: Any, started: Started) -> None:
    started.status = msgspec.structs.replace(started.status, invitations=["peerd start --group poets --peer X"])
    _, _, err = say("start", "--home", home, "--data", text, "--group", "poets")

    assert f"peerd status --home {home}" in err
    assert "others join with:  peerd start --group poets --peer X" in err
    assert started.status.model == "nano"
    assert "not to talk to" in err


def test_a_start_that_nobody_elsewhere_can_reach_says_so(home: Path, text: Path, say: Any, started: Started) -> None:
    started.status = msgspec.structs.replace(started.status, invitations=[])

    assert "nobody can join:" in say("start", "--home", home, "--data", text)[2]


def test_start_as_a_document(home: Path, text: Path, say: Any, started: Started) -> None:
    code, out, _ = say("start", "--home", home, "--data", text, "--json")
    data = msgspec.convert(json.loads(out)["data"], answers.Started)

    assert code == 0
    assert (data.name, data.home, data.log) == ("alice", str(home), None)


def test_a_start_that_the_text_or_model_spoils_is_not_remembered(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    say("start", "--home", home, "--data", text)
    started.is_ready, started.error = False, UsageError("that folder holds no model", "spell it right")
    code, out, _ = say("start", "--home", home, "--model", text, "--json")

    assert (code, json.loads(out)["error"]["hint"]) == (2, "spell it right")
    assert "model" not in tomllib.loads((home / "config.toml").read_text())


def test_a_listen_address_that_is_taken_is_not_remembered_and_the_next_plain_start_is_as_before(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    say("start", "--home", home, "--data", text, "--listen", "/ip4/0.0.0.0/tcp/4002")
    started.is_ready, started.error = False, TransportError("cannot listen on /ip4/192.0.2.1/tcp/1: no such address")
    failed, _, err = say("start", "--home", home, "--listen", "/ip4/192.0.2.1/tcp/1")
    started.is_ready, started.error = True, None
    again, _, _ = say("start", "--home", home)

    assert (failed, again) == (1, 0)
    assert "/ip4/192.0.2.1/tcp/1" in err
    assert started.configs[-1].listen == ("/ip4/0.0.0.0/tcp/4002",)


def test_a_first_start_that_fails_leaves_no_options(home: Path, text: Path, say: Any, started: Started) -> None:
    started.is_ready, started.error = False, TransportError("cannot listen")
    say("start", "--home", home, "--data", text)

    assert not (home / "config.toml").exists()


def test_a_daemon_that_fails_later_prints_no_second_document(
    home: Path, text: Path, say: Any, started: Started
) -> None:
    started.error = StoreError("the disk is full")
    code, out, err = say("start", "--home", home, "--data", text, "--json")

    assert code == 1
    assert json.loads(out)["status"] == "ok"
    assert "the disk is full" in err
    assert (home / "config.toml").exists()


def test_a_mistake_changes_nothing(home: Path, text: Path, say: Any, started: Started) -> None:
    say("start", "--home", home, "--data", text)
    before = (home / "config.toml").read_text()
    code, _, err = say("start", "--home", home, "--trust", "nonsense")

    assert code == 2
    assert "choose one of" in err
    assert (home / "config.toml").read_text() == before
    assert len(started.configs) == 1


def test_a_damaged_memory_is_told_and_kept(home: Path, text: Path, say: Any, started: Started) -> None:
    home.mkdir()
    (home / "config.toml").write_text("name = ")
    code, _, err = say("start", "--home", home, "--data", text)

    assert code == 2
    assert "damaged" in err
    assert (home / "config.toml").read_text() == "name = "


@pytest.mark.parametrize("words", [(), ("--detach",), ("--data", "/nowhere")])
def test_a_second_start_is_4_and_says_who_runs(daemon: Any, say: Any, started: Started, words: tuple[str, ...]) -> None:
    code, out, _ = say("start", "--home", daemon.paths.home, *words, "--json")
    error = json.loads(out)["error"]

    assert (code, error["code"]) == (4, "already-running")
    assert "process" in error["message"]
    assert "since" in error["message"]
    assert started.configs == []


def test_every_option_of_the_configuration_can_be_typed_and_is_explained(
    say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    _, out, _ = say("start", "--help")
    helps = described(Config)

    for field in msgspec.structs.fields(Config):
        assert helps[field.name]
        switch = PAIRS[field.name][0] if field.name in PAIRS else f"--{field.name.replace('_', '-')}"
        assert switch in out or field.name in FROM_A_FILE
    assert "weight-similarity" in out


def test_the_demo_gets_what_was_typed(say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peerd.demo.plan import DemoOptions

    asked: list[Any] = []

    def run(options: DemoOptions, console: Any) -> dict[str, int]:
        asked.append((options, console.stderr))
        return {"peers": 4}

    monkeypatch.setattr("peerd.demo.run.run", run)
    code, out, _ = say(
        "demo", "--peers", 4, "--rounds", 6, "--trust", "uniform", "--data", tmp_path, "--keep", "--json"
    )

    assert (code, json.loads(out)["data"]) == (0, {"peers": 4})
    assert asked == [(DemoOptions(peers=4, rounds=6, trust="uniform", data=tmp_path, keep=True), True)]


def test_folders_of_the_demo_are_meant_where_they_are_typed(
    say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its daemons stand elsewhere."""
    asked: list[Any] = []
    monkeypatch.setattr("peerd.demo.run.run", lambda options, _: asked.append(options))
    monkeypatch.chdir(tmp_path)
    say("demo", "--data", "texts", "--report", "report", "--json")

    assert [(options.data, options.report) for options in asked] == [(tmp_path / "texts", tmp_path / "report")]


def test_a_demo_of_nonsense_is_bad_usage(say: Any) -> None:
    assert say("demo", "--peers", 0)[0] == 2


def test_no_command_takes_words_it_does_not_explain() -> None:
    for name, module, attribute, _ in COMMANDS:
        assert inspect.getdoc(getattr(import_module(f"peerd.cli.{module}"), attribute)), name


def test_ctrl_c_while_it_starts_in_the_background_says_that_it_goes_on(
    home: Path, text: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: None)
    monkeypatch.setattr("peerd.cli.start._until_ready", interrupted)
    code, _, err = say("start", "--home", home, "--data", text, "--detach")

    assert code == 130
    assert f"goes on starting in the background. To end it: peerd stop --home {home}" in err


def test_what_a_daemon_said_at_its_end_is_told_whole_however_much_it_had_logged_before() -> None:
    error = ["peerd start: nothing works", *(f"  reason {i}" for i in range(20)), "  do this: peerd start"]
    log = "\n".join([*(f"line {i}" for i in range(50)), *error])

    assert last_words(log) == error
    assert last_words("a\nb\n") == ["a", "b"]
    assert last_words("\n".join(map(str, range(99)))) == [str(i) for i in range(99 - LAST_LINES, 99)]


def test_nobody_waits_in_the_background_for_a_worker_that_dies_again_and_again(
    daemon: Any, view: Any, text: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = msgspec.structs.replace(view.status(), state="starting")
    dying = msgspec.structs.replace(now.worker, restarts=2, last_error="exit code 1")
    monkeypatch.setattr(view, "status", lambda: msgspec.structs.replace(now, worker=dying))
    monkeypatch.setattr(view, "paths", lambda: {"home": str(daemon.paths.home)})
    process = SimpleNamespace(poll=lambda: None, returncode=None)

    with pytest.raises(NotHealthy, match=r"its worker died 2 times while it was starting \(exit code 1\)"):
        _until_ready(process, daemon.paths, as_json=False, begun=0)
    with pytest.raises(NotHealthy):
        _still_starting(daemon.paths, as_json=False)


def test_a_worker_that_runs_out_of_memory_while_it_starts_is_waited_for_until_nothing_lighter_is_left(
    daemon: Any, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = msgspec.structs.replace(view.status(), state="starting")
    dying = msgspec.structs.replace(now.worker, restarts=3, last_error="out of memory", memory=MemoryNow())
    helpless = msgspec.structs.replace(dying, memory=MemoryNow(advice="Next: peerd start --context 64"))
    states = [msgspec.structs.replace(now, worker=worker) for worker in (dying, dying, helpless)]
    looks = iter(states)
    monkeypatch.setattr(view, "status", lambda: next(looks))
    monkeypatch.setattr(view, "paths", lambda: {"home": str(daemon.paths.home)})
    process = SimpleNamespace(poll=lambda: None, returncode=None)

    with pytest.raises(NotHealthy, match="Next: peerd start --context 64"):
        _until_ready(process, daemon.paths, as_json=False, begun=0)

    assert next(looks, None) is None


def test_a_daemon_of_another_home_that_answers_on_the_socket_is_not_taken_for_the_one_that_starts(
    daemon: Any, view: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("peerd start: a daemon answers on the socket already\n")
    mine = msgspec.structs.replace(daemon.paths, home=tmp_path / "mine", log=tmp_path / "log")
    codes = iter([None, 4])
    process = SimpleNamespace(poll=lambda: next(codes), returncode=4)

    with pytest.raises(PeerdError, match="a daemon answers on the socket already"):
        _until_ready(process, mine, as_json=False, begun=0)


@pytest.mark.parametrize(("state", "said"), [("starting", "runs, and is not ready yet"), ("training", "is ready")])
def test_a_daemon_that_still_loads_is_not_called_ready(
    daemon: Any, view: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, said: str
) -> None:
    now = msgspec.structs.replace(view.status(), state=state)
    monkeypatch.setattr(view, "status", lambda: now)

    _still_starting(daemon.paths, as_json=False)

    assert f"peerd {said} (process" in capsys.readouterr().err


def test_a_model_is_exported_in_the_form_asked_for_with_how_to_run_it(
    daemon: Any, view: Any, say: Any, tmp_path: Path
) -> None:
    code, out, err = say("export", tmp_path / "m", "--format", "gguf", "--which", "own", "--home", daemon.paths.home)
    refused, _, told = say("export", tmp_path / "x", "--format", "onnx", "--home", daemon.paths.home)
    unknown, _, odd = say("export", tmp_path / "x", "--which", "mine", "--home", daemon.paths.home)

    assert (code, refused, unknown) == (0, 2, 2)
    assert out.splitlines()[0].startswith("The own model, folded into its base, is in ")
    assert f"Run it with: llama-cli -m {tmp_path}/m/model.gguf" in out
    assert "format is one of peft, merged, gguf-lora, gguf" in told
    assert "which is one of base, own, personal" in odd
    assert view.exported_models == ["own"]
    assert "exporting; the worker finishes" in err
