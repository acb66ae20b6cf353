"""The kinds of things that steps bring to machines, a module for each.

A module says how a step's data name the things, what a machine must hold of them, and what a
preview compares. On the machine, a shell function with the name of the record in
``scripts/prelude.sh`` brings a thing about, and the function NAME_gone in ``scripts/absence.sh``
takes it away; ``scripts/step.sh`` lists both.
"""

from plan.things import (
    artifact,
    directory,
    file,
    link,
    logins,
    masked,
    package,
    secret,
    service,
    user,
)

PROGRAMS = (package.KIND, user.KIND, artifact.KIND)
"""What a step brings before it checks anything that lives on the machine."""

REST = (directory.KIND, file.KIND, secret.KIND, logins.KIND, link.KIND, masked.KIND, service.KIND)
"""What it brings then, in this order."""

KINDS = (*PROGRAMS, *REST)
