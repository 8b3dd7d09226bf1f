from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.names import PeerId
from p2pfinetune.system import interpreter
from peerd.cli import display, main
from peerd.cli.commands import COMMANDS, NAMES, OF_A_HOME
from peerd.cli.output import in_home
from peerd.control.client import Client
from peerd.control.render import when
from peerd.control.request import Request
from peerd.control.verbs import DATA
from peerd.machine.lock import hold
from peerd.machine.paths import Paths
from peerd.status import NeighbourNow, Status

ASKING = (
    "status",
    "peers",
    "trust",
    "rounds",
    "sent",
    "id",
    "metrics",
    "stop",
    "unban",
    "generate",
    "export",
    "dashboard",
)
ARGUMENTS = {"unban": ["eve"], "generate": ["hello"], "export": ["out"], "dashboard": ["--no-open"]}


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("command", ["status", "peers", "trust", "rounds", "sent", "id", "paths", "metrics"])
def test_every_look_is_one_document_of_its_type(daemon: Any, say: Any, command: str) -> None:
    code, out, err = say(command, "--home", daemon.paths.home, "--json")
    found = json.loads(out)

    assert (code, err) == (0, "")
    assert {key: found[key] for key in ("schema_version", "command", "status")} == {
        "schema_version": 1,
        "command": command,
        "status": "ok",
    }
    msgspec.convert(found["data"], DATA[command])


@pytest.mark.parametrize("command", ["status", "peers", "trust", "rounds", "sent", "id", "paths"])
def test_typed_in_another_order_it_says_the_same(daemon: Any, say: Any, command: str) -> None:
    plain = say(command, "--json", "--home", daemon.paths.home)
    through_typer = say(command, "--json", f"--home={daemon.paths.home}")

    assert plain == through_typer


def test_the_documents_of_a_design_that_others_read(daemon: Any, say: Any) -> None:
    found = json.loads(say("status", "--home", daemon.paths.home, "--json")[1])["data"]

    wanted = "peer_id name version network group uptime_seconds round state loss perplexity neighbours traffic health worker loop"
    assert set(wanted.split()) <= set(found)
    assert {"train", "trust", "guard"} <= set(found["loss"])
    assert {"base", "own", "personal", "twin", "local"} <= set(found["perplexity"])
    assert {"peer_id", "name", "trust", "age_seconds", "round", "bytes_in", "bytes_out", "refused"} <= set(
        found["neighbours"][0]
    )
    assert {"state", "device", "precision", "precision_why", "tokens_per_second"} <= set(found["worker"])
    assert {"max_callback_cpu_ms", "max_lag_ms"} <= set(found["loop"])


def test_status_speaks_plainly(daemon: Any, say: Any) -> None:
    code, out, _ = say("status", "--home", daemon.paths.home)

    assert code == 0
    assert out.startswith("alice: training round 13 with 2 peers\n")
    assert "On your own held-out text (4,096 tokens of 17 documents) the personal model's perplexity" in out
    assert "  trust 2,048 tokens of 9 documents, guard 4,096 tokens of 17 documents" in out
    assert "1 of 2 connected; round 12 took: bob 36 %, eve 6 %" in out
    assert "training on cpu in bf16 (as it was trained so far), 1,834 tokens/s" in out


def test_alone_it_says_what_to_type(home: Path, say: Any, make_view: Any, serve_view: Any) -> None:
    with serve_view(Paths.of(home), make_view(rounds=2, alone=True)):
        _, out, _ = say("status", "--home", home)
        _, peers, _ = say("peers", "--home", home)
        _, trust, _ = say("trust", "--home", home)

    assert "--bootstrap MULTIADDR" in out
    assert "No peer found yet" in peers
    assert "nobody to merge with" in trust


