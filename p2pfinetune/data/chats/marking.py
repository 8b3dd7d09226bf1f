"""Documents as token ids, of which those that are learnt are counted: all of a text, the answers of a conversation.

An answer is what the model has to say by itself when it is its turn: the text, the calls of tools, and the token with
which the template ends a turn, or it would never learn to stop. If the template marks what an assistant writes
(`{% generation %}`), that is the answer. If not, it begins behind the words by which the template asks for one, or with
the text of the turn if they are not there. Calls of tools stand in no text of their own: they begin where the template,
asked for the next answer, would stop writing. If that cannot be found out, what is called is not learnt, since nothing
may be learnt that is no answer.

All is encoded at once, so that tokens are what they will be when the model is asked; only if a turn spells a control
token, or the tokenizer cannot say which characters a token stands for, every part is encoded by itself, and what people
wrote as text that controls nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.chats.template import ChatTemplate, ChatTemplateError, Rendered
from p2pfinetune.data.chats.turns import SYSTEM, ChatTurn
from p2pfinetune.data.pieces import Document
from p2pfinetune.data.tokens import (
    TEXTS_AT_ONCE,
    TokenDocument,
    beginning,
    control_tokens,
    encode,
    end_of_text,
    plain_ids,
    token_type,
)
from p2pfinetune.errors import OptionError
from p2pfinetune.names import Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
Ids = tuple[list[int], list[bool]]
"""Of one conversation, and which of them are counted."""


class ChatRefusal(NamedTuple):
    """A conversation that the template has no place for."""

    reason: str


class SpokenLine(Protocol):
    """A turn of a chat that is asked."""

    @property
    def role(self) -> str:
        """system, user, assistant or tool."""
        ...

    @property
    def content(self) -> str:
        """Its text."""
        ...


def token_documents(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, loss: Loss = "answers"
) -> Iterator[TokenDocument | ChatRefusal]:
    """Each document as the model sees it, in their order."""
    talks = _Talks(tokenizer, loss) if any(document.turns for document in documents) else None
    for begin in range(0, len(documents), TEXTS_AT_ONCE):
        some = documents[begin : begin + TEXTS_AT_ONCE]
        texts = encode([document.text for document in some if not document.turns], tokenizer)
        chats = talks.of([document.turns for document in some if document.turns]) if talks else iter(())
        for document in some:
            yield next(chats) if document.turns else TokenDocument(next(texts))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, lines: Sequence[SpokenLine]) -> list[int]:
    """The ids of a chat up to where the assistant's answer begins. OptionError if the template refuses it."""
    talks = _Talks(tokenizer, "all")
    try:
        rendered = talks.template.render([ChatTurn(line.role, line.content.strip()) for line in lines], prompts=True)
    except ChatTemplateError as error:
        raise OptionError(
            f"the model's chat template refuses these messages: {error}",
            "begin with a system or user message, let user and assistant alternate, and end with the user's",
        ) from error
    ids, _ = talks.encoded([rendered])[0]
    return [*talks.first, *ids]


def system_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a lone system line, as the model's own template writes it; none if it writes none."""
    talks = _Talks(tokenizer, "all")
    if talks.template.is_simple:
        return []
    try:
        rendered = talks.template.render([ChatTurn(SYSTEM, text)], prompts=True)
    except ChatTemplateError:
        return []
    if not any(held.turn == 0 for held in rendered.held):
        return []
    alone = replace(rendered, text=rendered.text.removesuffix(talks.template.asks))
    return [*talks.first, *talks.encoded([alone])[0][0]]


