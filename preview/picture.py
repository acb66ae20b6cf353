"""A picture of a cluster: networks, endpoint, machines with their roles, and changes.

It is plain SVG without scripts, fonts or references. The same review gives the same bytes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from preview import palette, words
from preview.change import Verb
from preview.review import MachineReview, Review
from preview.visible import flat
from preview.words import SIGN, STATE, number

WIDTH = 960
_EDGE, _PAD, _GAP = 24, 16, 12
"""The space around the whole picture, within a frame and between cards."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A way to draw the machines of a group."""

    most: int
    """The largest group, in machines, that is drawn in this way."""
    columns: int
    height: int


CARD = Size(most=12, columns=4, height=104)
BRIEF = Size(most=60, columns=5, height=44)
TILE = Size(most=100_000, columns=40, height=18)
"""A square that shows the name of its machine as a tooltip."""

RULES = (files("preview") / "page" / "picture.css").read_text()

GROUPS = (
    ("Control planes with etcd", lambda roles: {"etcd", "control-plane"} <= roles),
    ("Control planes", lambda roles: "control-plane" in roles),
    ("etcd members", lambda roles: "etcd" in roles),
    ("Minions", lambda _: True),
)
"""The titles of groups with the test of their members. A machine belongs to the first group whose
test it passes."""


def picture(review: Review) -> str:
    """The picture as a separate file, which follows the reader's light or dark colour scheme."""
    return drawing(review, f"<style>{palette.fixed(RULES)}</style>", linked=False)


def drawing(review: Review, style: str = "", *, linked: bool = True) -> str:
    """The picture for a page that contains the CSS rules.

    Machines that change link to ``#m<number>``.
    """
    parts = [*_head(review)]
    top = 96
    numbers = {id(machine): number for number, machine in enumerate(review.machines)}
    frame_top, body = top, []
    for row in _rows(list(_groups(review.machines))):
        groups = [_group(group, top + 34, numbers if linked else {}) for group in row]
        body += [text for text, _ in groups]
        top = max(bottom for _, bottom in groups) - 34
    top += 34
    parts += [_frame(frame_top, top, dict(review.networks).get("machines", ""), _wired(review))]
    parts += body
    drawn, top = _bands(review, top + _GAP)
    parts += [drawn]
    if review.changed:
        parts.append(_legend(review, top + 6))
        top += 30
    height = top + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="{"group" if linked else "img"}" '
        f'aria-labelledby="picture-title picture-text">\n'
        f'<title id="picture-title">The cluster {_text(review.cluster)}</title>\n'
        f'<desc id="picture-text">{_text(described(review))}</desc>\n{style}'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="12"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def described(review: Review) -> str:
    """A description of the picture in sentences, for readers who cannot see it."""
    groups = [
        f"{title}: {words.listed(machine.name for machine in members[:8])}"
        + (f" and {len(members) - 8} more" if len(members) > 8 else "")
        for title, members in _groups(review.machines)
    ]
    networks = words.listed(f"{name} {cidr}" for name, cidr in review.networks)
    changes = "" if words.silent(review) else " " + words.headline(review)
    return (
        f"Kubernetes {words.versions(review)}, its API at {review.endpoint}. {'. '.join(groups)}. "
        f"Networks: {networks}.{changes}"
    )


def _groups(machines: Sequence[MachineReview]) -> Iterator[tuple[str, list[MachineReview]]]:
    left = list(machines)
    for title, takes in GROUPS:
        members = [machine for machine in left if takes(set(machine.roles))]
        left = [machine for machine in left if not takes(set(machine.roles))]
        if members:
            yield title, members


# -- the parts -----------------------------------------------------------------------------------


def _head(review: Review) -> Iterator[str]:
    yield _label(_EDGE, 40, review.cluster, "title", 400)
    yield _label(_EDGE, 62, f"Kubernetes {words.versions(review)}", "quiet", 400)
    right = WIDTH - _EDGE
    yield f'<rect class="band" x="{right - 350}" y="20" width="350" height="50" rx="8"/>'
    yield _label(right - 334, 41, "API", "name", 60)
    yield _label(right - 16, 41, review.endpoint, "mono end", 270)
    yield _label(right - 16, 59, _where(review), "quiet small end", 320)


