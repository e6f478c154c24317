"""Keys in the registry: kept as digests, revoked once, and told to the ledger."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from insource.errors import StoreError, UnknownKey
from insource.store.delivery import deliver_acts
from insource.store.keys import KEY, digest_of, new_secret
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.types import Key, Limits, Sensitivity

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WANTED = Key(
    "", "ticket app", NOON, "ada", ("triage",), ("eu",), Sensitivity.INTERNAL, True, NOON + timedelta(days=1),
    Limits((60, 60.0), 4, (Decimal("5.10"), "day"), "EUR", (1_000, "month")),
)  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "home") as registry:
        yield registry


def test_a_key_comes_back_as_it_was_made_and_its_text_is_nowhere_kept(registry):
    made, secret = registry.create_key(WANTED, "a pilot")
    assert KEY.fullmatch(secret) and secret[3:11] == made.id
    assert registry.keys() == (made,) and made.limits == WANTED.limits and made.name == "ticket app"
    assert registry.keys_by_digest() == {digest_of(secret): made}
    stored = b"".join(path.read_bytes() for path in registry.path.parent.iterdir())
    assert made.id.encode() in stored
    assert secret[11:].encode() not in stored and secret[:16].encode() not in stored


def test_secrets_have_all_their_bits():
    keys = {new_secret() for _ in range(200)}
    assert len({public for public, _ in keys}) == 200
    assert all(re.fullmatch(r"is-[0-9A-Za-z]{51}", secret) for _, secret in keys)
    assert all(len({secret[place] for _, secret in keys}) > 20 for place in range(3, 53))


def test_a_key_is_revoked_once_and_for_good(registry):
    made, _ = registry.create_key(WANTED, "a pilot")
    later = NOON + timedelta(hours=1)
    revoked, changed = registry.revoke_key(made.id, "grace", "lost", later)
    assert changed and (revoked.revoked, revoked.revoked_by) == (later, "grace")
    assert registry.keys() == (revoked,) and not revoked.lets_in(NOON)
    assert registry.revoke_key(made.id, "eve", "again", later) == (revoked, False)
    with pytest.raises(UnknownKey, match="There is no key 'nobody'"):
        registry.revoke_key("nobody", "ada", "x", NOON)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE keys SET revoked = NULL, revoked_by = NULL", "UPDATE keys SET admin = 0", "DELETE FROM keys",
     "UPDATE keys SET digest = x'00'", "UPDATE keys SET expires = NULL WHERE revoked IS NULL"],
)  # fmt: skip
def test_no_statement_changes_a_key(registry, statement):
    first, _ = registry.create_key(WANTED, "a pilot")
    registry.create_key(WANTED, "another")
    registry.revoke_key(first.id, "grace", "lost", NOON)
    before = registry.keys()
    with pytest.raises(StoreError), registry._writing() as connection:
        connection.execute(statement)
    assert registry.keys() == before


def test_acts_reach_the_ledger_once_with_who_and_why(registry, tmp_path, open_ledger):
    made, _ = registry.create_key(WANTED, "a pilot")
    registry.revoke_key(made.id, "grace", "lost", NOON)
    ledger = open_ledger()
    assert deliver_acts(registry, tmp_path / "home", ledger.act_now) == 2
    assert deliver_acts(registry, tmp_path / "home", ledger.act_now) == 0
    with registry._writing() as connection:
        connection.execute("UPDATE acts_told SET seq = 0")  # as if it had ended before it noted it
    assert deliver_acts(registry, tmp_path / "home", ledger.act_now) == 0
    with LedgerReader(tmp_path / "home") as reader:
        told = [(act.who, act.what, act.detail) for act in reader.acts(made.id)]
    assert told == [("ada", "create key", "ticket app: a pilot"), ("grace", "revoke key", "ticket app: lost")]
