"""The command `p2pfinetune` as people and scripts meet it; simulations of a tiny random model, sweeps written by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.cli import answers, main
from p2pfinetune.cli.entry import again
from p2pfinetune.cli.progress import LINE_SECONDS, Lines, Step
from p2pfinetune.cli.reproduce import GROUPS
from p2pfinetune.compare.overview import Overview
from p2pfinetune.compare.plan import Task
from p2pfinetune.compare.summary import Summary
from p2pfinetune.errors import ClusterError
from p2pfinetune.simulation.config import dump_config

CONFIG = """
model = "{model}"
rounds = 3
steps = 1
warmup_rounds = 1
trust = "uniform"
twin = true
{more}
[adapter]
rank = 2
alpha = 4
[training]
batch_size = 2
context = 32
[[peers]]
name = "ann"
data = ["{texts}/ann"]
shares = [1.0, 0.0]
[[peers]]
name = "bob"
data = ["{texts}/bob"]
shares = [0.0, 1.0]
"""


@pytest.fixture
def config(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    for peer, words in {"ann": "fox dog jumps over quick brown", "bob": "def return add a b not"}.items():
        dice = random.Random(peer)
        rows = [json.dumps({"text": " ".join(dice.choices(words.split(), k=30))}) for _ in range(40)]
        (tmp_path / "texts" / peer).mkdir(parents=True)
        (tmp_path / "texts" / peer / "text.jsonl").write_text("\n".join(rows))
    path = tmp_path / "pair.toml"
    path.write_text(CONFIG.format(model=tiny_folder("llama"), texts=tmp_path / "texts", more=""))
    return path


def write_runs(tasks: Sequence[Task], out: Path, **_: Any) -> list[Path]:
    """In place of a sweep: two peers, of whom everybody but local gains with every seed."""
    tokens = {"train": 100, "trust": 10, "guard": 10, "test": 10}
    for task in tasks:
        folder = out / task.folder
        folder.mkdir(parents=True, exist_ok=True)
        best = 3.3 + 0.01 * task.seed - (0.2 if task.scheme != "local" else 0.0)
        result = {
            "tokens": 10,
            "loss": {"base": 4.0, "personal": best, "best": best, "local": None, "local_best": None},
        }
        shapes = {peer: {"shares": [1.0], "tokens": tokens} for peer in ("x-1", "x-2")}
        lines = [{"round": 1, "peer": peer, "guard_own": best, "guard_personal": best} for peer in shapes]
        (folder / "config.toml").write_text(dump_config(task.config))
        (folder / "population.json").write_text(json.dumps({"categories": ["x"], "peers": shapes}))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        document = {"schema_version": 1, "seconds": 1.0, "bytes": 5, "peers": dict.fromkeys(shapes, result)}
        (folder / "result.json").write_text(json.dumps(document))
    return [out / task.folder for task in tasks]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfinetune.compare.sweep.sweep", write_runs)
    monkeypatch.setattr("p2pfinetune.simulation.run.population_of", lambda config: config)
    monkeypatch.setattr("p2pfinetune.paper.populations.tokens_per_peer", lambda _: "x-1 100")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["simulate", "--help"], ["reproduce", "--help"], ["compare", "--help"], ["--version"]]
)
def test_help_never_loads_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom p2pfinetune.cli import main\n"
        f"assert main({arguments!r}) == 0\n"
        "assert not {'torch', 'transformers', 'peft', 'ray', 'matplotlib'} & set(sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_simulation_ends_in_a_table_of_its_peers_and_names_its_plots(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["simulate", str(config), "--out", str(tmp_path / "run")])

    said = capsys.readouterr().out
    assert code == 0
    assert "twin" in said
    assert "served" in said
    assert [line.split()[0] for line in said.splitlines()[3:5]] == ["ann", "bob"]
    assert str(tmp_path / "run" / "plots" / "curves.png") in said
    assert (tmp_path / "run" / "trust.npz").exists()


def test_a_simulation_as_json_is_one_document_and_goes_on_where_it_ended(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "simulate",
        str(config),
        "--seed",
        "3",
        "--max-share",
        "0.25",
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    second = json.loads(capsys.readouterr().out)

    assert first == second
    assert (first["schema_version"], first["command"], first["status"]) == (1, "simulate", "ok")
    found = msgspec.convert(first["data"], answers.Simulated)
    assert [peer.name for peer in found.peers] == ["ann", "bob"]
    assert "seed = 3" in (tmp_path / "run" / "config.toml").read_text()
    assert "max_share = 0.25" in (tmp_path / "run" / "config.toml").read_text()


def test_a_folder_of_another_config_is_left_alone(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(config), "--out", str(tmp_path / "run")]) == 0
    before = (tmp_path / "run" / "result.json").read_bytes()
    capsys.readouterr()

    assert main(["simulate", str(config), "--seed", "9", "--out", str(tmp_path / "run"), "--json"]) == 2
    problem = json.loads(capsys.readouterr().out)
    assert problem["status"] == "error"
    assert "another configuration" in problem["error"]["message"]
    assert "--fresh" in problem["error"]["hint"]
    assert (tmp_path / "run" / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "nowhere.toml"], "cannot be read"),
        (["simulate"], "Missing argument"),
        (["reproduce", "poems"], "poems"),
        (["reproduce", "languages", "--schemes", "validtion"], "there is no scheme"),
        (["reproduce", "languages", "--schemes", ","], "no scheme is given"),
        (["reproduce", "languages", "--scale", "2"], "scale"),
        (["reproduce", "languages", "--lr", "-1"], "lr"),
        (["reproduce", "languages", "--max-share", "0"], "max_share"),
        (["reproduce", "languages", "--data", "nowhere"], "no data folder nowhere"),
        (["reproduce", "languages", "--ray-address", "auto"], "--engine ray"),
        (["compare", "--settings", "languages,poems"], "no setting 'poems'"),
        (["compare", "--schemes", "validtion"], "there is no scheme"),
        (["compare", "--models", ","], "--models names nothing"),
        (["compare", "--lr", "-1"], "lr"),
        (["simulatte"], "simulatte"),
    ],
)
def test_a_mistake_is_exit_code_2_and_words(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(arguments)

    assert code == 2
    assert said in capsys.readouterr().err


def test_a_lost_cluster_is_a_failure_and_no_misuse(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise ClusterError("a part of the cluster was lost", "go on")

    monkeypatch.setattr("p2pfinetune.simulation.run.simulate", lost)

    assert main(["simulate", str(config), "--out", str(tmp_path / "run"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "cluster"


def test_ctrl_c_says_how_to_go_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2pfinetune.simulation.run.simulate", interrupted)

    assert main(["simulate", str(config), "--out", str(tmp_path / "my run"), "--fresh"]) == 130
    assert f"go on with: p2pfinetune simulate {config} --out '{tmp_path / 'my run'}'\n" in capsys.readouterr().err
    assert again(["simulate", "a.toml", "--fresh"]) == "p2pfinetune simulate a.toml"


@pytest.mark.usefixtures("no_training")
def test_a_reproduction_prints_its_table_and_writes_it_with_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "languages", "--mix", "mixed", "--schemes", "local,theoretical", "--out", str(tmp_path)]

    code = main(arguments)

    folder = tmp_path / "languages-mixed" / "nano"
    said = capsys.readouterr()
    assert code == 0
    assert said.out.startswith((folder / "summary.md").read_text().rstrip())
    assert "| theoretical | **22.42 ± 0.22** |" in said.out
    assert "Tokens of each peer:\nx-1 100" in said.err
    assert sorted(path.name for path in (folder / "plots").iterdir()) == ["bars.png", "curves.png"]


@pytest.mark.usefixtures("no_training")
def test_a_reproduction_as_json_is_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "ag-news", "--schemes", "local,theoretical", "--first-seed", "7", "--json"]

    assert main([*arguments, "--out", str(tmp_path)]) == 0

    document = json.loads(capsys.readouterr().out)
    found = msgspec.convert(document["data"], Summary)
    assert (document["command"], document["status"]) == ("reproduce", "ok")
    assert (found.setting, found.mix, found.seeds) == ("ag-news", "specific", [7, 8, 9])
    assert found.schemes[1].gap_closed == pytest.approx(1.0)


@pytest.mark.usefixtures("no_training")
def test_a_reproduction_does_not_take_runs_with_other_options_for_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "languages", "--schemes", "local", "--seeds", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert main([*arguments, "--seeds", "2"]) == 0

    assert main([*arguments, "--lr", "0.5"]) == 2
    assert "other options" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
def test_an_ablation_is_a_summary_for_each_value_and_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "languages", "--schemes", "local,fedavg", "--seeds", "1", "--ablate", "rank"]

    assert main([*arguments, "--out", str(tmp_path), "--json"]) == 0
    found = msgspec.convert(json.loads(capsys.readouterr().out)["data"], answers.Ablated)
    assert [variant.name for variant in found.variants] == ["rank-2", "rank-4", "rank-8", "rank-16"]

    assert main([*arguments, "--out", str(tmp_path)]) == 0
    table = (tmp_path / "languages-specific" / "nano-rank.md").read_text()
    assert capsys.readouterr().out.startswith(table)
    assert "| 16 | 27.11 | **22.20** |" in table


@pytest.mark.usefixtures("no_training")
def test_faithful_adds_the_papers_own_form_of_each_scheme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "languages", "--schemes", "local,mixture", "--faithful", "--seeds", "1", "--json"]

    assert main([*arguments, "--out", str(tmp_path)]) == 0

    schemes = json.loads(capsys.readouterr().out)["data"]["schemes"]
    assert [scheme["name"] for scheme in schemes] == ["local", "mixture", "local-faithful"]


def test_the_help_names_every_group_of_schemes() -> None:
    from p2pfinetune.compare.schemes import GROUPS as KNOWN

    assert GROUPS.split(", ") == list(KNOWN)


def test_lines_tell_of_every_end_and_now_and_then_of_what_goes_on() -> None:
    now, lines = [0.0], []
    told = Lines(2, lines.append, lambda: now[0]).tell
    told(Step("a", 1, 4, 1.0))
    now[0] = LINE_SECONDS
    told(Step("a", 2, 4, 1.0))
    told(Step("b", 3, 4, 1.0))
    told(Step("b", 4, 4))
    told(Step("b", 4, 4))

    assert [line.split("  ", 1)[1] for line in map(str.strip, lines)] == [
        "a   50%  guard perplexity 2.72",
        "b  done (1 of 2)",
    ]


@pytest.mark.usefixtures("no_training")
def test_a_comparison_is_one_table_over_all_settings_and_models_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "--settings", "languages,code-wiki", "--schemes", "local,theoretical", "--json"]

    assert main([*arguments, "--out", str(tmp_path)]) == 0

    found = msgspec.convert(json.loads(capsys.readouterr().out)["data"], Overview)
    assert [one.name for one in found.overall] == ["theoretical", "local"], "what brings most stands in front"
    assert [(s.setting, s.mix, s.model) for s in found.summaries] == [
        ("languages", "specific", "nano"),
        ("code-wiki", "specific", "nano"),
    ]
    assert {Path(file).name for file in found.files} == {"comparison.md", "comparison.json", "comparison.png"}
    assert all(Path(file).stat().st_size > 0 for file in found.files)
