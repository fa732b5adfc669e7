"""API keys: tokens, scopes, expiry, revocation and rotation."""

import dataclasses

import pytest

from service.domain.api_key import (
    ACCOUNT_PATTERN,
    ApiKey,
    Caller,
    Scope,
    format_token,
    hash_secret,
    is_account_name,
    parse_token,
)

SECRET, OLD = "5" * 64, "0" * 64
KEY = ApiKey("0123456789abcdef", "desk", "bot", Scope.TRADE, hash_secret(SECRET), created_at=100)


def test_a_token_is_read_as_it_is_written() -> None:
    assert parse_token(format_token(KEY.id, SECRET)) == (KEY.id, hash_secret(SECRET))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oek",
        f"oek_{KEY.id}",
        f"oek_{KEY.id}_{SECRET[1:]}",
        f"oek_{KEY.id}_{SECRET}0",
        f"oek_{KEY.id}_{SECRET}\n",
        f"OEK_{KEY.id}_{SECRET}",
        f"oek_{KEY.id.upper()}_{SECRET}",
        f"oek_{KEY.id}_{'g' * 64}",
        f"oek_{KEY.id}_" + "\u0665" * 64,
    ],
)
def test_other_texts_are_not_tokens(text: str) -> None:
    assert parse_token(text) is None


def test_a_scope_includes_those_before_it() -> None:
    allowed = {(have, needed) for have in Scope for needed in Scope if have.includes(needed)}
    assert allowed == {
        ("read", "read"),
        ("trade", "read"),
        ("trade", "trade"),
        ("admin", "read"),
        ("admin", "trade"),
        ("admin", "admin"),
    }


def test_a_key_accepts_its_secret_until_it_expires_or_is_revoked() -> None:
    assert KEY.accepts(hash_secret(SECRET), 200)
    assert not KEY.accepts(hash_secret(OLD), 200)
    expiring = dataclasses.replace(KEY, expires_at=200.0)
    assert [expiring.accepts(hash_secret(SECRET), now) for now in (199.9, 200.0)] == [True, False]
    assert not dataclasses.replace(KEY, revoked_at=150.0).accepts(hash_secret(SECRET), 140)


def test_a_rotated_key_accepts_its_old_secret_for_the_overlap() -> None:
    rotated = dataclasses.replace(KEY, previous_hash=hash_secret(OLD), previous_until=300.0)
    assert [rotated.accepts(hash_secret(OLD), now) for now in (299.0, 300.0)] == [True, False]
    assert rotated.accepts(hash_secret(SECRET), 299)
    assert rotated.accepts(hash_secret(SECRET), 301)
    assert not dataclasses.replace(rotated, revoked_at=150.0).accepts(hash_secret(OLD), 200)


def test_a_caller_sees_its_account_and_an_admin_all() -> None:
    trader, admin = (Caller("desk", scope, KEY.id) for scope in (Scope.TRADE, Scope.ADMIN))
    assert trader.may_see("desk")
    assert not trader.may_see("other")
    assert not trader.may_see(None)
    assert admin.may_see("other")


@pytest.mark.parametrize(
    ("text", "valid"),
    [("default", True), ("a", True), ("desk-1_b", True), ("a" * 63, True), ("a" * 64, False), ("", False)]
    + [(text, False) for text in ("Desk", "-a", "a b", "a\n", "é", "a/b")],
)
def test_account_names(text: str, valid: bool) -> None:
    assert is_account_name(text) is valid
    assert ACCOUNT_PATTERN.startswith("^")
