r"""Text that others wrote (logs, errors, names, values), made harmless for a terminal.

A terminal follows control sequences that stand in a text: they clear the screen, set its title,
fill the clipboard, forge lines. They come out spelled, as `\u001b`: a reader sees them, and JSON
that is printed stays the same JSON.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

UNSEEN = (
    # C0 but tab and line feed, DEL, C1 (a terminal takes 0x9b for ESC [), and half surrogates.
    "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
    # Marks that turn the reading direction, invisible spaces, other ends of lines, tags.
    "\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
"""Characters of a regular expression's class that no reader sees as they are."""

_UNSEEN = re.compile(f"[{UNSEEN}]")
_LINE_ENDS = re.compile(r" *[\r\n\t]+ *")


def harmless(text: str) -> str:
    r"""`text` with every unseen character spelled, such as `\u001b`; lines and tabs stay."""
    # The usual case, without the price of an expression: a table may have 100,000 cells.
    return text if text.isprintable() else _UNSEEN.sub(_spelled, text)


def one_line(text: str) -> str:
    """`harmless` text without its line ends: a name or a message that must not forge a line."""
    text = text.rstrip()
    return text if text.isprintable() else harmless(_LINE_ENDS.sub(" ", text))


def _spelled(match: re.Match[str]) -> str:
    return _spell(match[0])


def _spell(text: str) -> str:
    # In units of UTF-16, as JSON spells them.
    data = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i : i + 2].hex()}" for i in range(0, len(data), 2))


def _spell_unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _spell(error.object[error.start : error.end]), error.end


_SPELLED = "papergrid.spelled"
codecs.register_error(_SPELLED, _spell_unencodable)


class _Guarded:
    """A text stream that writes only harmless text; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        # A terminal of another locale lacks most characters: they are spelled, too.
        encoding = self.raw.encoding or "utf-8"
        self.raw.write(harmless(text).encode(encoding, _SPELLED).decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:  # noqa: ANN401 - as the stream's own
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any of the stream's
        return getattr(self.raw, name)


@contextmanager
def guarded_output() -> Iterator[None]:
    """What is printed inside is harmless text, whoever prints it."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Guarded(raw_stream(each))) for each in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw_stream(stream: TextIO) -> TextIO:
    """The stream itself, for a library that draws with control sequences of its own."""
    return cast(_Guarded, stream).raw if isinstance(stream, _Guarded) else stream
