"""Insource's own secrets: each is found wherever it does not belong, in each of its forms."""

import base64

import pytest

from insource.store.content_keys import ContentKeys
from insource.store.keys import new_secret
from insource.store.proof.folder import ProofFolder
from reliability import x02_secrets as x02
from reliability.harness import Tally
from reliability.own_secrets import AT_HOME, PROOFS, TEXTS, TLS, VIRTUAL, at_home, make_tls, number_of, own_forms


@pytest.fixture
def own(tmp_path):
    """The secrets of a home, by name: as bytes, and in their forms as X2 looks for them."""
    home = tmp_path / "home"
    folder = ProofFolder(home)
    folder.folder.mkdir(parents=True)
    folder.make_next()
    folder.take_next()
    with ContentKeys.open(home):
        pass  # names of subjects are under a secret from the start
    _, key = make_tls(tmp_path)
    virtual = new_secret()[1]
    named = {VIRTUAL: virtual.encode(), TLS: number_of(key), **dict(at_home(home))}
    return named, {form: (-1, what) for form, what in own_forms(home, key, [virtual])}


def found(secrets, data, file=""):
    tally = Tally()
    x02._look(tally, secrets, "somewhere", data, file)
    return {failure.what.removesuffix(" in somewhere") for failure in tally.failures}


@pytest.mark.parametrize("what", [VIRTUAL, TLS, PROOFS, TEXTS])
def test_each_is_found_as_it_is_and_in_base64_and_hex(own, what):
    named, secrets = own
    secret = named[what]
    told = [secret, base64.b64encode(b"Basic:" + secret), base64.b64encode(b"a" + secret)]
    told += [] if what == VIRTUAL else [secret.hex().encode()]
    for each in told:
        assert found(secrets, b"before " + each + b" after") == {what}
    assert found(secrets, b"before " + secret[: len(secret) // 3] + b" after") == set()


def test_a_secret_may_stand_in_its_own_file_and_in_no_other(own):
    named, secrets = own
    for what, files in AT_HOME.items():
        assert found(secrets, named[what], files[0]) == set()
        assert found(secrets, named[what], "ledger.db") == {what}
    assert found(secrets, named[PROOFS], "content_keys.db") == {PROOFS}


def test_the_public_id_of_a_virtual_key_is_no_secret(own):
    named, secrets = own
    assert found(secrets, named[VIRTUAL][:11]) == set()


def test_a_run_without_one_of_them_does_not_hold():
    complete = Tally()
    for what in (*AT_HOME, TLS, VIRTUAL):
        complete.count(f"planted {what}")
    complete.counts["bytes of what is handed over"] = 1
    assert "nothing was looked at in what is handed over" not in x02.judge(complete)
    complete.counts["bytes of what is handed over"] = 0
    assert "nothing was looked at in what is handed over" in x02.judge(complete)
    told = "not every secret of insource's own was planted"
    assert told not in x02.judge(complete)
    complete.counts[f"planted {TLS}"] = 0
    assert told in x02.judge(complete)
