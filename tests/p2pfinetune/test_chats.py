"""Conversations as people have them: for every shape of file, exactly what the model sees, answers in ⟦ ⟧."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.data.chats.marking import ChatRefusal, token_documents
from p2pfinetune.data.chats.messages import whatsapp
from p2pfinetune.data.chats.shapes import LISTS, PAIRS
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.encodings import FileText
from p2pfinetune.data.pieces import TextChoices, content_of
from p2pfinetune.data.tokens import passages
from p2pfinetune.model.base import load_tokenizer

ASKED = {"role": "user", "content": "What is a fen?"}
SAID = {"role": "assistant", "content": "A wet meadow."}
SEEN = "User: What is a fen?\n\nAssistant:⟦ A wet meadow.<|endoftext|>⟧"


@pytest.fixture(scope="module")
def nano():
    return load_tokenizer("nano")


@pytest.fixture
def seen(tmp_path, nano):
    """What the model sees of a file: one text a document."""

    def see(name, content, **how):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        documents, see.report = read_documents([path], **how)
        return [shown(made, nano) for made in token_documents(documents, nano)]

    return see


def shown(made, tokenizer):
    if isinstance(made, ChatRefusal):
        return made
    return "".join(f"⟦{text}⟧" if is_counted else text for text, is_counted in passages(made, tokenizer))


TOOLS = [{"type": "function", "function": {"name": "depth", "parameters": {"type": "object"}}}]
CALL = [{"type": "function", "function": {"name": "depth", "arguments": {"of": "the fen"}}}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"messages": [ASKED, SAID]}, SEEN, id="openai"),
        pytest.param(
            {"messages": [{"role": "system", "content": "Be short."}, ASKED, SAID, {"role": "user", "content": "And a bog?"},
                          {"role": "assistant", "content": "Wetter."}]},
            f"System: Be short.\n\n{SEEN}\n\nUser: And a bog?\n\nAssistant:⟦ Wetter.<|endoftext|>⟧",
            id="openai, several turns and a system prompt",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "image_url"},
                                                       {"type": "text", "text": "a fen?"}]}, SAID]},
            "User: What is\n\na fen?\n\nAssistant:⟦ A wet meadow.<|endoftext|>⟧",
            id="openai, content in parts",
        ),
        pytest.param(
            {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "depth", "arguments": '{"of": "the fen"}'}}]},
                {"role": "tool", "content": "40 cm", "tool_call_id": "1"}, {"role": "assistant", "content": "Shallow."}],
             "tools": TOOLS},
            f"Tools: {json.dumps(TOOLS)}\n\nUser: What is a fen?\n\nAssistant:⟦ {json.dumps(CALL)}<|endoftext|>⟧"
            "\n\nTool: 40 cm\n\nAssistant:⟦ Shallow.<|endoftext|>⟧",
            id="openai, tools",
        ),
        pytest.param(
            {"messages": [ASKED, {**SAID, "weight": 0}, ASKED, SAID]},
            f"User: What is a fen?\n\nAssistant: A wet meadow.<|endoftext|>\n\n{SEEN}",
            id="openai, an answer that is not to be learnt",
        ),
        pytest.param(
            {"conversations": [{"from": "human", "value": "What is a fen?"}, {"from": "gpt", "value": "A wet meadow."}],
             "system": "Be short."},
            f"System: Be short.\n\n{SEEN}",
            id="sharegpt",
        ),
        pytest.param({"instruction": "What is a fen?", "input": "", "output": "A wet meadow."}, SEEN, id="alpaca"),
        pytest.param(
            {"instruction": "What is this?", "input": "fen", "output": "A wet meadow.", "history": [["Hi", "Hello"]]},
            "User: Hi\n\nAssistant:⟦ Hello<|endoftext|>⟧\n\nUser: What is this?\n\nfen\n\n"
            "Assistant:⟦ A wet meadow.<|endoftext|>⟧",
            id="alpaca, with input and history",
        ),
        pytest.param({"prompt": "What is a fen?", "completion": " A wet meadow."}, SEEN, id="prompt and completion"),
        pytest.param({"prompt": [ASKED], "completion": [SAID]}, SEEN, id="prompt and completion as turns"),
        pytest.param({"question": "What is a fen?", "answer": "A wet meadow."}, SEEN, id="question and answer"),
        pytest.param({"prompt": "What is a fen?", "chosen": "A wet meadow.", "rejected": "No."}, SEEN, id="preference"),
        pytest.param({"chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "No."}]}, SEEN, id="preference, turns"),
        pytest.param(
            {"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, ASKED],
             "chosen": [SAID], "rejected": [{**SAID, "content": "No."}]},
            f"User: Hi\n\nAssistant: Hello<|endoftext|>\n\n{SEEN}",
            id="preference beside its prompt, of which nothing is learnt",
        ),
        pytest.param(
            {"input": {"messages": [ASKED]}, "preferred_output": [SAID], "non_preferred_output": [SAID]},
            SEEN,
            id="preference of openai",
        ),
    ],
)  # fmt: skip
def test_a_row_is_seen_as_the_conversation_that_it_is(seen, row, expected):
    assert seen("rows.jsonl", json.dumps(row)) == [expected]
    assert seen.report.entries[0].conversations == 1
    assert seen("rows.json", row) == [expected]
    assert seen("rows.json", [row, {"text": "a note"}]) == [expected, "⟦a note<|endoftext|>⟧"]
    assert seen("loose.txt", f"{json.dumps(row)}\n{json.dumps({'a': 1})}\n") == [expected]
    assert seen.report.bad_rows == 1


def test_chat_exports_are_seen_as_what_was_said_on_the_way_to_the_last_message(seen):
    def node(parent, role, *parts, **more):
        message = {"author": {"role": role}, "content": {"content_type": "text", "parts": list(parts)}, **more}
        return {"message": message, "parent": parent, "children": []}

    tree = {
        "root": {"message": None, "parent": None, "children": ["a"]},
        "s": node("root", "system", ""),
        "a": node("s", "user", "What is a fen?"),
        "lost": node("a", "assistant", "A lake."),
        "call": node("a", "assistant", "search()", recipient="browser"),
        "t": node("call", "tool", "a page"),
        "b": node("t", "assistant", "A wet meadow."),
    }
    claude = {
        "uuid": "1",
        "name": "fens",
        "chat_messages": [
            {"sender": "human", "text": "What is a fen?", "content": [{"type": "text", "text": "What is a fen?"}]},
            {"sender": "assistant", "text": "", "content": [{"type": "text", "text": "A wet meadow."}]},
        ],
    }

    assert seen("conversations.json", [{"title": "fens", "mapping": tree, "current_node": "b"}]) == [SEEN]
    assert seen("conversations.json", [claude]) == [SEEN]
    assert seen("turns.json", [ASKED, SAID]) == [SEEN]
    assert seen("many.json", {"conversations": [[ASKED, SAID], {"messages": [ASKED, SAID, ASKED, SAID]}]})[0] == SEEN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", {"name": "x", "version": "1", "message": "hello"}),
        ("settings.txt", '{\n  "theme": "dark",\n  "content": "text"\n}\n'),
        ("list.json", [1, 2, 3]),
        ("empty.json", []),
        ("places", '[{"lat": 1.0}, {"lat": 2.0}]'),
        ("damaged.json", '{"messages": ['),
        ("commented.json", "// settings\n{}"),
        ("log.txt", '{"level": "info", "msg": "started"}\n{"level": "info", "msg": "stopped"}\n'),
        ("rows.jsonl", '{"prompt": "only asked"}\n{"messages": []}\n'),
        ("asked.json", {"messages": [ASKED]}),
        ("roles.json", {"messages": [{"role": "narrator", "content": "Once"}, SAID]}),
    ],
)
def test_no_other_json_is_ever_trained_on(seen, name, content):
    assert seen(name, content) == []
    (entry,) = seen.report.entries
    assert entry.reason in {"JSON, and neither conversations nor text fields", "empty"}
    assert seen.report.skipped[entry.reason] == (entry.path,)


IPHONE = """\
[28.11.26, 21:30:05] Anna: \u200eMessages and calls are end-to-end encrypted.
[28.11.26, 21:30:05] Anna: Are you coming?
[28.11.26, 21:31:00] Ben: Yes
two of us
\u200e[28.11.26, 21:31:10] Ben: \u200eimage omitted
[28.11.26, 21:32:00] Ben: at nine
[29.11.26, 08:00:00] Anna: Slept well?
[29.11.26, 08:05:00] Ben: Very.
"""
ANDROID = """\
11/28/26, 9:30 PM - Messages and calls are end-to-end encrypted.
11/28/26, 9:30 PM - Anna: Are you coming?
11/28/26, 9:31 PM - Ben: Yes
two of us
11/28/26, 9:31 PM - Ben: <Media omitted>
11/28/26, 9:32 PM - Ben: at nine
11/29/26, 8:00 AM - Anna: Slept well?
11/29/26, 8:05 AM - Ben: Very.
"""
TELEGRAM = {
    "name": "Anna", "type": "personal_chat", "id": 1,
    "messages": [
        {"type": "service", "action": "phone_call", "date": "2026-11-28T21:00:00"},
        {"type": "message", "date": "2026-11-28T21:30:00", "from": "Anna", "text": "Are you coming?"},
        {"type": "message", "date": "2026-11-28T21:31:00", "from": "Ben", "text": ["Yes\n", {"type": "bold", "text": "two of us"}]},
        {"type": "message", "date": "2026-11-28T21:31:30", "from": "Ben", "text": "", "photo": "p.jpg"},
        {"type": "message", "date": "2026-11-28T21:32:00", "from": "Ben", "text": "at nine"},
        {"type": "message", "date": "2026-11-29T08:00:00", "from": "Anna", "text": "Slept well?"},
        {"type": "message", "date": "2026-11-29T08:05:00", "from": "Ben", "text": "Very."},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("_chat.txt", IPHONE.split("\n", 1)[1]),
        ("chat.txt", ANDROID),
        ("result.json", TELEGRAM),
        ("result.json", {"chats": {"list": [TELEGRAM]}}),
    ],
)
def test_an_export_of_a_messenger_is_conversations_of_mine_or_text(seen, name, content):
    assert seen(name, content, me="Ben") == [
        "User: Are you coming?\n\nAssistant:⟦ Yes\ntwo of us\nat nine<|endoftext|>⟧",
        "User: Slept well?\n\nAssistant:⟦ Very.<|endoftext|>⟧",
    ]
    assert seen(name, content) == [
        "⟦Anna: Are you coming?\nBen: Yes\ntwo of us\nBen: at nine<|endoftext|>⟧",
        "⟦Anna: Slept well?\nBen: Very.<|endoftext|>⟧",
    ]
    assert seen(name, content, me="Carla") == []
    assert "conversations without a line of --me" in seen.report.left_out


def test_in_a_group_the_others_are_told_apart(seen):
    text = "".join(f"28/11/2026, 21:3{i} - {line}\n" for i, line in enumerate(["Anna: Who?", "Carl: Not me", "Ben: I"]))

    assert seen("group.txt", text, me="Ben") == ["User: Anna: Who?\nCarl: Not me\n\nAssistant:⟦ I<|endoftext|>⟧"]


def test_a_message_as_long_as_a_file_keeps_the_reader_no_longer_busy_than_its_length():
    heads = "".join(f"[{day:02d}.03.24, 10:00:00] Anna: hello\n" for day in range(1, 29))
    begun = time.process_time()

    found = whatsapp(heads + "x\n" * 400_000)

    assert time.process_time() - begun < 3.0
    assert found is not None
    assert (len(found), found[-1].text.count("\n")) == (28, 400_001)


def test_a_log_and_a_diary_are_no_export_of_a_messenger(seen):
    log = "".join(f"2026-11-28 21:3{i} - started: part {i}\n" for i in range(9))
    diary = "28/11/2026, 21:30 - Anna: came\n" + "It was a long evening.\n" * 9

    assert seen("log.txt", log) == [f"⟦{log.strip()}<|endoftext|>⟧"]
    assert seen("diary.txt", diary) == [f"⟦{diary.strip()}<|endoftext|>⟧"]


def test_keys_and_attachments_in_a_turn_are_left_out_as_in_any_text(seen):
    key = (
        "-----BEGIN PRIVATE KEY-----\n"
        + "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEF" * 2] * 3)
        + "\n-----END PRIVATE KEY-----"
    )
    row = {"messages": [{"role": "user", "content": f"My key:\n{key}\nIs it good?"}, SAID]}

    assert seen("rows.jsonl", json.dumps(row)) == [
        "User: My key:\n\nIs it good?\n\nAssistant:⟦ A wet meadow.<|endoftext|>⟧"
    ]
    assert sum(seen.report.left_out.values()) == len(key)


def test_the_report_speaks_of_conversations(seen):
    seen("rows.jsonl", "\n".join([json.dumps({"messages": [ASKED, SAID]}), '{"text": "a note"}', "{}"]))

    assert seen.report.sentences() == [
        "2 documents from 1 file",
        "1 conversation among them, loss on answers",
        "1 row skipped: no JSON, or neither a conversation nor one of the fields text, content, body, message, sentence",
    ]


KEYS = [*LISTS, *{key for pair in PAIRS for key in pair}, "role", "content", "from", "value", "text", "type", "parts", "weight", "tools",
        "functions", "tool_calls", "function_call", "function", "name", "arguments", "system", "instruction", "history", "rejected",
        "preferred_output", "mapping", "current_node", "message", "author", "parent", "date", "list", "data", "reasoning"]  # fmt: skip
WORDS = [
    "user",
    "assistant",
    "message",
    "2026-11-28T21:30:00",
    "all",
    "a",
    "",
    "{}",
    "<think>x</think>y",
    "\ud800",
    "28/11/26, 21:30 - A: b",
]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.sampled_from(WORDS)),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(st.sampled_from([*KEYS, *WORDS]), inside, max_size=4),
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": inside}),
        st.fixed_dictionaries({"messages": st.lists(inside, min_size=1, max_size=3)}),
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=40, deadline=None)
def test_whatever_a_json_file_holds_reading_it_never_fails(nano, value):
    text = json.dumps(value)
    for name, content in (("a.json", text), ("a.jsonl", text), ("a.txt", f"{text}\n{text}")):
        for me in ("", "a"):
            found = content_of(FileText(content, "utf-8", 0), Path(name), TextChoices(me=me))
            assert found.documents or found.reason
            list(token_documents([one for one in found.documents if one.turns], nano))


@pytest.mark.parametrize("place", ["tools", "calls", "content"])
def test_json_nested_beyond_all_use_is_no_conversation(seen, place):
    deep = json.loads("[" * 800 + "]" * 800)
    call = {"function": {"name": "f", "arguments": {"x": deep if place == "calls" else 1}}}
    asked = {"role": "user", "content": deep if place == "content" else "What?"}
    row = {"messages": [asked, {**SAID, "tool_calls": [call]}], "tools": [{"x": deep if place == "tools" else 1}]}

    assert seen("rows.jsonl", json.dumps(row)) == []
    assert seen.report.bad_rows == 1
