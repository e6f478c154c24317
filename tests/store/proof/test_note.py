"""Keys and checkpoints: their written forms, and signatures that both implementations judge alike."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.errors import StoreError
from insource.governance.verifier import verify_ledger as second
from insource.store.proof.note import Checkpoint, PrivateKey, PublicKey

KEY = PrivateKey("insource/test", bytes(range(32)))
NOTE = KEY.sign(Checkpoint("insource/test", 5, b"r" * 32).body())
RFC_8032 = [  # section 7.1: seed, public key, message, signature
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
     "d25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
     "387b2eaeb4302aeeb00d291612bb0c00"),
]  # fmt: skip


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032(seed, public, message, signature):
    public, message, signature = map(bytes.fromhex, (public, message, signature))
    assert PrivateKey("x", bytes.fromhex(seed)).public().key == public
    assert second.ed25519(public, message, signature)
    assert not second.ed25519(public, message + b"!", signature)
    assert not second.ed25519(public, message, signature[:32] + bytes(32))
    order = (int.from_bytes(signature[32:], "little") + second.L).to_bytes(32, "little")
    assert not second.ed25519(public, message, signature[:32] + order)


def test_a_note_is_read_back_and_signed():
    assert Checkpoint.read(NOTE) == Checkpoint("insource/test", 5, b"r" * 32)
    assert KEY.public().signed(NOTE)
    assert second.read_checkpoint(NOTE, [str(KEY.public())]) == (5, b"r" * 32)
    assert PublicKey.read(str(KEY.public())) == KEY.public()
    assert PrivateKey.read(KEY.text()) == KEY and "seed" not in repr(KEY)


def test_another_key_of_the_same_name_did_not_sign_it():
    other = PrivateKey("insource/test", bytes(32)).public()
    assert not other.signed(NOTE)
    with pytest.raises(second.Wrong, match="is not signed by the key"):
        second.read_checkpoint(NOTE, [str(other)])


@given(st.integers(0, len(NOTE) - 2), st.sampled_from("Aa0+/ \n"))
def test_a_note_with_one_character_changed_is_signed_by_nobody(at, character):
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed == NOTE:
        return
    assert not KEY.public().signed(changed)
    with pytest.raises((second.Wrong, ValueError)):
        second.read_checkpoint(changed, [str(KEY.public())])


def test_bits_that_base64_has_to_spare_are_no_room_to_change_a_signature():
    """A character that stands for the same bytes is a change as well: a case of A1's ten thousand."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    assert NOTE.endswith("=\n") and not NOTE.endswith("==\n")
    others = [NOTE[:-3] + each + NOTE[-2:] for each in alphabet if each != NOTE[-3]]
    last = [NOTE[-3]] + [each[-3] for each in others]
    decode = [base64.b64decode(each.rpartition(" ")[2]) for each in (NOTE, *others)]
    assert decode.count(decode[0]) == 4, "control: four characters stand for the same bytes"
    assert len(set(last)) == 64
    for changed in others:
        assert not KEY.public().signed(changed)
        assert second.signer(changed, [str(KEY.public())]) is None
    assert KEY.public().signed(NOTE) and second.signer(NOTE, [str(KEY.public())])


@pytest.mark.parametrize("text", ["", "x", "a\n-1\n" + "A" * 43 + "=\n\n", "a\n5\nAAAA\n\n", NOTE.replace("5", "x", 1)])
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(StoreError, match="is no checkpoint"):
        Checkpoint.read(text)


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AQ==", str(KEY.public()).replace("insource/test", "other")])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(StoreError, match="is no public key"):
        PublicKey.read(text)
    with pytest.raises(StoreError, match="holds no key"):
        PrivateKey.read(text)
    with pytest.raises(second.Wrong):
        second.read_key(text)
