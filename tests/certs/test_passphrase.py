"""A text under a passphrase opens with that alone, wherever it was written."""

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certs import passphrase
from certs.passphrase import MAGIC, WrongPassphrase, decrypted, encrypted

CONTENT = b"authorities and keys\n" * 300
PASSPHRASE = "vier W\u00f6rter eines Tests"


def test_what_was_encrypted_is_decrypted() -> None:
    text = encrypted(CONTENT, PASSPHRASE)
    assert text.startswith(MAGIC)
    assert b"authorities" not in text
    assert decrypted(text, PASSPHRASE) == CONTENT
    assert encrypted(CONTENT, PASSPHRASE).splitlines()[1:] != text.splitlines()[1:]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-2],
        lambda text: text.replace(MAGIC, MAGIC + b"0"),
        lambda text: text[:-10] + b"A" + text[-9:],
        lambda _: MAGIC,
        lambda _: b"",
    ],
)
def test_what_was_changed_does_not_open(change: object) -> None:
    assert callable(change)
    with pytest.raises(WrongPassphrase):
        decrypted(change(encrypted(CONTENT, PASSPHRASE)), PASSPHRASE)


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(WrongPassphrase):
        decrypted(encrypted(CONTENT, PASSPHRASE), PASSPHRASE.lower())


def test_the_cost_of_a_guess_does_not_depend_on_the_computer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = []

    def noted(**settings: int) -> Scrypt:
        costs.append((settings["n"], settings["r"], settings["p"]))
        return Scrypt(**settings)  # type: ignore[arg-type]

    monkeypatch.setattr(passphrase, "Scrypt", noted)
    for _ in range(3):
        decrypted(encrypted(b"", PASSPHRASE), PASSPHRASE)
    assert set(costs) == {(131072, 8, 1)}
