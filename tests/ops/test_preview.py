"""``preview`` in a checkout of its own, as a person and a pull request's check run it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from spec.bucket_key import FULL_KEY, HALVES
from tests.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def preview(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    return checkout.run("./hardway", "preview", *arguments)


def test_a_change_is_told_on_the_terminal_in_markdown_and_on_a_page(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.change(proxy_mode="iptables")
    report, page = tmp_path / "report.md", tmp_path / "page.html"
    done = preview(checkout, "--markdown", str(report), "--page", str(page))
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
    report = json.loads(preview(checkout, "--json").stdout)
    assert {machine["verb"] for machine in report["machines"]} == {"update"}
    done = preview(checkout, "--base", "change")
    assert done.returncode == 0
    assert "Nothing changes" in done.stdout


def test_what_a_living_cluster_cannot_take_ends_with_its_sentence(checkout: Checkout) -> None:
    checkout.change(kubernetes="1.36.4")
    done = preview(checkout)
    assert done.returncode == 1
    refused = [line for line in done.stdout.splitlines() if "refused-change" in line]
    assert any("kubernetes" in line and "1.36.4" in line for line in refused)


def test_an_add_on_can_be_switched_off_and_on(checkout: Checkout) -> None:
    checkout.change(addons={"coredns": False})
    done = preview(checkout)
    assert done.returncode == 0, done.stderr
    assert "coredns" in done.stdout
    checkout.commit("no names in the cluster")
    checkout.change(addons={"coredns": True})
    done = preview(checkout, "--base", "main")
    assert done.returncode == 0, done.stderr
    assert "coredns" in done.stdout


def test_a_change_may_add_a_field_that_its_base_does_not_know(checkout: Checkout) -> None:
    model = checkout.folder / "spec/hypervisor.py"
    field = '    image_format: Literal["raw", "qcow2"] = "qcow2"\n'
    text = model.read_text()
    assert field in text
    model.write_text(text.replace(field, field + '    lock: Text = "none"\n'))
    done = preview(checkout)
    assert done.returncode == 0, done.stderr
    given = checkout.folder / "preview/recording.py"
    image = '"qemu:///system", image=IMAGE'
    assert image in given.read_text()
    given.write_text(given.read_text().replace(image, f'{image}, lock="own"'))
    done = preview(checkout)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "hypervisor.lock" in message
    assert "--base" in message
    assert "Traceback" not in message


def test_a_program_that_ends_with_an_error_is_told_in_one_sentence(checkout: Checkout) -> None:
    model = checkout.folder / "components/stack.py"
    text = model.read_text()
    start = "    try:\n"
    assert start in text
    model.write_text(
        text.replace(start, f"    Offer.model_validate({{}})\n{start}").replace(
            "offered, with_offer", "Offer, offered, with_offer"
        )
    )
    done = preview(checkout)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "its program ends with ValidationError" in message
    assert "artifacts Field required" in message
    assert "errors.pydantic.dev" not in message
    assert "Traceback" not in message


def test_a_bucket_for_backups_is_shown_and_its_access_key_is_not(checkout: Checkout) -> None:
    bucket = {"kind": "s3", "endpoint": "https://s3.example.org", "bucket": "backups"}
    checkout.change(backup={"to": bucket})
    done = preview(checkout)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "backup.to.bucket has no access_key_id" in message
    assert "run ./hardway pulumi config set --secret --path hardway:bucket.access_key_id" in message
    file = checkout.folder / "Pulumi.dev.yaml"
    written = yaml.safe_load(file.read_text())
    halves = {half: {"secure": f"v1:sealed+{half}="} for half in HALVES}
    file.write_text(yaml.safe_dump({"config": {**written["config"], FULL_KEY: halves}}))
    done = preview(checkout)
    assert done.returncode == 0, done.stderr
    assert "endpoint: https://s3.example.org" in done.stdout
    assert "+ step master-backup" in done.stdout
    assert "sealed" not in done.stdout + done.stderr


def test_bad_input_is_one_sentence_with_what_to_do(checkout: Checkout) -> None:
    def refused(sentence: str, *arguments: str) -> None:
        done = preview(checkout, *arguments)
        assert done.returncode == 1, arguments
        assert sentence in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr

    refused("nowhere is no revision of this repository", "--base", "nowhere")
    refused("Pulumi.other.yaml", "--stack", "other")
    refused("--live", "--refresh")
    refused("one of them", "--live", "--base", "main")
    checkout.change(networks={"machines": "192.168.1.0"})
    refused("networks.machines")
    shutil.rmtree(checkout.folder / ".git")
    refused("not a git repository")
    refused("not a git repository", "--base", "main")


def test_a_repository_that_git_does_not_trust_is_told_with_the_command_that_mends_it(
    checkout: Checkout,
) -> None:
    for arguments in ((), ("--base", "main")):
        # git's own way to be shown a repository of somebody else.
        somebody_elses = ("env", "GIT_TEST_ASSUME_DIFFERENT_OWNER=1")
        done = checkout.run(*somebody_elses, "./hardway", "preview", *arguments)
        message = " ".join(done.stderr.split())
        assert done.returncode == 1
        assert "dubious ownership" in message
        assert f"git config --global --add safe.directory {checkout.folder}" in message
        assert "main branch" not in message


def test_a_clone_without_the_history_says_so(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("switch", "--quiet", "--create", "change")
    checkout.commit("on the branch")
    checkout.git("switch", "--quiet", "main")
    checkout.commit("and on main")
    origin = checkout.folder.rename(tmp_path / "origin")
    arguments = (
        "--quiet",
        "--depth=1",
        "--no-single-branch",
        "--branch=change",
        f"file://{origin}",
    )
    subprocess.run(["git", "clone", *arguments, checkout.folder], check=True)
    done = preview(checkout)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "no commit in common here, since the clone is shallow" in message
    assert "git fetch --unshallow" in message
