"""Compiled IMA policies: digests, paths, exceptions and signatures; and what is no compiled policy."""

import hashlib
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.ima import ImaPolicy, ImaProgress, Verdict, boot_aggregates, prove_measurements
from tccp.attestation.ima_rules import ImaRules, ListedDigest, compile_rules
from tccp.errors import ConfigError, ImaError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.ima_lists import AGGREGATE, SHA256, Entry, compiled, modsig, ng, quoted, sha256, signed, written

CONTENT = b"contents of a file"


def verdict(rules: ImaRules, entry: Entry) -> Verdict:
    """What the policy says of one entry behind the boot aggregate."""
    entries = [AGGREGATE, entry]
    return Verdict(
        compiled(rules).verdicts(prove_measurements(written(entries), ImaProgress.start(), quoted(entries)))[1]
    )


# ---- digests, paths and exceptions -------------------------------------------------------------------------------


def test_a_digest_is_listed_for_any_path_or_for_one() -> None:
    for_one = ImaRules([ListedDigest(sha256(CONTENT), b"/usr/bin/x"), ListedDigest(sha256(CONTENT), b"/usr/bin/y")])

    assert verdict(ImaRules([ListedDigest(sha256(CONTENT))]), ng(CONTENT, b"/anywhere")) == Verdict.LISTED
    assert verdict(for_one, ng(CONTENT, b"/usr/bin/x")) == Verdict.LISTED
    assert verdict(for_one, ng(CONTENT, b"/usr/bin/y")) == Verdict.LISTED
    assert verdict(for_one, ng(CONTENT, b"/usr/bin/z")) == Verdict.NOT_LISTED


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_digests_of_each_length_are_listed_as_what_they_are(name: str) -> None:
    rules = ImaRules([ListedDigest(hashlib.new(name, CONTENT).digest())])

    for other in ("sha256", "sha384", "sha512"):
        expected = Verdict.LISTED if other == name else Verdict.NOT_LISTED
        assert verdict(rules, ng(CONTENT, b"/x", name=other)) == expected


