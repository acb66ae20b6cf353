"""A copy of the project as a repository of its own, with nothing of a lab around it."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from lab.cache import Cache
from lab.paths import PROJECT

WHO = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org"))
}
LEFT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")


class Checkout:
    """The project's files, committed to a branch ``main``."""

    def __init__(self, parent: Path) -> None:
        self.folder = parent / "hardway"
        self.state = parent / "home" / "state"
        shutil.copytree(PROJECT, self.folder, ignore=LEFT)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("the cluster")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=os.environ | WHO,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def environment(self) -> dict[str, str]:
        """A home without a lab, with the cache that is there."""
        home = self.state.parent
        home.mkdir(exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if "PYTEST" not in name and not name.startswith(("PULUMI_", "HARDWAY_"))
        }
        return kept | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(Cache().root.parent),
            "XDG_STATE_HOME": str(self.state),
            "HARDWAY_LAB": "checkout",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, in that environment."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def change(self, **fields: object) -> None:
        """Change the default stack's cluster."""
        file = self.folder / "Pulumi.dev.yaml"
        value = yaml.safe_load(file.read_text())
        value["config"]["hardway:cluster"].update(fields)
        file.write_text(yaml.safe_dump(value))
