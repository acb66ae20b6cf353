"""What the engine's language host is told of the virtual environment is what pip says of it."""

import subprocess
from pathlib import Path

import pytest

from lab.toolchain import Toolchain
from tests.engine.stack import LISTED

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("arguments", [LISTED, ["--version"]])
def test_pip_in_a_projects_folder_says_what_it_says_elsewhere(
    empty_stack: Path, toolchain: Toolchain, tmp_path: Path, arguments: list[str]
) -> None:
    environment = toolchain.environment()
    command = [environment["VIRTUAL_ENV"] + "/bin/python", "-m", "pip", *arguments]
    here, elsewhere = (
        subprocess.check_output(command, cwd=folder, env=environment, text=True)
        for folder in (empty_stack, tmp_path)
    )
    assert here.strip() == elsewhere.strip()
