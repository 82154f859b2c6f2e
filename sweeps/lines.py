"""On which line of a TOML text each key stands, for complaints that name it.

The standard parser keeps no positions, so the text is walked a second time. It has been parsed by
then: whatever is here is TOML, and only keys, brackets and the ends of strings matter.

Left out: values. They are the parser's.
"""

from __future__ import annotations

import re
from typing import Final

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART: Final = re.compile(r'[ \t]*(?:"((?:\\.|[^"\\\n])*)"|\'([^\'\n]*)\'|([A-Za-z0-9_-]+))[ \t]*')
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_BARE: Final = re.compile(r"\d{4}-\d\d-\d\d \d[^,\]}\s#]*|[^,\]}\s#]+")


def of(text: str) -> dict[str, int]:
    """Return the line (from 1) of every key of a valid TOML text, by dotted path.

    Elements of arrays are ``path[0]``, ``path[1]`` and so on. A part of a key that holds a dot
    itself is joined like any other: ``"workload.user_kib"`` is found as written.
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    def __init__(self, text: str) -> None:
        self.lines: dict[str, int] = {}
        self._text = text
        self._at = 0
        self._arrays: dict[str, int] = {}

    def document(self) -> None:
        """Walk headers and keys to the end."""
        prefix = ""
        self._skip()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip()

    def _skip(self, more: str = "") -> None:
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        while more and self._text[self._at:self._at + 1] in tuple(more):
            self._at += 1
            self._skip()

    def _note(self, path: str) -> None:
        self.lines.setdefault(path, self._text.count("\n", 0, self._at) + 1)

    def _key(self) -> list[str]:
        parts = []
        while found := _PART.match(self._text, self._at):
            parts.append(next(part for part in found.groups() if part is not None))
            self._at = found.end()
            if self._text[self._at] != ".":
                break
            self._at += 1
        return parts

    def _header(self) -> str:
        double = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 1 + double
        path = ""
        for part in self._key():
            path = _join(path, part)
            if path in self._arrays and not (double and self._ends_key()):
                path += f"[{self._arrays[path]}]"
        self._at, end = start, self._at
        if double:
            bare = re.sub(r"\[\d+\]$", "", path)
            self._arrays[bare] = self._arrays.get(bare, -1) + 1
            self._note(bare)
            path = f"{bare}[{self._arrays[bare]}]"
        self._note(path)
        self._at = end + 1 + double
        return path

    def _ends_key(self) -> bool:
        return self._text.startswith("]]", self._at)

    def _pair(self, prefix: str) -> None:
        start = self._at
        path = prefix
        for part in self._key():
            path = _join(path, part)
        self._at, end = start, self._at
        self._note(path)
        self._at = end + 1   # the equals sign
        self._value(path)

    def _value(self, path: str) -> None:
        self._skip()
        opening = self._text[self._at]
        if opening in "[{":
            self._at += 1
            self._skip(",")
            number = 0
            while self._text[self._at] not in "]}":
                if opening == "{":
                    self._pair(path)
                else:
                    self._note(f"{path}[{number}]")
                    self._value(f"{path}[{number}]")
                    number += 1
                self._skip(",")
            self._at += 1
            return
        found = (_STRING if opening in "\"'" else _BARE).match(self._text, self._at)
        assert found is not None
        self._at = found.end()


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
