"""Who holds what, on made-up files of the real ones' forms: each category has letters of its own, each word is unique."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from p2pfinetune.data.population import Population
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.errors import OptionError, TextError
from p2pfinetune.names import PeerId
from p2pfinetune.paper.populations import populate, tokens_per_peer
from p2pfinetune.paper.settings import Mix, Setting, layout
from p2pfinetune.trust.oracle import Oracle

CASES = [(setting, mix) for setting in get_args(Setting) for mix in get_args(Mix)]
SMALL = 1e-3  # every split at its floor
LICENCE = "/*\n * Licensed to the Apache Software Foundation; copyright is theirs.\n */\n"
WORD = 14  # letters: long enough that random words of few letters never meet
LETTERS = {
    "world": "abcd",
    "sports": "efgh",
    "business": "ijkl",
    "sci-tech": "mnop",
    "fr": "abcdef",
    "de": "ghijkl",
    "it": "mnopqr",
    "wiki": "abcdefgh",
    "java": "ijklmnop",
}


def words(category: str, count: int, dice: random.Random) -> list[str]:
    return ["".join(dice.choices(LETTERS[category], k=WORD)) for _ in range(count)]


def with_copies(texts: list[str]) -> list[str]:
    """Every fifth is there once more with its last word changed."""
    return texts + [text[:-WORD] + text[-WORD:][::-1] for text in texts[::5]]


def plain(category: str, count: int, dice: random.Random) -> list[str]:
    return [" ".join(words(category, 8, dice)) for _ in range(count)]


def sentences(category: str, count: int, dice: random.Random) -> list[str]:
    return with_copies(plain(category, count, dice))


def files(category: str, count: int, lines: int, dice: random.Random) -> list[str]:
    return with_copies(["\n".join(plain(category, lines, dice)) for _ in range(count)])


def rows_gz(path: Path, texts: Sequence[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode()))


def write_news(folder: Path, dice: random.Random) -> None:
    folder.mkdir()
    for file, count in (("ag_news_train.jsonl", 120), ("ag_news_test.jsonl", 120)):
        rows = []
        for label, category in enumerate(("world", "sports", "business", "sci-tech")):
            for i, text in enumerate(sentences(category, count, dice)):
                # letters y and z say where a row comes from
                origin = {"src": ("jatin20k", "zy12k")[i % 4 == 3]} if "train" in file else {}
                mark = {"jatin20k": "", "zy12k": "z", None: "y"}[origin.get("src")]
                rows.append({"label": label, "label_text": category, "text": f"{text} {mark}".strip(), **origin})
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, dice = tmp_path_factory.mktemp("data"), random.Random(0)
    write_news(folder / "ag_news", dice)
    (folder / "wikineural").mkdir()
    (folder / "wikitext2").mkdir()
    for name, novel in (("fr", "fra"), ("de", "deu"), ("it", "ita")):
        (folder / f"wikineural/{name}.txt").write_text("\n".join(sentences(name, 400, dice)) + "\n")
        rows_gz(folder / f"novels/{novel}.jsonl.gz", files(name, 3, 60, dice))
    (folder / "wikineural/en.txt").write_text("\n".join(sentences("wiki", 350, dice)))
    for file in ("valid", "test"):
        lines = [f" {' . '.join(sentences('wiki', 4, dice))} . " for _ in range(20)]
        (folder / f"wikitext2/{file}.txt").write_text("\n = Title = \n\n" + "\n".join(lines))
    rows_gz(folder / "java/commons-lang.jsonl.gz", [LICENCE + text for text in files("java", 25, 20, dice)])
    return folder


@dataclass(frozen=True)
class TokenizerAlone:
    """Nothing else of a base is asked for."""

    tokenizer: Any


@pytest.fixture(scope="session")
def base(tiny_folder: Callable[[str], Path]) -> Any:
    from transformers import AutoTokenizer

    return TokenizerAlone(AutoTokenizer.from_pretrained(str(tiny_folder("llama"))))


@pytest.fixture(scope="session")
def dealt(fake: Path, base: Any) -> Callable[[Setting, Mix], Population]:
    known: dict[tuple[Setting, Mix], Population] = {}

    def population(setting: Setting, mix: Mix) -> Population:
        if (setting, mix) not in known:
            known[setting, mix] = populate(setting, mix, base=base, data=fake, scale=SMALL, seed=0)
        return known[setting, mix]

    return population


def decoded(text: Any, base: Any) -> Iterator[tuple[str, int]]:
    """Each document, with its length in tokens."""
    for i in range(text.documents):
        tokens = text.document(i)
        yield base.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


def held(text: Any, categories: Sequence[str], base: Any) -> Counter[str]:
    """Tokens of each category, told by the first letter."""
    found: Counter[str] = Counter()
    for document, tokens in decoded(text, base):
        letter = re.sub(r"[^a-r]", "", document)[0]
        found[next(name for name in categories if letter in LETTERS[name])] += tokens
    return found


def whole_words(text: Any, base: Any) -> set[str]:
    return {word for document, _ in decoded(text, base) for word in re.findall(rf"\b[a-r]{{{WORD}}}\b", document)}


def everywhere(population: Population) -> dict[str, Any]:
    places = {f"{peer} {split}": population.texts[peer].split(split) for peer in population.peers for split in SPLITS}
    return {**places, "reference": population.reference}


@pytest.mark.parametrize(("setting", "mix"), CASES)
def test_every_split_holds_the_declared_shares_to_within_a_token(
    setting: Setting, mix: Mix, dealt: Any, base: Any
) -> None:
    population = dealt(setting, mix)

    for peer in population.peers:
        declared = dict(zip(population.categories, population.shares[peer], strict=True))
        for split in SPLITS:
            found = held(population.texts[peer].split(split), population.categories, base)
            total = population.tokens(peer)[split]
            assert {name: found[name] for name in declared} == {
                name: pytest.approx(share * total, abs=1) for name, share in declared.items()
            }


@pytest.mark.parametrize(("setting", "mix"), CASES)
def test_no_text_is_in_two_places_nor_a_copy_with_one_word_changed(
    setting: Setting, mix: Mix, dealt: Any, base: Any
) -> None:
    found = {place: whole_words(text, base) for place, text in everywhere(dealt(setting, mix)).items()}

    assert all(found.values())
    shared = {(a, b): found[a] & found[b] for a, b in combinations(found, 2)}
    assert {places: texts for places, texts in shared.items() if texts} == {}


@pytest.mark.parametrize(("setting", "mix"), CASES)
def test_the_reference_text_gives_every_category_the_same(setting: Setting, mix: Mix, dealt: Any, base: Any) -> None:
    population = dealt(setting, mix)

    found = held(population.reference, population.categories, base)

    assert found.keys() == set(population.categories)
    assert len(set(found.values())) == 1
    assert len(population.reference.tokens) >= 64 * 64


@pytest.mark.parametrize(
    ("setting", "mix", "names"),
    [
        ("ag-news", "specific", "world-1 world-2 sports-1 sports-2 business-1 business-2 sci-tech-1 sci-tech-2"),
        ("ag-news", "mixed", "world-1 sports-1 business-1 sci-tech-1"),
        ("languages", "specific", "fr-1 fr-2 fr-3 de-1 de-2 de-3 it-1 it-2 it-3"),
        ("languages", "mixed", "fr-1 fr-2 fr-3 de-1 de-2 de-3 it-1 it-2 it-3"),
        ("code-wiki", "specific", "wiki-1 java-1 wiki-2 java-2 wiki-3 java-3 wiki-4 java-4"),
        ("code-wiki", "mixed", "wiki-1 java-1 wiki-2 java-2 wiki-3 java-3 wiki-4 java-4"),
    ],
)
def test_the_peers_are_those_of_the_paper_in_its_order(setting: Setting, mix: Mix, names: str, dealt: Any) -> None:
    population = dealt(setting, mix)

    assert population.peers == tuple(names.split())
    assert tuple(population.shares) == population.peers
    assert layout(setting, mix).peers() == population.peers


def oracle_row(population: Population, me: PeerId) -> dict[PeerId, float]:
    class Told:
        shares = population.shares

    return Oracle().scores(me, dict.fromkeys(population.peers), Told())  # type: ignore[arg-type]


def test_d3_the_oracle_pairs_the_two_peers_of_one_class(dealt: Any) -> None:
    population = dealt("ag-news", "specific")

    for i, me in enumerate(population.peers):
        row = oracle_row(population, me)
        assert [peer for peer in row if row[peer] == 0.0] == sorted(
            [me, population.peers[i ^ 1]], key=population.peers.index
        )
        assert sum(score == float("-inf") for score in row.values()) == 6


def test_d11_whoever_is_mixed_holds_a_quarter_of_another_language(dealt: Any) -> None:
    population = dealt("languages", "mixed")

    assert {tuple(sorted(row)) for row in population.shares.values()} == {(0.0, 0.25, 0.75)}
    for language in range(3):
        assert sum(row[language] for row in population.shares.values()) == 3.0


def test_d12_even_and_odd_peers_of_code_and_wikipedia_hold_different_mixtures(dealt: Any) -> None:
    population = dealt("code-wiki", "mixed")

    assert [population.shares[peer] for peer in population.peers] == [(0.75, 0.25), (0.25, 0.75)] * 4


def test_d13_ag_news_has_a_reference_text_too_and_it_is_of_the_train_file(dealt: Any, base: Any) -> None:
    for mix in get_args(Mix):
        assert not any("y" in text for text, _ in decoded(dealt("ag-news", mix).reference, base))


def test_only_test_splits_of_ag_news_hold_rows_of_the_test_file(dealt: Any, base: Any) -> None:
    population = dealt("ag-news", "mixed")

    for peer in population.peers:
        marked = {
            split: ["y" in text for text, tokens in decoded(population.texts[peer].split(split), base) if tokens > 116]
            for split in SPLITS
        }
        assert all(marked["test"])
        assert not any(marked["train"] + marked["trust"] + marked["guard"])


def test_rows_with_glued_titles_are_taken_last(fake: Path, base: Any, dealt: Any) -> None:
    def has_glued(population: Population) -> bool:
        return any("z" in text for peer in population.peers for text, _ in decoded(population.texts[peer].train, base))

    assert not has_glued(dealt("ag-news", "mixed"))
    assert has_glued(populate("ag-news", "mixed", base=base, data=fake, scale=1.0, seed=0))


def test_no_licence_is_left_in_the_code(dealt: Any, base: Any) -> None:
    population = dealt("code-wiki", "specific")

    texts = [text for split in everywhere(population).values() for text, _ in decoded(split, base)]
    assert not any("Licensed" in text or "copyright" in text for text in texts)


def test_novels_are_read_only_if_the_sentences_do_not_suffice(fake: Path, base: Any, tmp_path: Path) -> None:
    without = shutil.copytree(fake, tmp_path / "data", ignore=lambda *_: ["novels"])

    assert populate("languages", "specific", base=base, data=without, scale=SMALL, seed=0).peers
    with pytest.raises(TextError, match="novels"):
        populate("languages", "specific", base=base, data=without, scale=1e-2, seed=0)
    assert populate("languages", "specific", base=base, data=fake, scale=1e-2, seed=0).peers


def test_a_test_split_has_the_size_asked_for_and_the_others_that_of_the_scale(fake: Path, base: Any) -> None:
    population = populate("languages", "mixed", base=base, data=fake, scale=SMALL, seed=0, test_tokens=6000)

    for peer in population.peers:
        assert tuple(population.tokens(peer).values()) == (1024, 1024, 1024, 6000)


@pytest.mark.parametrize(("scale", "expected"), [(SMALL, (1024, 1024, 1024, 4096)), (3e-3, (2520, 1024, 1024, 4096))])
def test_sizes_grow_with_the_scale_from_a_floor(scale: float, expected: tuple[int, ...], fake: Path, base: Any) -> None:
    population = populate("languages", "mixed", base=base, data=fake, scale=scale, seed=0)

    for peer in population.peers:
        assert tuple(population.tokens(peer).values()) == expected


def test_the_seed_and_nothing_else_changes_who_gets_what(fake: Path, base: Any, dealt: Any) -> None:
    again, other = (populate("languages", "mixed", base=base, data=fake, scale=SMALL, seed=seed) for seed in (0, 1))
    first = dealt("languages", "mixed")

    for peer in first.peers:
        assert again.texts[peer].fingerprint == first.texts[peer].fingerprint != other.texts[peer].fingerprint
    assert len({text.fingerprint for text in first.texts.values()}) == 9


def test_too_little_text_is_said_with_the_largest_scale_that_fits(fake: Path, base: Any) -> None:
    with pytest.raises(TextError) as raised:
        populate("code-wiki", "mixed", base=base, data=fake, scale=1.0, seed=0)

    assert re.search(r"code-wiki mixed.*wiki has [\d,]+ tokens of 4,940,000.*java has", str(raised.value))
    largest = re.search(r"largest scale that fits is (\S+)", raised.value.hint)
    assert largest
    for seed in (0, 1):
        assert populate("code-wiki", "mixed", base=base, data=fake, scale=float(largest[1]), seed=seed).peers


def test_ag_news_gives_what_is_there_at_the_size_of_the_paper(fake: Path, base: Any) -> None:
    population = populate("ag-news", "mixed", base=base, data=fake, scale=1.0, seed=0)

    sizes = {tuple(population.tokens(peer).values()) for peer in population.peers}
    assert len(sizes) == 1
    assert sizes.pop() >= (1024, 1024, 1024, 4096)


@pytest.mark.parametrize("setting", get_args(Setting))
def test_text_below_the_least_that_measures_anything_is_refused(
    setting: Setting, fake: Path, base: Any, tmp_path: Path
) -> None:
    for path in fake.rglob("*.*"):
        if path.is_file():
            content = path.read_bytes()
            packed = path.suffix == ".gz"
            lines = (gzip.decompress(content) if packed else content).splitlines(keepends=True)
            few = b"".join(lines[:: len(lines) // 3])
            target = tmp_path / path.relative_to(fake)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(gzip.compress(few[: 1 if packed and "java" in path.name else None]) if packed else few)
    rows_gz(tmp_path / "java/commons-lang.jsonl.gz", ["int i;\n" * 30])
    for novel in ("fra", "deu", "ita"):
        rows_gz(tmp_path / f"novels/{novel}.jsonl.gz", [])

    with pytest.raises(TextError, match="too little text") as raised:
        populate(setting, "specific", base=base, data=tmp_path, scale=SMALL, seed=0)
    assert "no scale is small enough" in raised.value.hint


def test_a_folder_or_file_that_is_absent_or_damaged_is_named(fake: Path, base: Any, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no data folder"):
        populate("languages", "mixed", base=base, data=tmp_path / "gone", scale=SMALL, seed=0)
    with pytest.raises(TextError, match=r"no wikineural/fr\.txt"):
        populate("languages", "mixed", base=base, data=tmp_path, scale=SMALL, seed=0)

    (tmp_path / "ag_news").mkdir()
    (tmp_path / "ag_news/ag_news_train.jsonl").write_text('{"label": 0\n')
    with pytest.raises(TextError, match="cannot be read"):
        populate("ag-news", "mixed", base=base, data=tmp_path, scale=SMALL, seed=0)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_positive_number(scale: float, fake: Path, base: Any) -> None:
    with pytest.raises(OptionError, match="positive"):
        populate("languages", "mixed", base=base, data=fake, scale=scale, seed=0)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match="no setting 'languages' with mix 'shaken'") as raised:
        layout("languages", "shaken")  # type: ignore[arg-type]
    assert "mixed" in raised.value.hint


def test_the_summary_names_every_peer_with_its_tokens(dealt: Any) -> None:
    summary = tokens_per_peer(dealt("languages", "mixed")).split("\n")

    assert len(summary) == 11
    assert summary[1].split() == ["fr-1", "1,024", "1,024", "1,024", "4,096", "fr", "75%,", "de", "25%"]
    assert summary[-1] == "reference text: 4,098 tokens"