def test_the_first_bytes_of_a_longer_digest_are_no_shorter_one() -> None:
    digest = hashlib.sha512(CONTENT).digest()
    policy = compiled(ImaRules([ListedDigest(digest[:32])]))

    assert policy.lists(SHA256, digest[:32], b"/x")
    assert verdict(ImaRules([ListedDigest(digest[:32])]), ng(CONTENT, b"/x", name="sha512")) == Verdict.NOT_LISTED


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/var/log/*", b"/var/log/a/b", True),
        ("/var/log/*", b"/var/log/", True),
        ("/var/log/*", b"/var/log", False),
        ("*.pyc", b"/usr/lib/x.pyc", True),
        ("*.pyc", b"/usr/lib/x.pyc2", False),
        ("/opt/?", b"/opt/x", True),
        ("/opt/?", b"/opt/xy", False),
        ("/a*b*c", b"/aXbYbZc", True),
        ("/a*b*c", b"/aXbYbZ", False),
        ("/x", b"/x", True),
        ("/x", b"/xx", False),
        ("**", b"", True),
    ],
)
def test_patterns(pattern: str, path: bytes, matches: bool) -> None:
    expected = Verdict.EXCLUDED if matches else Verdict.NOT_LISTED

    assert verdict(ImaRules(excludes=[pattern]), ng(CONTENT, path)) == expected


def test_a_pattern_full_of_stars_does_not_take_for_ever() -> None:
    assert verdict(ImaRules(excludes=["*a" * 400 + "b"]), ng(CONTENT, b"/" + b"a" * 4000)) == Verdict.NOT_LISTED


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=60), st.binary(min_size=32, max_size=32))
def test_exactly_what_was_listed_is_found(digests: set[bytes], other: bytes) -> None:
    policy = compiled(ImaRules([ListedDigest(digest) for digest in digests]))

    assert len(policy) == len(digests)
    assert all(policy.lists(SHA256, digest, b"/x") for digest in digests)
    assert policy.lists(SHA256, other, b"/x") == (other in digests)


def test_many_digests_are_all_found() -> None:
    digests = [sha256(bytes([n % 256, n // 256])) for n in range(5000)]
    policy = compiled(ImaRules([ListedDigest(digest, b"/%d" % n) for n, digest in enumerate(digests)]))

    assert all(policy.lists(SHA256, digest, b"/%d" % n) for n, digest in enumerate(digests))
    assert not any(policy.lists(SHA256, digest, b"/%d" % (n + 1)) for n, digest in enumerate(digests))


def test_equal_rules_give_equal_bytes() -> None:
    digests = [ListedDigest(sha256(bytes([n]))) for n in range(20)]

    one = compile_rules(ImaRules(digests, excludes=["/a", "/b"]))
    two = compile_rules(ImaRules([*reversed(digests), digests[0]], excludes=["/b", "/a", "/a"]))

    assert one == two


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (ImaRules([ListedDigest(bytes(20))]), "not a SHA-256"),
        (ImaRules(excludes=[""]), "1 to 1024 bytes"),
        (ImaRules(excludes=["x" * 1025]), "1 to 1024 bytes"),
        (ImaRules(excludes=[str(n) for n in range(5000)]), "5000 rules"),
        (ImaRules(keys=[bytes([n]) for n in range(65)]), "65 keys"),
        (ImaRules([ListedDigest(bytes(28) + struct.pack(">I", n)) for n in range(70000)]), "begin alike"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: ImaRules, told: str) -> None:
    with pytest.raises(ConfigError, match="bad_policy") as caught:
        compile_rules(rules)
    assert told in caught.value.detail


def test_as_many_and_as_long_rules_as_are_allowed_are_compiled() -> None:
    keys = [bytes([n]) for n in range(64)]
    most = ImaRules(excludes=[str(n) for n in range(4096 - 64 - 1)], keys=keys, allow_violations=True)

    compile_rules(most)
    compile_rules(ImaRules(excludes=["x" * 1024]))
    with pytest.raises(ConfigError, match="4097 rules"):
        compile_rules(replace(most, buffers=["x"]))
    with pytest.raises(ConfigError, match="1 to 1024 bytes"):
        compile_rules(ImaRules(excludes=["\xe9" * 513]))  # in UTF-8


# ---- the file ----------------------------------------------------------------------------------------------------


def test_another_file_than_the_policy_names_is_refused() -> None:
    file = compile_rules(ImaRules([ListedDigest(sha256(CONTENT))]))
    ImaPolicy(file, sha256(file))

    for position in range(len(file)):
        altered = bytearray(file)
        altered[position] ^= 1
        with pytest.raises(ImaError, match="wrong_root"):
            ImaPolicy(bytes(altered), sha256(file))


def test_a_file_that_is_no_policy_is_refused_whatever_its_hash() -> None:
    file = compile_rules(ImaRules([ListedDigest(sha256(CONTENT))], excludes=["/x"]))

    for damaged in (b"", file[:-1], file + b"\0", b"tccpima2" + file[8:], file[:8] + b"\xff" * 4 + file[12:]):
        with pytest.raises(ImaError, match=r"malformed|too_large"):
            ImaPolicy(damaged, sha256(damaged))


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_misleads_at_worst(position: int, junk: bytes) -> None:
    file = bytearray(compile_rules(ImaRules([ListedDigest(sha256(bytes([n]))) for n in range(9)], excludes=["/x*"])))
    file[position : position + len(junk)] = junk
    try:
        policy = ImaPolicy(bytes(file), sha256(bytes(file)))
    except ImaError:
        return
    policy.lists(SHA256, sha256(b"\1"), b"/x")


# ---- signatures --------------------------------------------------------------------------------------------------

RSA_KEY = rsa.generate_private_key(65537, 2048)
P256_KEY = ec.generate_private_key(ec.SECP256R1())
P384_KEY = ec.generate_private_key(ec.SECP384R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def xattr(key: PrivateKey, content: bytes = CONTENT, keyid: bytes = b"\1\2\3\4") -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        bare = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    else:
        bare = key.sign(content, ec.ECDSA(hashes.SHA256()))
    return b"\x03\x02\x04" + keyid + struct.pack(">H", len(bare)) + bare


def rules_for(*keys: PrivateKey, signed_paths: str = "/usr/*") -> ImaRules:
    return ImaRules(keys=[spki(key) for key in keys], signed=[signed_paths])


@pytest.mark.parametrize("key", [RSA_KEY, P256_KEY, P384_KEY], ids=["rsa2048", "p256", "p384"])
def test_a_file_may_be_signed_instead_of_listed(key: PrivateKey) -> None:
    rules = rules_for(OTHER_KEY, key)

    assert verdict(rules, signed(CONTENT, b"/usr/bin/x", xattr(key))) == Verdict.SIGNED
    assert verdict(rules, signed(b"another", b"/usr/bin/x", xattr(key))) == Verdict.BAD_SIGNATURE
    assert verdict(rules_for(OTHER_KEY), signed(CONTENT, b"/usr/bin/x", xattr(key))) == Verdict.BAD_SIGNATURE
    assert verdict(rules, signed(CONTENT, b"/srv/x", xattr(key))) == Verdict.NOT_LISTED
    assert verdict(rules, signed(CONTENT, b"/usr/bin/x", b"")) == Verdict.NOT_LISTED


def test_no_bit_of_a_signature_can_be_changed() -> None:
    rules, good = rules_for(RSA_KEY), xattr(RSA_KEY)

    for position in range(len(good)):
        altered = bytearray(good)
        altered[position] ^= 1
        # The id of the key only says which to try first.
        expected = Verdict.SIGNED if 3 <= position < 7 else Verdict.BAD_SIGNATURE
        assert verdict(rules, signed(CONTENT, b"/usr/x", bytes(altered))) == expected


@pytest.mark.parametrize(
    "signature", [b"\x03\x02\x04", b"\x03\x02", xattr(RSA_KEY) + b"\0", b"\x03\x02\x02" + xattr(RSA_KEY)[3:]]
)
def test_what_is_no_signature_of_version_2_is_none(signature: bytes) -> None:
    assert verdict(rules_for(RSA_KEY), signed(CONTENT, b"/usr/x", signature)) == Verdict.BAD_SIGNATURE


def test_a_weak_key_is_not_taken() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    file = compile_rules(rules_for(weak))

    with pytest.raises(ImaError, match="unsupported"):
        ImaPolicy(file, sha256(file))


def write_keys(folder: Path, key: PrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "x").write_bytes(CONTENT)


@pytest.mark.parametrize("key", [RSA_KEY, P256_KEY], ids=["rsa2048", "p256"])
def test_signatures_of_evmctl_hold(key: PrivateKey, tmp_path: Path) -> None:
    write_keys(tmp_path, key)
    command = ["evmctl", "ima_sign", "--sigfile", "--hashalgo", "sha256", "--key", "key.pem", "x"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    signature = (tmp_path / "x.sig").read_bytes()

    assert verdict(rules_for(key), signed(CONTENT, b"/usr/bin/x", signature)) == Verdict.SIGNED


CMS_SIGN = ("cms", "-sign", "-binary", "-nocerts", "-md", "sha256", "-in", "x", "-signer", "certificate.pem")
SIGNED_DER = ("-inkey", "key.pem", "-outform", "DER", "-out", "x.p7s")


def cms(folder: Path, key: PrivateKey, *options: str) -> bytes:
    """As the kernel's scripts/sign-file makes it: detached, binary, without attributes and certificates."""
    write_keys(folder, key)
    for command in (
        ["req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=signer", "-out", "certificate.pem"],
        [*CMS_SIGN, *SIGNED_DER, *options],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return (folder / "x.p7s").read_bytes()


@pytest.mark.parametrize("key", [RSA_KEY, P256_KEY], ids=["rsa2048", "p256"])
def test_an_appended_signature_holds_over_the_file_without_it(key: PrivateKey, tmp_path: Path) -> None:
    appended = cms(tmp_path, key, "-noattr")
    rules = rules_for(key, signed_paths="/lib/modules/*")

    assert verdict(rules, modsig(CONTENT, b"/lib/modules/x.ko", appended)) == Verdict.SIGNED
    assert verdict(rules, modsig(b"another", b"/lib/modules/x.ko", appended)) == Verdict.BAD_SIGNATURE
    assert verdict(rules, modsig(CONTENT, b"/lib/modules/x.ko", appended[:-1])) == Verdict.BAD_SIGNATURE
    assert verdict(rules_for(OTHER_KEY, signed_paths="*"), modsig(CONTENT, b"/x.ko", appended)) == Verdict.BAD_SIGNATURE


def test_an_appended_signature_over_attributes_is_none_over_the_file(tmp_path: Path) -> None:
    appended = cms(tmp_path, RSA_KEY)

    assert verdict(rules_for(RSA_KEY), modsig(CONTENT, b"/usr/x.ko", appended)) == Verdict.BAD_SIGNATURE


def test_only_what_can_be_listed_is_looked_up() -> None:
    policy = compiled(ImaRules([ListedDigest(sha256(CONTENT))]))

    for bank, digest in ((PcrBank.SHA1, bytes(20)), (PcrBank.SHA256, bytes(31)), (PcrBank.SHA384, bytes(32))):
        with pytest.raises(ValueError, match="could be listed"):
            policy.lists(bank, digest, b"/x")


def test_a_boot_aggregate_is_of_ten_pcrs() -> None:
    nine = PcrSelection(PcrBank.SHA256, tuple(range(9)))

    with pytest.raises(ValueError, match="PCR 0 to 9"):
        boot_aggregates(PcrValues(nine, {index: bytes(32) for index in range(9)}))


def test_a_boot_aggregate_is_of_eight_pcrs_on_older_kernels() -> None:
    values = {index: bytes([index]) * 32 for index in range(10)}
    new, old = boot_aggregates(PcrValues(PcrSelection.of(SHA256, range(10)), values))

    assert new[:33] == b"\2" + sha256(b"".join(values[index] for index in range(10)))
    assert old[:33] == b"\2" + sha256(b"".join(values[index] for index in range(8)))


def test_there_is_no_entry_before_the_first_or_behind_the_last() -> None:
    proved = prove_measurements(written([AGGREGATE]), ImaProgress.start(), quoted([AGGREGATE]))

    assert proved.entry(0).path == b"boot_aggregate"
    for at in (-1, 1):
        with pytest.raises(IndexError):
            proved.entry(at)
