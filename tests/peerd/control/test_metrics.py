"""Figures as Prometheus text: all of them, plain labels, bounded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from p2pfinetune.names import PeerId
from peerd.cli import main
from peerd.control.metrics import MAX_LABEL, MAX_PEERS, exposition, label
from peerd.status import BannedNow, NeighbourNow, Status

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"


@pytest.fixture
def view(make_view: Any) -> Any:
    return make_view(rounds=12)


def samples(text: bytes | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = text.decode() if isinstance(text, bytes) else text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def figures(view: Any, **changes: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status: Status = replace(view.status(), **changes)
    return samples(exposition(status, view.rounds(1)))


def peer(number: int, **fields: Any) -> NeighbourNow:
    usual: dict[str, Any] = {"name": "x", "trust": 0.0, "age_seconds": None, "round": 1, "connected": False}
    usual |= {"bytes_in": 1, "bytes_out": 2, "refused": {}}
    return NeighbourNow(peer_id=PeerId(f"12D3KooWpeer{number:05d}"), **(usual | fields))


def test_what_people_ask_first_is_there(view: Any) -> None:
    found = figures(view, round_seconds=12.5, dropped=7)

    assert found["peerd_round", ()] == view.status().round
    assert found["peerd_round_seconds", ()] == 12.5
    assert found["peerd_perplexity", (("model", "personal"),)] == pytest.approx(view.status().perplexity.personal)
    assert found["peerd_loss_nats", (("split", "guard"),)] == pytest.approx(view.status().loss.guard)
    assert found["peerd_peers_connected", ()] == 1
    assert found["peerd_bytes_total", (("direction", "in"),)] == 3_400_000
    assert found["peerd_loop_max_lag_seconds", ()] == pytest.approx(0.031)
    assert found["peerd_dropped_events_total", ()] == 7
    assert found["peerd_worker_restarts_total", ()] == 0
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert found["process_open_fds", ()] > 2


def test_refusals_are_counted_by_peer_and_reason(view: Any) -> None:
    found = figures(view, refused={"norm": 2, "stale": 5}, neighbours=[peer(1, refused={"norm": 2})])

    assert found["peerd_refusals_total", (("reason", "stale"),)] == 5
    by_peer = (("peer", "12D3KooWpeer00001"), ("reason", "norm"))
    assert found["peerd_peer_refusals_total", by_peer] == 2


def test_how_peers_stand_is_counted(view: Any) -> None:
    banned = BannedNow(peer_id=PeerId("12D3KooWbad"), name="", seconds=9.0, bans=1, reason="norm")
    peers = [peer(1), peer(2, standing="throttled"), peer(3, copy_of=PeerId("12D3KooWpeer00001"))]
    found = figures(view, neighbours=peers, banned=[banned])

    assert [found["peerd_peers", (("standing", word),)] for word in ("good", "throttled", "banned")] == [2, 1, 1]
    assert found["peerd_peers_copying", ()] == 1


def test_what_was_not_measured_has_no_sample(view: Any) -> None:
    view.alone = True
    text = exposition(replace(view.status(), loss=type(view.status().loss)()), [])

    assert not [name for name, _ in samples(text) if name == "peerd_loss_nats"]
    assert "# TYPE peerd_loss_nats gauge" in text.decode()


def test_what_strangers_choose_is_plain_and_short() -> None:
    assert label('evil"}\n\x1b[31m' + "x" * 999) == "evil_____31m" + "x" * (MAX_LABEL - 12)


def test_words_of_strangers_cannot_add_lines_and_names_are_not_told(view: Any) -> None:
    evil = peer(1, name="my secret name", refused={'x"} 1\npeerd_healthy 0\n': 3})
    text = exposition(replace(view.status(), neighbours=[evil], refused={"a\nb": 1}), view.rounds(1)).decode()

    assert len(re.findall("^peerd_healthy", text, re.MULTILINE)) == 1
    assert "secret" not in text
    assert samples(text)["peerd_refusals_total", (("reason", "a_b"),)] == 1


def test_only_so_many_peers_have_figures_of_their_own_the_connected_and_the_worst_first(view: Any) -> None:
    crowd = [peer(n, refused={"norm": n}) for n in range(300)]
    found = figures(view, neighbours=[*crowd, peer(999, connected=True)])

    told = {dict(labels)["peer"] for name, labels in found if name == "peerd_peer_bytes_total"}
    assert len(told) == MAX_PEERS
    assert {"12D3KooWpeer00999", "12D3KooWpeer00299"} <= told


def test_every_metric_is_in_the_document_and_the_other_way_round(view: Any) -> None:
    text = exposition(view.status(), view.rounds(1)).decode()
    told = re.findall(r"^# TYPE (peerd_[a-z_]+) ", text, re.MULTILINE)  # whether or not there is a sample now

    assert set(told) == set(re.findall(r"^\| `(peerd_[a-z_]+)` \|", DOCUMENT.read_text(), re.MULTILINE))


def test_it_is_served_on_the_socket_and_printed_by_the_command(daemon: Any, capsys: Any) -> None:
    transport = httpx.HTTPTransport(uds=str(daemon.paths.socket))
    with httpx.Client(transport=transport) as http:
        answer = http.get("http://peerd/v1/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(answer.text)["peerd_healthy", ()] == 1

    assert main(["metrics", "--home", str(daemon.paths.home)]) == 0
    printed = capsys.readouterr().out
    assert samples(printed).keys() == samples(answer.text).keys()


def test_asking_for_it_loads_neither_torch_nor_the_library_that_writes_it() -> None:
    code = (
        "import sys; from peerd.cli import main; main(['metrics', '--home', '/nonexistent'])\n"
        "assert not {'torch', 'typer', 'prometheus_client'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