class _Talks:
    """What one tokenizer makes of conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, loss: Loss) -> None:
        self._tokenizer, self._loss = tokenizer, loss
        self.template = ChatTemplate(tokenizer)
        self._control = np.array(sorted(control_tokens(tokenizer)), np.int64)
        self._last, self._width = end_of_text(tokenizer), token_type(tokenizer)
        self.first = beginning(tokenizer) if self.template.is_simple else []
        """What stands before a text if the template does not say it."""

    def of(self, chats: Sequence[Sequence[ChatTurn]]) -> Iterator[TokenDocument | ChatRefusal]:
        """Of each conversation."""
        tried = [self._rendered(turns) for turns in chats]
        made = iter(self.encoded([one for one in tried if isinstance(one, Rendered)]))
        for one in tried:
            yield one if isinstance(one, ChatRefusal) else self._document(one, *next(made))

    def _rendered(self, turns: Sequence[ChatTurn]) -> Rendered | ChatRefusal:
        try:
            return self.template.render(turns)
        except ChatTemplateError as error:
            return ChatRefusal(str(error))

    def _document(self, rendered: Rendered, ids: list[int], is_counted: list[bool]) -> TokenDocument | ChatRefusal:
        ids, is_counted = [*self.first, *ids], [*(False for _ in self.first), *is_counted]
        if rendered.turns[-1].is_answer and ids[-1:] != self._last and not self._ends(rendered):
            ids, is_counted = [*ids, *self._last], [*is_counted, *(True for _ in self._last)]
        counted = np.array(is_counted, np.bool_) if self._loss == "answers" else np.ones(len(ids), np.bool_)
        counted[:1] = False
        return (
            TokenDocument(np.asarray(ids, self._width), counted) if counted.any() else ChatRefusal("no answer is in it")
        )

    def _ends(self, rendered: Rendered) -> bool:
        """Whether the template itself ends the last turn."""
        return self.template.control.search(rendered.text, rendered.held[-1].stop if rendered.held else 0) is not None

    def encoded(self, chats: Sequence[Rendered]) -> list[Ids]:
        """The ids of each, and which of them are of answers."""
        if not chats:
            return []
        answers = [answers_of(one, self.template) for one in chats]
        if not self._tokenizer.is_fast:
            return [self._in_parts(one, spans) for one, spans in zip(chats, answers, strict=True)]
        made = self._ids([one.text for one in chats], offsets=True)
        return [
            self._at_once(one, spans, ids, np.array(places, np.int64).reshape(-1, 2))
            for one, spans, ids, places in zip(chats, answers, made["input_ids"], made["offset_mapping"], strict=True)
        ]

    def _at_once(self, one: Rendered, answers: Sequence[Span], ids: list[int], places: NDArray[np.int64]) -> Ids:
        is_control = np.isin(ids, self._control)
        if _inside(places[is_control], [(held.begin, held.stop) for held in one.held]).any():
            return self._in_parts(one, answers)
        return ids, _inside(places, answers).tolist()

    def _in_parts(self, one: Rendered, answers: Sequence[Span]) -> Ids:
        """Parts with one answer or none, of a person or of the template, each encoded by itself."""
        written = [(held.begin, held.stop) for held in one.held]
        cuts = sorted({0, len(one.text), *(place for span in (*written, *answers) for place in span)})
        ids, is_counted = list[int](), list[bool]()
        space = ""  # in front of a text: it belongs to the first word there
        for begin, stop in pairwise(cuts):
            text, space = space + one.text[begin:stop], ""
            if any(first <= begin < last for first, last in written):
                part = plain_ids([text], self._tokenizer)[0]
            else:
                space = " " if text.endswith(" ") and any(stop == first for first, _ in written) else ""
                part = self._ids([text.removesuffix(space)])["input_ids"][0]
            ids += part
            is_counted += [any(first <= begin < last for first, last in answers)] * len(part)
        return ids, is_counted

    def _ids(self, texts: list[str], *, offsets: bool = False) -> Any:
        """With control tokens where they are spelt; for what a template wrote."""
        tokenizer: Any = self._tokenizer
        how = {"add_special_tokens": False, "split_special_tokens": False, "verbose": False}
        return tokenizer(texts, **how, return_offsets_mapping=offsets)


def _inside(places: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which tokens, by the characters they stand for, reach into one of the spans, which are sorted and disjoint."""
    if not spans:
        return np.zeros(len(places), np.bool_)
    begins, stops = np.array(spans, np.int64).T
    ends = np.maximum(places[:, 1], places[:, 0] + 1)  # white space that a tokenizer gives no width
    last = np.searchsorted(begins, ends, "left") - 1  # the last span that begins before the token's end
    found: NDArray[np.bool_] = (last >= 0) & (stops[last] > places[:, 0])
    return found


def answers_of(one: Rendered, template: ChatTemplate) -> list[Span]:
    """Which characters are learnt with loss on answers."""
    spans = [
        span for i, turn in enumerate(one.turns) if turn.is_answer if (span := _answer(one, i, template)) is not None
    ]
    found: list[Span] = []
    for begin, stop in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((begin, stop))
    return found


def _answer(one: Rendered, number: int, template: ChatTemplate) -> Span | None:
    mine = [held for held in one.held if held.turn == number]
    if number in one.calling:
        head, end = one.calling[number]
        ends = [match.end() for match in template.control.finditer(one.text, head, end)]
        return head, ends[-1] if ends else end
    if not mine:
        return None
    begin, stop = mine[0].begin, mine[-1].stop
    end = _through_end(one, stop, template)
    for first, last in one.generated:
        if first <= begin and stop <= last:
            return first, last if template.control.search(one.text, stop, last) else max(last, end)
    return _from_asking(one, begin, template), end


def _from_asking(one: Rendered, begin: int, template: ChatTemplate) -> int:
    """With what stands in front of the text and behind the words by which the template asks for it."""
    since = max((held.stop for held in one.held if held.stop <= begin), default=0)
    at = one.text.rfind(template.asks, since, begin) if template.asks else -1
    return begin if at < 0 else at + len(template.asks)


def _through_end(one: Rendered, stop: int, template: ChatTemplate) -> int:
    """With the control token that ends the turn, if nothing but white space is before it.

    If several stand side by side, up to that for the end of text, and with the first if it is not among them.
    """
    until = next((held.begin for held in one.held if held.begin >= stop), len(one.text))
    ends: list[int] = []
    for match in template.control.finditer(one.text, stop, until):
        between = one.text[ends[-1] : match.start()] if ends else one.text[stop : match.start()].strip()
        if between:
            break
        ends.append(match.end())
        if match[0] == template.end:
            return match.end()
    return ends[0] if ends else stop
