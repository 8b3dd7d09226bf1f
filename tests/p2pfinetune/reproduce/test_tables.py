"""A summary as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from p2pfinetune.compare.folders import read_sweep
from p2pfinetune.compare.summary import Summary, summarise
from p2pfinetune.compare.tables import HEADINGS, as_csv, as_json, best, markdown, write_tables

Write = Callable[..., Path]


@pytest.fixture
def summary(write_run: Write, sweep_folder: Path) -> Summary:
    levels = {"local": 3.3, "theoretical": 3.1, "validation": 3.05, "a|b": 3.4}
    for seed in range(3):
        for scheme, level in levels.items():
            if (seed, scheme) != (2, "a|b"):
                own = None if scheme == "local" else 0.5
                write_run(sweep_folder / f"seed-{seed}" / scheme, [level + 0.01 * seed] * 4, own=own)
    return summarise(read_sweep(sweep_folder), expected=[(2, "a|b")])


def test_the_lowest_perplexity_and_no_other_is_bold(summary: Summary) -> None:
    bold = [line for line in markdown(summary).splitlines() if "**" in line]

    assert best(summary) == "validation"
    assert [line.split(" | ")[0] for line in bold] == ["| validation"]
    assert "**21.33 ± 0.21** | 21.54 |" in bold[0]
    assert "| -22.1 % |" in bold[0], "what collaboration brings to the worst tenth"


def test_every_row_of_the_table_has_all_columns(summary: Summary) -> None:
    table = [line for line in markdown(summary).splitlines() if line.startswith("|")]

    assert {line.replace(r"\|", "").count("|") for line in table} == {len(HEADINGS) + 1}


def test_the_table_says_what_is_missing_and_which_scheme_has_fewer_seeds(summary: Summary) -> None:
    text = markdown(summary)

    assert "Not complete and not counted: seed-2/a|b." in text
    assert "a|b has seeds 0, 1 only." in text
    assert "Seeds: 0, 1, 2. Tokens a peer: train 12,000" in text


def test_the_csv_has_a_line_a_scheme_with_every_figure(summary: Summary) -> None:
    found = list(csv.DictReader(io.StringIO(as_csv(summary))))

    assert [row["name"] for row in found] == ["local", "theoretical", "validation", "a|b"]
    assert float(found[2]["perplexity_mean"]) == summary.schemes[2].perplexity_mean
    assert float(found[2]["worse_than_local_interval_high"]) == pytest.approx(0.2425, abs=1e-3)
    assert found[0]["own_category_trust"] == ""
    assert found[3]["seeds"] == "0 1"


def test_the_json_reads_back_to_the_same_summary(summary: Summary) -> None:
    assert msgspec.json.decode(as_json(summary), type=Summary) == summary


def test_the_json_holds_what_scripts_were_promised(summary: Summary) -> None:
    found = json.loads(as_json(summary))

    assert {"setting", "mix", "model", "seeds", "tokens_per_peer", "schemes", "missing"} == found.keys()
    promised = {"name", "perplexity_mean", "perplexity_std", "last_perplexity_mean", "gain_nats_mean", "gain_nats_std"}
    promised |= {"gap_closed", "gap_closed_std", "better_than_local", "worse_than_local", "bytes", "seconds"}
    promised |= {"worst_tenth_perplexity", "worst_tenth_change"}
    assert promised | {"worse_than_local_interval"} <= found["schemes"][0].keys()


def test_tables_are_written_beside_the_runs(summary: Summary, tmp_path: Path) -> None:
    written = write_tables(summary, tmp_path)

    assert [path.name for path in written] == ["summary.md", "summary.csv", "summary.json"]
    assert (tmp_path / "summary.md").read_text() == markdown(summary)
