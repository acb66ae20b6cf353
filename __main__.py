"""The Pulumi program."""

from components.stack import declare

declare()
