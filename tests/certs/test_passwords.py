"""Passwords of the program's own making."""

from itertools import product

from certs.passwords import derived_password, new_password_seed


def test_a_password_follows_from_seed_name_and_number_and_from_nothing_else() -> None:
    seeds = [new_password_seed() for _ in range(2)]
    rows = list(product(seeds, ("notebooks", "other"), (1, 2)))
    made = [derived_password(*row) for row in rows]
    assert len({*made}) == len(rows)
    assert made == [derived_password(*row) for row in rows]


def test_a_password_can_be_typed_and_not_be_guessed() -> None:
    password = derived_password(new_password_seed(), "notebooks", 1)
    groups = password.split("-")
    assert [len(group) for group in groups] == [6, 6, 6, 6]
    assert {*"".join(groups)} <= {*"abcdefghijklmnopqrstuvwxyz234567"}
