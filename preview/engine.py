"""Reads the changes of resources from the engine's own preview: ``pulumi preview --json``."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from preview.change import ResourceChange, Verb
from preview.comparing import changed_inputs
from preview.registration import HIDDEN, Registration, enveloped
from preview.urn import kind_of, name_of

VERBS = {
    "same": Verb.SAME,
    "create": Verb.CREATE,
    "update": Verb.UPDATE,
    "replace": Verb.REPLACE,
    "create-replacement": Verb.REPLACE,
    "delete": Verb.DELETE,
    "refresh": Verb.SAME,
    "read": Verb.SAME,
}
"""The engine's operations. The further steps of a replacement repeat the same and are left out."""

UNSHOWN = ("pulumi:pulumi:Stack",)
PROVIDER = "__provider"


class NotPreviewed(Exception):
    """The engine's preview failed; the text is the engine's own."""


def changes_of(text: str, *, succeeded: bool = False) -> tuple[ResourceChange, ...]:
    """The change of each resource in a preview's JSON, in the engine's order.

    ``succeeded`` says that the engine's exit status was 0. What it reports as errors then does not
    concern the changes: at its end it gives a provider 5 s to acknowledge that, and calls one that
    takes longer, as on a busy computer, "exited prematurely" (Pulumi 3.259). Raises NotPreviewed
    where the text is not JSON, or where the engine failed and reports an error.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise NotPreviewed(text.strip()[-2000:] or "pulumi preview said nothing") from error
    if not succeeded and (errors := list(_errors(document))):
        raise NotPreviewed("\n".join(errors))
    return tuple(
        _change(step, VERBS[step["op"]])
        for step in document.get("steps") or ()
        if step["op"] in VERBS and kind_of(step["urn"]) not in UNSHOWN
    )


def _errors(document: Mapping[str, Any]) -> Iterator[str]:
    for diagnostic in document.get("diagnostics") or ():
        if diagnostic.get("severity") == "error":
            yield diagnostic.get("message", "").strip()


def _change(step: Mapping[str, Any], verb: Verb) -> ResourceChange:
    before, after = step.get("oldState"), step.get("newState")
    old = _registration(before) if before and verb is not Verb.CREATE else None
    new = _registration(after) if after and verb is not Verb.DELETE else None
    keys: tuple[str, ...] = ()
    if old and new and verb is not Verb.SAME:
        reasons = [_top(path) for path in step.get("replaceReasons") or ()]
        shown = [_top(path) for path in step.get("diffReasons") or step.get("detailedDiff") or ()]
        keys = tuple(dict.fromkeys((*reasons, *sorted(shown), *changed_inputs(old, new))))
        keys = tuple(key for key in keys if key != PROVIDER)
    return ResourceChange(verb=verb, before=old, after=new, keys=keys)


def _top(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _registration(state: Mapping[str, Any]) -> Registration:
    inputs = {
        key: _enveloped(value)
        for key, value in (state.get("inputs") or {}).items()
        if key != PROVIDER
    }
    return Registration(
        kind=state["type"],
        name=name_of(state["urn"]),
        custom=bool(state.get("custom")),
        inputs=inputs,
        parent=name_of(state.get("parent", "")),
        parent_kind=kind_of(state.get("parent", "")),
        dependencies=tuple(sorted({name_of(urn) for urn in state.get("dependencies") or ()})),
        provider=name_of(state.get("provider", "").rpartition("::")[0]),
        deleted_with=name_of(state.get("deletedWith", "")) or None,
        protect=bool(state.get("protect")),
        additional_secret_outputs=tuple(state.get("additionalSecretOutputs") or ()),
        timeouts={
            key: f"{seconds:g}s" for key, seconds in (state.get("customTimeouts") or {}).items()
        },
    )


def _enveloped(value: Any) -> Any:
    """A value of the document with each secret in an envelope, as in a recording."""
    if value == HIDDEN:
        return enveloped(HIDDEN)
    if isinstance(value, Mapping):
        return {key: _enveloped(item) for key, item in value.items()}
    return [_enveloped(item) for item in value] if isinstance(value, list) else value