def test_a_row_that_was_not_taken_is_told_as_such_by_every_command_with_the_reason_and_since_when(
    home: Path, say: Any, make_view: Any, serve_view: Any
) -> None:
    view = make_view(rounds=3)
    view.refuses = True
    for _ in range(5):
        view.finish_round()
    with serve_view(Paths.of(home), view), Client(home) as client:
        said = {name: say(name, "--home", home)[1] for name in ("status", "trust", "peers", "metrics")}
        one = say("trust", "bob", "--home", home)[1]
        found, merges = client.trust(), client.status().merges
        document = json.loads(say("trust", "--home", home, "--json")[1])["data"]

    since = when(view.rounds(5)[0].finished_unix)
    assert (
        f"not taken in each of the last 5 rounds with somebody (worse on the guard split; since round 4, {since})"
        in said["status"]
    )
    assert "round 3 took: bob" in said["status"]
    assert said["trust"].startswith("Trust in round 8, by validation: NOT TAKEN\n")
    assert f"5 merges, were not taken, since round 4 ({since})" in said["trust"]
    assert "What my model took from others\n  As the last merge was taken, in round 3" in said["trust"]
    assert "in a merge that was not taken" in said["peers"]
    assert one.startswith("bob: 33 % of the merge in round 8, which was not taken (worse on the guard split)\n")
    assert "peerd_merges_refused_in_a_row 5.0" in said["metrics"]
    assert "peerd_last_taken_merge_round 3.0" in said["metrics"]
    assert (merges.round, merges.refused, merges.since_round, merges.reason) == (3, 5, 4, "worse on the guard split")
    assert found.merges == merges
    (bob,) = [peer for peer in document["row"] if peer["name"] == "bob"]
    assert (bob["weight"], bob["taken_weight"]) == (view.rounds(1)[0].row[bob["peer_id"]], merges.row[bob["peer_id"]])
    assert [point["taken"] for point in bob["history"]] == [True] * 3 + [False] * 5


def test_id_prints_whole_commands_for_others_with_everything_that_has_to_be_the_same(daemon: Any, say: Any) -> None:
    _, out, _ = say("id", "--home", daemon.paths.home)
    found = json.loads(say("id", "--home", daemon.paths.home, "--json")[1])["data"]

    (invitation,) = found["invitations"]
    assert "--model nano --group-key FILE --peer /ip4/192.168.1.20/tcp/4001/p2p/" in invitation
    assert f"  {invitation}\n" in out
    assert "FILE is a copy of" in out


def test_rounds_say_beside_the_base_and_on_how_many_tokens(daemon: Any, say: Any) -> None:
    _, out, _ = say("rounds", "--home", daemon.paths.home)

    first, last = (line for line in out.splitlines() if line.split()[0] in {"1", "12"})
    assert ("none to be seen" in first, "-52 %" in last, "4,096" in last) == (False, True, True)


def test_what_is_wrong_stands_at_the_top(daemon: Any, view: Any, say: Any) -> None:
    view.broken = "No update for an hour. Look at: peerd peers"
    _, out, _ = say("status", "--home", daemon.paths.home)

    assert out.splitlines()[2].strip() == f"{view.broken} --home {daemon.paths.home}"


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_status_ends_with_exit_code_5_where_the_daemon_is_not_healthy_and_says_all_the_same(
    daemon: Any, view: Any, say: Any, form: tuple[str, ...]
) -> None:
    well = [
        say("status", "--home", daemon.paths.home, *form)[0],
        say("status", f"--home={daemon.paths.home}", *form)[0],
    ]
    view.broken = "No update for an hour"
    (code, out, err), (typed_otherwise, *_) = (
        say("status", "--home", daemon.paths.home, *form),
        say("status", f"--home={daemon.paths.home}", *form),
    )

    assert (well, code, typed_otherwise) == ([0, 0], 5, 5)
    assert "No update for an hour" in out
    assert (not form) or (json.loads(out)["status"], json.loads(out)["data"]["health"]["ok"]) == ("ok", False)
    assert err == ""
    assert say("peers", "--home", daemon.paths.home, *form)[0] == 0


def test_a_strangers_name_cannot_reach_the_terminal_raw(daemon: Any, view: Any, say: Any) -> None:
    view.bob_name = "bob\x1b[2J\x9b31m\u202e\nfake line"
    for command in ("status", "peers", "trust"):
        for form in ((), ("--json",)):
            _, out, _ = say(command, "--home", daemon.paths.home, *form)
            assert not set("\x1b\x9b\u202e") & set(out)
            assert "\nfake" not in out


def test_trust_in_one_peer_by_name_or_end_of_id(daemon: Any, say: Any) -> None:
    for word in ("bob", "Bob22"):
        code, out, _ = say("trust", word, "--home", daemon.paths.home)
        assert code == 0
        assert out.startswith("bob: 36 % of the merge in round 12\n")
    data = json.loads(say("trust", "eve", "--home", daemon.paths.home, "--json")[1])["data"]

    assert [peer["name"] for peer in data["row"]] == ["eve"]


@pytest.mark.parametrize("word", ["nobody", "1", "Bob2"])
def test_trust_in_an_unknown_peer_names_those_there_are(daemon: Any, say: Any, word: str) -> None:
    code, _, err = say("trust", word, "--home", daemon.paths.home)

    assert code == 2
    assert "alice, bob, eve" in err


