"""The colours of the page and of the picture, for light and for dark colour schemes.

The contrast with the background is at least 4.5:1 for text and 3:1 for marks (WCAG 2.2, AA).
"""

import re

COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#f7f6f2", "#14171c"),
    "card": ("#ffffff", "#1c2027"),
    "raised": ("#efede6", "#262b34"),
    "ink": ("#21252d", "#e5e7eb"),
    "quiet": ("#575e6b", "#a3abb9"),
    "line": ("#dbd8ce", "#343a45"),
    "accent": ("#2a5ea8", "#8db8f5"),
    "create": ("#17693b", "#79d29d"),
    "update": ("#825300", "#e6b85c"),
    "replace": ("#8c2a7c", "#eaa3db"),
    "delete": ("#ad2419", "#f49a90"),
    "create-tint": ("#e6f4ea", "#18301f"),
    "update-tint": ("#faf0d9", "#332a14"),
    "replace-tint": ("#f7e7f4", "#341f31"),
    "delete-tint": ("#fbe8e5", "#3a1f1d"),
    "create-mark": ("#b5e2c3", "#2a5a3b"),
    "delete-mark": ("#f6c6bf", "#6d322c"),
    "found": ("#ffe08a", "#6b5200"),
}
"""The name of a colour, mapped to its values in the light and in the dark scheme."""

LIGHT, DARK = 0, 1


def variables() -> str:
    """The colours as CSS custom properties, by the reader's system or choice on the page."""
    light, dark = (_declared(scheme) for scheme in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n"
        f":root[data-scheme=light]{{color-scheme:light;{light}}}\n"
        f":root[data-scheme=dark]{{color-scheme:dark;{dark}}}\n"
        f"@media print{{:root:root:root{{color-scheme:light;{light}}}}}\n"
    )


def fixed(rules: str) -> str:
    """CSS rules with colours in place of variables, for viewers that do not support variables."""
    light, dark = (_with_colours(rules, scheme) for scheme in (LIGHT, DARK))
    return f"{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def _declared(scheme: int) -> str:
    return "".join(f"--{name}:{pair[scheme]};" for name, pair in COLOURS.items())


def _with_colours(rules: str, scheme: int) -> str:
    return re.sub(r"var\(--([a-z-]+)\)", lambda match: COLOURS[match[1]][scheme], rules)
