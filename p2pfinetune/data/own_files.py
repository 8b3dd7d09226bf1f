"""Which files below the data are peerd's own, or a model's: homes, caches, logs, exports, reports. Pure.

With `--data ~` the home may lie inside the data, on macOS by default, and whoever trains on his own log has more of it
to train on with every round. Homes of other users, copies and homes of earlier versions are known by the names in them,
since no marker can be put into what somebody else has written. Of a folder that also holds other things, such as notes
in which somebody made a home, those are read. Folders of any program that call themselves a cache by the standard of
https://bford.info/cachedir/ are none of a person's text either.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

OWN, MODEL, CACHE = "peerd's own files", "a model's files", "a cache"
CACHE_MARKER = "CACHEDIR.TAG"
HOME_SIGNS = frozenset({"identity.key", "state.db", "splits.record", "peerd.lock", "peerd.sock"})
HOME = re.compile(
    r"(identity\.key|state\.db|splits\.record|looks\.json|serve\.key|peerd\.(lock|log|sock)|config\.toml).*|blobs|scratch|cache|reports|records"
)
CORPUS = re.compile(r"\.?[0-9a-f]{12}-[0-9a-f]{32}(\.\d+)?")  # a folder of tokens
ANYWHERE = re.compile(r"peerd\.log(\.\d+)?|tensors-[0-9a-f]{32}\.json|moved-[0-9a-f]{12}\.json")
REPORT_SIGNS = frozenset({"result.json", "perplexity.csv", "trust.csv", "rounds.jsonl"})
REPORT = REPORT_SIGNS | {"trust.png", "curves.png", "homes", "text", "logs"}
MODEL_SIGNS = frozenset({"adapter_config.json", "tokenizer_config.json", "tokenizer.json"})
WEIGHTS = re.compile(r".*\.(safetensors|gguf)|pytorch_model.*\.bin")
OF_A_MODEL = MODEL_SIGNS | {
    "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "chat_template.jinja", "chat_template.json", "tokenizer.model", "preprocessor_config.json",
    "model.safetensors.index.json", "pytorch_model.bin.index.json", "trainer_state.json", "training_args.bin",
}  # fmt: skip
BESIDE_A_MODEL = frozenset(
    {"README.md", "LICENSE", "LICENSE.txt", "USE_POLICY.md"}
)  # no person's where all else is its
LOG_LINE = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (debug|info|warning|error|critical) +[\w.]+: ")
LOG_BEGINS = " daemon: starting version="
BEGINNING = 4000  # characters of a log in which a run begins, unless it was rotated


def left_out(names: Collection[str]) -> Mapping[str, str]:
    """Of the names in one folder those that are not read, with the reason."""
    if CACHE_MARKER in names:
        return dict.fromkeys(names, CACHE)
    found = {name: OWN for name in names if ANYWHERE.fullmatch(name) or CORPUS.fullmatch(name)}
    found |= dict.fromkeys(_of_a_home(names) | _of_a_report(names), OWN)
    return found | dict.fromkeys(_of_a_model(names), MODEL)


def _of_a_home(names: Collection[str]) -> set[str]:
    ours = {name for name in names if HOME.fullmatch(name)}
    signs = len(HOME_SIGNS & ours)
    return ours if signs >= 2 or (signs and len(ours) == len(names)) else set()


def _of_a_report(names: Collection[str]) -> set[str]:
    """Of the demo, finished or not; its `text` is dealt from what is installed, unless it stands alone."""
    ours = {name for name in names if name in REPORT}
    is_one = len(REPORT_SIGNS & ours) >= 3 or ({"homes", "logs"} <= ours and len(ours) == len(names))
    return ours if is_one else set()


def _of_a_model(names: Collection[str]) -> set[str]:
    weights = {name for name in names if WEIGHTS.fullmatch(name)}
    if not (weights or MODEL_SIGNS & set(names)):
        return set()
    ours = weights | {name for name in names if name in OF_A_MODEL}
    beside = {name for name in names if name in BESIDE_A_MODEL}
    return ours | beside if len(ours | beside) == len(names) else ours


def is_log(text: str) -> bool:
    """Whether a text is a log of peerd, whatever its file is called."""
    return LOG_LINE.search(text[:60]) is not None and LOG_BEGINS in text[:BEGINNING]
