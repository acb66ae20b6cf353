"""``preview`` in a checkout of its own, as a person and a pull request's check run it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lab.paths import PROJECT

WHO = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org"))
}


class Checkout:
    """A copy of the project as a repository, with nothing of a lab around it."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "checkout"
        self.state = place / "state"
        listed = self._said(["git", "ls-files", "-co", "--exclude-standard"], PROJECT)
        for name in listed.splitlines():
            if (PROJECT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, self.folder / name)
        self.git("init", "--initial-branch=main")
        self.commit("the cluster")

    def git(self, *words: str) -> str:
        return self._said(["git", *words], self.folder)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def preview(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PULUMI_", "HARDWAY_"))
        }
        return subprocess.run(
            [self.folder / "hardway", "preview", *words],
            cwd=self.folder,
            env=environment | {"XDG_STATE_HOME": str(self.state), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    def change(self, **fields: object) -> None:
        file = self.folder / "Pulumi.dev.yaml"
        value = yaml.safe_load(file.read_text())
        value["config"]["hardway:cluster"].update(fields)
        file.write_text(yaml.safe_dump(value))

    def _said(self, words: list[str], folder: Path) -> str:
        return subprocess.run(
            words, cwd=folder, env=os.environ | WHO, capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_change_is_told_on_the_terminal_in_markdown_and_on_a_page(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.change(proxy_mode="iptables")
    report, page = tmp_path / "report.md", tmp_path / "page.html"
    done = checkout.preview("--markdown", str(report), "--page", str(page))
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, report.read_text()):
        assert "kube-proxy.yaml" in text
        assert "mode: nftables" in text
        assert "kube-proxy.service" in text
    assert "mode: nftables" in page.read_text()
    assert not checkout.state.exists(), "it needs no lab"
    assert checkout.git("status", "--porcelain") == " M Pulumi.dev.yaml\n"


def test_it_is_compared_with_where_the_branch_began_or_with_what_is_named(
    checkout: Checkout,
) -> None:
    checkout.git("switch", "--quiet", "--create", "change")
    checkout.change(proxy_mode="iptables")
    checkout.commit("another proxy mode")
    assert "3 machines are changed" in checkout.preview().stdout
    done = checkout.preview("--base", "change")
    assert done.returncode == 0
    assert "Nothing changes" in done.stdout


def test_what_a_living_cluster_cannot_take_ends_with_its_sentence(checkout: Checkout) -> None:
    checkout.change(kubernetes="1.36.4")
    done = checkout.preview()
    assert done.returncode == 1
    refused = [one for one in done.stdout.splitlines() if "refused-change" in one]
    assert any("kubernetes" in line and "1.36.4" in line for line in refused)


def test_bad_input_is_one_sentence_with_what_to_do(checkout: Checkout) -> None:
    for words, said in (
        (("--base", "nowhere"), "nowhere is no revision of this repository"),
        (("--stack", "other"), "Pulumi.other.yaml"),
        (("--refresh",), "--live"),
        (("--live", "--base", "main"), "one of them"),
    ):
        done = checkout.preview(*words)
        assert done.returncode == 1, words
        assert said in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr
    checkout.change(networks={"machines": "192.168.1.0"})
    done = checkout.preview()
    assert done.returncode == 1
    assert "networks.machines" in done.stderr
    shutil.rmtree(checkout.folder / ".git")
    done = checkout.preview()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
