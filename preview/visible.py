"""What a text could hide from its reader, made visible."""

import re

_MARKS = re.compile(
    # Controls, line separators, what changes the direction or has no width, halves of characters.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with ``⟨U+202E⟩`` in the place of each character that would not be seen.

    Line feeds and tabs stay; a carriage return is such a character.
    """
    return _MARKS.sub(lambda mark: f"⟨U+{ord(mark[0]):04X}⟩", text)


def flat(text: str) -> str:
    """In one line, without space at its ends."""
    return visible(" ".join(text.split("\n")).replace("\t", " ")).strip()
