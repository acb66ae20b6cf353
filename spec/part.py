"""The base class and the types that all models of a spec share."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    TypeAdapter,
)

FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Expected:
    """Annotates a type with a description of valid values, for messages about invalid ones."""

    text: str


@dataclass(frozen=True)
class LeftOut:
    """Annotates a field with its effective default, where that is not the default of the model."""

    text: str


# Strict, since YAML decides the types: a YAML number or boolean is not converted back to text.
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


_NETWORK: TypeAdapter[IPv4Network] = TypeAdapter(Network)


def _as_list(value: Any) -> Any:
    # Checked here, so that an error is of the whole value and of no item.
    return (_NETWORK.validate_python(value),) if isinstance(value, str | IPv4Network) else value


def _single_alone(networks: tuple[IPv4Network, ...]) -> str | list[str]:
    texts = [str(network) for network in networks]
    return texts[0] if len(texts) == 1 else texts


Subnets = Annotated[
    tuple[Network, ...],
    Field(min_length=1),
    BeforeValidator(_as_list),
    PlainSerializer(_single_alone, when_used="json"),
    Expected("an IPv4 network such as 192.168.1.0/24, or a list of several"),
]
"""One network, written alone, or a list of them."""


def _switched(value: Any) -> Any:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


Switch = BeforeValidator(_switched)
"""Annotates a model of settings, or None: ``true`` is all defaults and ``false`` is None."""


class Unparsed(Exception):
    """The requested field did not parse; another message refuses it."""


class Part(BaseModel):
    """A part of a spec.

    The docstrings of fields become their descriptions in ``docs/configuration.md``
    (``spec.reference``). A draft (``spec.draft``) lacks the fields that did not parse; access to
    such a field raises Unparsed.
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
