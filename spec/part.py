"""What all models of a spec have in common."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict

FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Expected:
    """Annotates a type with what to write, for the sentence that refuses something else."""

    text: str


@dataclass(frozen=True)
class LeftOut:
    """Annotates a field with what counts without it, where that is not the field's default."""

    text: str


# YAML has types of its own: what is taken for a number or a truth value there is not turned back.
Text = Annotated[str, Strict(), Expected("text, in quotes")]
Whole = Annotated[int, Strict()]
Truth = Annotated[bool, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]


def _text_only(value: Any) -> Any:
    if isinstance(value, str | IPv4Address | IPv4Network):
        return value
    raise ValueError("a number is an address to Python alone")


def _with_prefix(value: Any) -> Any:
    if not isinstance(value, str) or "/" in value:
        return value
    raise ValueError("an address without a prefix length is a network of its own to Python alone")


Address = Annotated[IPv4Address, BeforeValidator(_text_only)]
Network = Annotated[IPv4Network, BeforeValidator(_with_prefix), BeforeValidator(_text_only)]


class Unparsed(Exception):
    """A field was asked for that did not parse, and is refused for itself."""


class Part(BaseModel):
    """A part of a spec.

    The texts below fields are their descriptions in ``docs/configuration.md`` (``spec.reference``).
    A draft (``spec.draft``) lacks the fields that did not parse: asking for one raises Unparsed.
    """

    model_config = FROZEN

    def parsed(self, name: str) -> Any:
        """A field's value, or None where it did not parse."""
        return self.__dict__.get(name)

    if not TYPE_CHECKING:  # a type checker would then allow any attribute

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise Unparsed(name)
            return super().__getattr__(name)