def test_what_left_the_device_is_listed_with_what_it_betrays(daemon: Any, say: Any) -> None:
    code, out, _ = say("sent", "--last", 3, "--home", daemon.paths.home)

    assert code == 0
    assert "12 updates" in out
    assert "epsilon 15" in out
    assert "Your text itself is never sent" in out
    rows = [line for line in out.splitlines() if "bob" in line]
    assert [row.split()[0] for row in rows] == ["11", "12"]
    assert "13.8" in rows[0]
    assert any(line.startswith("older") and "(others)" in line for line in out.splitlines())


def test_the_status_says_what_was_sent_and_what_that_means(daemon: Any, say: Any) -> None:
    _, out, _ = say("status", "--home", daemon.paths.home)

    assert "ever: 12 updates," in out
    assert "see: peerd sent" in out
    assert "12 updates with noise: epsilon 15." in out


def test_rounds_can_be_limited(daemon: Any, say: Any) -> None:
    _, out, _ = say("rounds", "--last", 2, "--home", daemon.paths.home)

    assert [line.split()[0] for line in out.splitlines()] == ["round", "11", "12"]


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize("leftover", ["nothing", "empty home", "dead socket"])
def test_without_a_daemon_it_is_3_and_nothing_is_made(home: Path, say: Any, command: str, leftover: str) -> None:
    if leftover != "nothing":
        home.mkdir()
    if leftover == "dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(home / "peerd.sock"))
    before = sorted(home.rglob("*")) if home.exists() else None
    code, out, err = say(command, *ARGUMENTS.get(command, []), "--home", home, "--json")

    assert code == 3
    assert json.loads(out)["error"]["code"] == "not-running"
    assert "peerd start" in err
    assert (sorted(home.rglob("*")) if home.exists() else None) == before