def _where(review: Review) -> str:
    """The machine at the endpoint's address, in words."""
    host = review.endpoint.partition("://")[2].rpartition(":")[0]
    for machine in review.machines:
        if machine.address == host:
            return f"on {machine.name}"
    return "in front of the control planes"


def _wired(review: Review) -> bool:
    return any("control-plane" in machine.roles for machine in review.machines)


def _frame(top: int, bottom: int, cidr: str, wired: bool) -> str:
    wide = WIDTH - 2 * _EDGE
    wire = f'<path class="wire" d="M{WIDTH - _EDGE - 175} 70V{top}"/>' if wired else ""
    return (
        f'{wire}<rect class="frame" x="{_EDGE}" y="{top}" width="{wide}" height="{bottom - top}" '
        f'rx="12"/>'
        + _label(_EDGE + _PAD, top + 22, "machines", "quiet", 120)
        + _label(WIDTH - _EDGE - _PAD, top + 22, cidr, "mono end quiet", 300)
    )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Machines under a title, and the position of the group."""

    title: str
    machines: list[MachineReview]
    size: Size
    column: int = 0


def _rows(groups: list[tuple[str, list[MachineReview]]]) -> Iterator[list[Group]]:
    """The rows of groups; groups of few machines share a row."""
    row: list[Group] = []
    used = 0
    for title, machines in groups:
        size = next(
            candidate for candidate in (CARD, BRIEF, TILE) if len(machines) <= candidate.most
        )
        if row and (size is not CARD or used + len(machines) > CARD.columns):
            yield row
            row, used = [], 0
        row.append(Group(title=title, machines=machines, size=size, column=used))
        used += len(machines) if size is CARD else CARD.columns
    if row:
        yield row


def _group(group: Group, top: int, numbers: dict[int, int]) -> tuple[str, int]:
    """The SVG of a group, and the top of the next group."""
    size, machines = group.size, group.machines
    wide = WIDTH - 2 * (_EDGE + _PAD)
    gap = _GAP if size is not TILE else 4
    width = (wide - gap * (size.columns - 1)) / size.columns
    left = _EDGE + _PAD + group.column * (width + gap)
    parts = [_label(left, top + 14, _counted(group.title, machines), "name", 700)]
    top += 24
    for position, machine in enumerate(machines):
        row, column = divmod(position, size.columns)
        x, y = left + column * (width + gap), top + row * (size.height + gap)
        drawn = f'<g class="{machine.verb}">{_DRAWN[size](machine, x, y, width)}</g>'
        parts.append(_link(drawn, machine, numbers, size))
    rows = -(-len(machines) // size.columns)
    return "\n".join(parts), top + rows * (size.height + gap) - gap + _PAD


def _counted(title: str, machines: Sequence[MachineReview]) -> str:
    """The title of a group. A group that is too large for cards also gets the counts of changes."""
    if len(machines) <= CARD.most:
        return title
    counts = Counter(machine.verb for machine in machines)
    listed_counts = ", ".join(f"{counts[verb]} {SIGN[verb]}" for verb in Verb if counts[verb])
    changes = "" if set(counts) == {Verb.SAME} else f" ({listed_counts})"
    return f"{title}: {len(machines)}{changes}"


def _link(drawn: str, machine: MachineReview, numbers: dict[int, int], size: Size) -> str:
    """A machine as a link, if it changes.

    Tiles are skipped by the keyboard, which reaches their machines in the page's tree.
    """
    if id(machine) not in numbers or machine.verb is Verb.SAME:
        return drawn
    skipped = ' tabindex="-1"' if size is TILE else ""
    label = f"{machine.name}, {machine.address}: {STATE[machine.verb]}"
    return f'<a href="#m{numbers[id(machine)]}" aria-label="{_text(label)}"{skipped}>{drawn}</a>'


def _card(machine: MachineReview, x: float, y: float, wide: float) -> str:
    size = f"{machine.cpus} CPU · {words.mebibytes(machine.memory)} · {machine.disk} GiB disk"
    return (
        _box("card", x, y, wide, CARD.height)
        + _label(
            x + 14,
            y + 26,
            machine.name,
            "name",
            wide - (50 if machine.verb is not Verb.SAME else 28),
        )
        + _label(x + 14, y + 46, machine.address, "mono", wide - 28)
        + _label(x + 14, y + 65, size, "quiet small", wide - 28)
        + _pills(machine, x + 14, y + 76)
        + _badge(machine.verb, x + wide - 18, y + 20)
    )


def _brief(machine: MachineReview, x: float, y: float, wide: float) -> str:
    return (
        _box("card", x, y, wide, BRIEF.height)
        + _label(
            x + 10,
            y + 18,
            machine.name,
            "name",
            wide - (42 if machine.verb is not Verb.SAME else 20),
        )
        + _label(x + 10, y + 35, machine.address, "mono", wide - 20)
        + _badge(machine.verb, x + wide - 16, y + 16)
    )


def _tile(machine: MachineReview, x: float, y: float, wide: float) -> str:
    sign = "" if machine.verb is Verb.SAME else _sign(machine.verb, x + wide / 2, y + 13.5)
    title = f"<title>{_text(f'{machine.name} {machine.address}: {STATE[machine.verb]}')}</title>"
    return title + _box("tile", x, y, wide, TILE.height, 4) + sign


_DRAWN = {CARD: _card, BRIEF: _brief, TILE: _tile}


def _pills(machine: MachineReview, x: float, y: float) -> str:
    drawn = []
    for role in machine.roles:
        name = words.ROLE.get(role, role)[:14]
        wide = len(name) * 6.3 + 14
        drawn.append(
            f'<rect class="role" x="{x:g}" y="{y:g}" width="{wide:g}" height="19" rx="9.5"/>'
            + _label(x + wide / 2, y + 13.5, name, "small middle", wide)
        )
        x += wide + 5
    return "".join(drawn)


def _badge(verb: Verb, x: float, y: float) -> str:
    if verb is Verb.SAME:
        return ""
    return f'<circle class="badge" cx="{x:g}" cy="{y:g}" r="9.5"/>{_sign(verb, x, y + 5)}'


def _sign(verb: Verb, x: float, y: float) -> str:
    return f'<text class="sign" x="{x:g}" y="{y:g}">{SIGN[verb].replace("-", "−")}</text>'


def _bands(review: Review, top: int) -> tuple[str, int]:
    """The bands of the networks that span all machines."""
    names = {
        "pods": "pods, a part for each node",
        "services": "Services, virtual on every node",
    }
    networks = [(name, cidr) for name, cidr in review.networks if name != "machines"]
    if not networks:
        return "", top
    width = (WIDTH - 2 * _EDGE - _GAP * (len(networks) - 1)) / len(networks)
    parts = []
    for position, (name, cidr) in enumerate(networks):
        x = _EDGE + position * (width + _GAP)
        parts += [
            f'<rect class="band" x="{x:g}" y="{top}" width="{width:g}" height="36" rx="8"/>',
            _label(x + 16, top + 23, names.get(name, name), "", width - 170),
            _label(x + width - 16, top + 23, cidr, "mono end", 140),
        ]
    return "\n".join(parts), top + 36 + _GAP


def _legend(review: Review, top: int) -> str:
    """The legend of the signs that occur in the picture."""
    parts, x = [], float(_EDGE)
    counts = Counter(machine.verb for machine in review.changed)
    for verb in (verb for verb in Verb if counts[verb]):
        label = f"{number(counts[verb], 'machine')}: {STATE[verb]}"
        parts.append(
            f'<g class="{verb}">{_badge(verb, x + 10, top + 8)}</g>'
            + _label(x + 26, top + 13, label, "", 200)
        )
        x += 44 + len(label) * 7
    return "".join(parts)


# -- shapes --------------------------------------------------------------------------------------


def _box(kind: str, x: float, y: float, wide: float, high: float, round_: int = 8) -> str:
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" '
        f'rx="{round_}"/>'
    )


def _label(x: float, y: float, text: str, kind: str, room: float) -> str:
    """A text, cut to the given room.

    The widths of characters are estimates, since no font is measured, so some room stays unused.
    """
    width = 10.5 if "title" in kind else 7.4 if "mono" in kind else 5.9 if "small" in kind else 7.6
    most, plain = max(3, int(room / width)), flat(text)
    shown = plain if len(plain) <= most else plain[: most - 1] + "…"
    of = f' class="{kind}"' if kind else ""
    return f'<text{of} x="{x:g}" y="{y:g}">{_text(shown)}</text>'


def _text(text: str) -> str:
    return escape(flat(text))
