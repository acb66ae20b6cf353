"""The text of a systemd service."""

from plan.model import Unit

_DEFAULTS = {
    "Restart": "always",
    "RestartSec": "2",
    # A program may have to wait for another machine before it is ready, so its start has no limit.
    "TimeoutStartSec": "infinity",
}


def text(unit: Unit) -> str:
    """The unit file, with each flag on its own line, so that a diff shows which flag changed."""
    if unit.schedule:
        return _timer(unit)
    service = {"Type": unit.type, **_DEFAULTS, **unit.service}
    if unit.type == "oneshot":
        service = {"Type": unit.type, "RemainAfterExit": "yes", **unit.service}
    lines = ["[Unit]", f"Description={unit.description}", "StartLimitIntervalSec=0"]
    lines += [
        f"{key}={' '.join(names)}"
        for key, names in (
            ("After", unit.after),
            ("Wants", unit.wants),
            ("Requires", unit.requires),
        )
        if names
    ]
    lines += unit.asserts
    lines += ["", "[Service]"]
    lines += [f"{key}={value}" for key, value in service.items()]
    lines += [f'Environment="{name}={value}"' for name, value in sorted(unit.environment.items())]
    if unit.once:
        lines += ['Environment="ONCE="', f"EnvironmentFile=-{unit.once}"]
    lines += [f"ExecStartPre={line}" for line in unit.before_start]
    lines.append(f"ExecStart={command(unit)}")
    lines += [f"ExecStartPost={line}" for line in unit.after_start]
    lines += [f"ExecStop={line}" for line in unit.before_stop]
    lines += [f"ExecStopPost={line}" for line in unit.after_stop]
    if unit.wanted_by:
        lines += ["", "[Install]", f"WantedBy={unit.wanted_by}"]
    return "\n".join([*lines, ""])


def _timer(unit: Unit) -> str:
    schedule = [f"{key}={value}" for key, value in unit.schedule.items()]
    wants = [f"Wants={' '.join(unit.wants)}"] if unit.wants else []
    return "\n".join(
        [
            *("[Unit]", f"Description={unit.description}", *wants, "", "[Timer]"),
            *(f"Unit={unit.program}", *schedule),
            *("", "[Install]", f"WantedBy={unit.wanted_by}", ""),
        ]
    )


def command(unit: Unit) -> str:
    """The command line, with each flag on its own line."""
    arguments = [
        unit.program,
        *(_word(f"{unit.dashes}{name}={value}") for name, value in unit.flags.items()),
        *(_word(argument) for argument in unit.arguments),
        # Without braces or quotes, since systemd then splits the value into words, and into none
        # where it is empty.
        *(["$ONCE"] if unit.once else []),
    ]
    return " \\\n  ".join(arguments)


def _word(text: str) -> str:
    # systemd expands $ and % and interprets quotes.
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if any(mark in text for mark in " \t\"';") else escaped