def test_paths_needs_no_daemon_and_makes_nothing(home: Path, say: Any) -> None:
    code, out, _ = say("paths", "--home", home, "--json")

    assert code == 0
    assert json.loads(out)["data"]["socket"] == str(home / "peerd.sock")
    assert not home.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["status", "extra"],
        ["rounds", "--last", "0"],
        ["sent", "--last", "0"],
        ["rounds", "--last", "many"],
        ["generate"],
        ["generate", "a", "--temperature", "hot"],
        ["export"],
        ["dashboard", "--port", "70000"],
        ["start", "--rank", "0"],
        ["start", "--rank", "many"],
        ["start", "--sharing", "c"],
        ["demo", "--peers", "many"],
        ["--nonsense"],
    ],
)
def test_bad_usage_is_2_and_a_document_with_json(
    say: Any, home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEERD_HOME", str(home))
    code, out, err = say(*words, "--json")
    found = json.loads(out)

    assert code == 2
    assert (found["status"], found["error"]["code"]) == ("error", "usage")
    assert "--help" in found["error"]["hint"]
    assert found["error"]["message"] in err
    assert not home.exists()


def test_without_a_word_it_prints_its_help(say: Any) -> None:
    code, out, _ = say()

    assert code == 2
    assert all(name in out for name in NAMES)


@pytest.mark.parametrize(("command", "example"), [(name, example) for name, _, _, example in COMMANDS])
def test_every_command_has_help_with_an_example_and_json(
    say: Any, command: str, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    code, out, _ = say(command, "--help")

    assert code == 0
    assert "Example:" in out
    assert example in " ".join(out.split())
    assert "--json" in out
    assert "--home" in out or command == "demo"


def test_the_version_is_told(say: Any) -> None:
    assert say("--version")[:2] == (0, "peerd 0.1.0\n")


def on_a_terminal(command: list[str], columns: int) -> str:
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    try:
        while chunk := os.read(ours, 4096):
            drawn += chunk
    except OSError:
        pass
    os.close(ours)
    assert process.wait() == 0
    return drawn.decode()


def test_on_a_terminal_tables_are_drawn_and_elsewhere_they_are_plain(daemon: Any) -> None:
    command = [*interpreter.command("-m", "peerd"), "peers", "--home", str(daemon.paths.home)]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    drawn = on_a_terminal(command, 120)

    assert plain.isprintable() is False
    assert "\x1b" not in plain
    assert "─" not in plain
    assert "──" in drawn


def test_on_a_narrow_terminal_no_figure_is_cut(daemon: Any) -> None:
    command = [*interpreter.command("-m", "peerd"), "peers", "--home", str(daemon.paths.home)]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert on_a_terminal(command, 60).replace("\r", "") == plain


def test_a_reader_that_has_enough_is_no_error(daemon: Any) -> None:
    shell = f"{sys.executable} -P -m peerd rounds --home {daemon.paths.home} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_status_loads_nothing_it_does_not_need(daemon: Any) -> None:
    heavy = {"torch", "transformers", "typer", "rich", "httpx", "starlette", "uvicorn", "numpy", "asyncio"}
    code = (
        f"import sys\nfrom peerd.cli import main\ncode = main(['status', '--json', '--home', {str(daemon.paths.home)!r}])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
    msgspec.convert(json.loads(done.stdout)["data"], Status)


def test_copies_and_offenders_are_pointed_at(capsys: pytest.CaptureFixture[str]) -> None:
    usual: dict[str, Any] = {"trust": 0.0, "age_seconds": None, "round": 1, "connected": True}
    usual |= {"bytes_in": 0, "bytes_out": 0, "refused": {}}
    bob = NeighbourNow(peer_id=PeerId("12D3KooWbob"), name="bob", **usual)
    eve = NeighbourNow(peer_id=PeerId("12D3KooWeve"), name="eve", standing="throttled", copy_of=bob.peer_id, **usual)
    display.peers([bob, eve], [])
    lines = capsys.readouterr().out.splitlines()

    assert lines[1].split()[-2:] == ["none", "none"]
    assert lines[2].endswith("throttled, copy of bob")


def test_a_home_that_no_daemon_ever_had_is_named_in_case_it_is_misspelt(home: Path, say: Any) -> None:
    _, _, err = say("status", "--home", home)

    assert f"none was started in {home}" in err
    assert f"peerd start --home {home} --data FOLDER" in err


def test_after_a_crash_the_next_command_is_for_this_home_and_names_its_log(home: Path, say: Any) -> None:
    home.mkdir()
    paths = Paths.of(home)
    paths.config.write_text("")
    paths.lock.write_text('{"pid":4711,"version":"0.1.0","started_unix":1795299226.2,"socket":"gone"}')
    for command in ("status", "stop", "peers"):
        _, out, err = say(command, "--home", home, "--json")
        assert "process 4711, started 2026-" in err
        assert "killed or crashed" in err
        assert json.loads(out)["error"]["hint"] == f"start it again: peerd start --home {home}   its log: {paths.log}"


def test_what_to_type_next_reaches_the_daemon_that_was_asked(
    home: Path, say: Any, make_view: Any, serve_view: Any
) -> None:
    with serve_view(Paths.of(home), make_view(rounds=2, alone=True)):
        _, out, _ = say("status", "--home", home)
        _, peers, _ = say("peers", f"--home={home}")

    assert f"peerd stop --home {home} && peerd start --home {home} --bootstrap MULTIADDR" in out
    assert f"peerd status --home {home}" in peers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("peerd start --data X", "peerd start --home '/a b' --data X"),
        ("see: peerd start --help", "see: peerd start --help"),
        ("peerd start --home /c", "peerd start --home /c"),
        ("peerd demo, peerd started", "peerd demo, peerd started"),
        ("peerd start: it said", "peerd start: it said"),
    ],
)
def test_a_home_is_put_into_commands_and_into_nothing_else(text: str, expected: str) -> None:
    assert in_home(text, Path("/a b")) == expected
    assert in_home(text, None) == text


def test_every_command_that_status_names_reaches_the_daemon_that_was_asked(
    home: Path, say: Any, make_view: Any, serve_view: Any
) -> None:
    with serve_view(Paths.of(home), make_view(rounds=3)):
        _, out, _ = say("status", "--home", home)

    named = re.findall(rf"\bpeerd (?:{'|'.join(OF_A_HOME)})\b(?!:)(.{{7}})?", out)
    assert len(named) >= 2
    assert set(named) == {" --home"}


def test_a_daemon_that_does_not_answer_is_not_only_to_be_asked_again(home: Path, say: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("peerd.control.client.request_of", lambda *_: Request("GET", "/v1/status", None, 0.02))
    paths = Paths.of(home)
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as deaf, hold(paths.lock, version="0.1.0", socket=paths.socket):
        deaf.bind(str(paths.socket))
        deaf.listen()
        for command in ("stop", "unban"):
            code, _, err = say(command, *ARGUMENTS.get(command, []), "--home", home)
            assert code == 5
            assert f"kill -9 {os.getpid()}" in err
            assert f"peerd stop --home {home}" in err


@pytest.mark.parametrize("words", [["--home", ""], ["--home="], ["--json", "--home", ""]])
@pytest.mark.parametrize("command", ["status", "start", "paths"])
def test_an_empty_home_is_not_the_folder_one_stands_in(
    say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = say(command, *words)

    assert code == 2
    assert "--home is empty" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "start"])
def test_a_home_that_is_a_file_is_called_that(say: Any, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("precious")
    code, _, err = say(command, "--home", tmp_path / "file")

    assert code == 2
    assert f"{tmp_path / 'file'} is not a folder" in err
