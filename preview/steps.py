"""The differences between a step's data before and after, and the restarts that follow."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from plan.reading import StepContents, read
from preview.change import ResourceChange, Verb
from preview.comparing import differing
from preview.difference import unified
from preview.registration import HIDDEN, Registration
from preview.review import FileChange, LineChange, StepChange
from spec.resource_names import part_of


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The resource of a step with its contents before and after the change.

    They are empty where the step's data are hidden.
    """

    change: ResourceChange
    name: str
    before: StepContents = field(default_factory=StepContents)
    after: StepContents = field(default_factory=StepContents)

    @property
    def verb(self) -> Verb:
        return self.change.verb

    @property
    def leaves(self) -> bool:
        """Whether the step leaves its machine, and takes away what it brought."""
        before = self.change.before
        return self.verb is Verb.DELETE and before is not None and "delete" in before.inputs

    @property
    def hidden(self) -> bool:
        return not isinstance(_text(self.change.declared), str)


def _text(declared: Registration | None) -> str | None:
    """The data of a step; None where they are secret."""
    value = declared.inputs.get("stdin") if declared else ""
    return value if isinstance(value, str) and value != HIDDEN else None


def carried(change: ResourceChange, machine: str) -> Carried:
    """A remote command, read as a step of a machine."""
    return Carried(
        change=change,
        name=part_of(change.name, machine),
        before=read(_text(change.before) or ""),
        after=read(_text(change.after) or ""),
    )


def stepped(
    step: Carried, needs: Mapping[str, tuple[str, ...]], rewritten: frozenset[str]
) -> StepChange:
    """The change of a step.

    ``needs`` maps the machine's services to the paths that each depends on. ``rewritten`` are the
    paths of certificates and keys that this step changes without showing their contents.
    """
    anew = step.verb in (Verb.CREATE, Verb.REPLACE)
    files = tuple(_files(step.before, step.after))
    touched = {file.path for file in files} | rewritten
    touched |= _differing(step.before.links, step.after.links).keys()
    started = tuple(step.after.needs)
    restarts = started if anew else tuple(n for n, paths in needs.items() if touched & {*paths})
    if step.verb is Verb.DELETE:
        restarts = ()
    return StepChange(
        resource=step.change.name,
        name=step.name,
        verb=step.verb,
        files=tuple(replace(file, restarts=_restarted(file, needs, anew)) for file in files),
        lines=tuple(_lines(step.before, step.after)),
        hidden=step.hidden,
        restarts=restarts,
        rolls=_rolls(step),
        why=_why(step, files),
    )


def _rolls(step: Carried) -> bool:
    """Whether the step replaces a program before whose replacement the pods move."""
    old, new = step.before.links, step.after.links
    return step.verb is Verb.UPDATE and any(
        path in old and path in new and old[path] != new[path] for path in step.after.rolls
    )


def _restarted(
    file: FileChange, needs: Mapping[str, tuple[str, ...]], anew: bool
) -> tuple[str, ...]:
    return () if anew else tuple(name for name, paths in needs.items() if file.path in paths)


def _why(step: Carried, files: tuple[FileChange, ...]) -> str:
    keys = set(step.change.keys)
    if step.verb is not Verb.UPDATE or files or "stdin" in keys:
        return ""
    if keys == {"create"}:
        return "its scripts change"
    return f"how it is run changes: {', '.join(sorted(keys))}" if keys else ""


# -- differences -----------------------------------------------------------------------------------


def _files(before: StepContents, after: StepContents) -> Iterator[FileChange]:
    old, new = before.files, after.files
    for path in sorted(old.keys() | new.keys()):
        was, will = old.get(path), new.get(path)
        if was != will:
            yield FileChange(
                path=path,
                before=was.content if was else None,
                after=will.content if will else None,
                before_mode=was.mode if was else "",
                after_mode=will.mode if will else "",
            )


def _lines(before: StepContents, after: StepContents) -> Iterator[LineChange]:
    labels = dict.fromkeys((*before.things, *after.things))
    mappings = {
        **{label: (before.things.get(label, {}), after.things.get(label, {})) for label in labels},
        "setting": (before.settings, after.settings),
        "waits for": (_names(before.not_newer), _names(after.not_newer)),
        "takes turns": (_names(before.turns), _names(after.turns)),
    }
    for what, (old, new) in mappings.items():
        for name, (was, will) in _differing(old, new).items():
            yield LineChange(what=what, before=_described(name, was), after=_described(name, will))


def _names(names: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(names, "")


def _described(name: str, value: str | None) -> str | None:
    return None if value is None else f"{name} {value}".rstrip()


def _differing(
    old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    return {name: (old.get(name), new.get(name)) for name in differing(old, new)}


def changed_lines(before: str, after: str) -> Iterator[str]:
    """The lines that differ, each after ``- `` or ``+ ``."""
    for line in unified(before, after):
        if line[0] in "-+":
            yield f"{line[0]} {line[1:]}"
