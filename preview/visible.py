"""Makes characters visible that a text could hide from its reader."""

import re

_MARKS = re.compile(
    # Control characters, line separators, characters that change the writing direction or have no
    # width, and surrogates.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with a code such as ``⟨U+202E⟩`` in place of each invisible character.

    Line feeds and tabs stay; a carriage return counts as invisible.
    """
    return _MARKS.sub(lambda mark: f"⟨U+{ord(mark[0]):04X}⟩", text)


def flat(text: str) -> str:
    """The visible text in one line, without white space at its ends."""
    return visible(" ".join(text.split("\n")).replace("\t", " ")).strip()
