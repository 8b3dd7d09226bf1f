"""Put words into lines and paragraphs as a reader sees them, from markup in which white space means nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_BREAKS = 2  # a blank line


@dataclass(slots=True)
class PageLines:
    """Text that is being written. White space runs together; breaks that follow one another are one, the largest."""

    pieces: list[str] = field(default_factory=list)
    breaks: int = 0
    gap: str = ""
    mark: str = ""

    def words(self, text: str) -> None:
        """Text in which white space only parts words."""
        words = text.split()
        if not words:
            self.gap = self.gap or (" " if text else "")
            return
        if text[0].isspace():
            self.gap = self.gap or " "
        self._put(" ".join(words))
        self.gap = " " if text[-1].isspace() else ""

    def verbatim(self, text: str) -> None:
        """Text whose white space is meant."""
        if text:
            self._put(text)

    def line_break(self, number: int = 1) -> None:
        """At least so many line ends before what follows."""
        self.breaks = max(self.breaks, number)

    def another_break(self) -> None:
        """One more, as `<br>` does; never more than a blank line."""
        self.breaks = min(MOST_BREAKS, self.breaks + 1)

    def end_verbatim(self) -> None:
        """Line ends at the end of text whose white space is meant say nothing."""
        if self.pieces:
            self.pieces[-1] = self.pieces[-1].rstrip("\n")

    def item(self, mark: str) -> None:
        """An item of a list begins, and has this before its first words; an empty mark ends one that had no words."""
        self.mark = mark

    def between(self, separator: str) -> None:
        """What parts two cells of a row, unless a line ends there anyway."""
        if self.pieces and not self.breaks:
            self.gap = separator

    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces).strip("\n")

    def _put(self, text: str) -> None:
        if self.pieces:
            self.pieces.append("\n" * self.breaks if self.breaks else self.gap)
        self.pieces.append(self.mark + text)
        self.breaks, self.gap, self.mark = 0, "", ""
