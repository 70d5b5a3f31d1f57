"""Lists of others become rules that mean the same, or are refused."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tccp.attestation.ima import ImaProgress, Verdict, prove_measurements, replay_measurements
from tccp.attestation.ima_import import (
    KEYS_MAX,
    Imported,
    import_digest_list,
    import_keylime,
    import_measurements,
    pattern_of,
)
from tccp.attestation.ima_rules import ListedDigest
from tccp.errors import ConfigError
from tests.support.ima_lists import AGGREGATE, Entry, buffer, compiled, ng, quoted, sha256, signed, written

DIGEST = sha256(b"content")


def listed(imported: Imported) -> list[ListedDigest]:
    return list(imported.rules.digests)


def test_what_sha256sum_prints_is_read() -> None:
    content = f"{DIGEST.hex()}  /usr/bin/a b\n{DIGEST.hex()} */usr/bin/c\n\\{DIGEST.hex()}  /x\\ny\\\\z\n".encode()

    assert [one.path for one in listed(import_digest_list(content))] == [b"/usr/bin/a b", b"/usr/bin/c", b"/x\ny\\z"]
    assert [one.path for one in listed(import_digest_list(content, any_path=True))] == [None] * 3


def test_what_rpm_prints_is_read_and_folders_are_skipped() -> None:
    content = f"{DIGEST.hex()} /usr/bin/a\n /usr/share\n{'cd' * 64} /usr/bin/b\n".encode()

    assert [(len(one.digest), one.path) for one in listed(import_digest_list(content))] == [
        (32, b"/usr/bin/a"),
        (64, b"/usr/bin/b"),
    ]


def test_lines_of_windows_and_comments_are_read_and_names_are_as_they_stand() -> None:
    content = (
        f"# made by X\r\n{DIGEST.hex()}  /usr/bin/X\\n \r\n\t{DIGEST.hex()}  /y\n\\{DIGEST.hex()}  /z\\r\n".encode()
    )

    assert [one.path for one in listed(import_digest_list(content))] == [b"/usr/bin/X\\n ", b"/z\r"]
    with pytest.raises(ConfigError, match="bad_list"):
        import_digest_list(b"X" + content)


def test_weak_digests_are_left_out_and_counted() -> None:
    content = f"{'ab' * 20}  /sha1\n{'ab' * 16}  /md5\n{DIGEST.hex()}  /x\n".encode()
    imported = import_digest_list(content)

    assert (len(listed(imported)), imported.weak) == (1, 2)


@pytest.mark.parametrize("line", ["no digest", "abc  /x", "ab" * 32, "zz" * 32 + "  /x"])
def test_a_line_that_is_none_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(ConfigError, match="bad_list: line 2 "):
        import_digest_list(f"{DIGEST.hex()}  /x\n{line}\n".encode())


# ---- lists of IMA --------------------------------------------------------------------------------------------------


def test_what_a_good_host_measured_is_allowed_on_another() -> None:
    entries = [
        AGGREGATE,
        ng(b"content", b"/usr/bin/a"),
        ng(b"", b"/var/x", is_violation=True),
        ng(b"old", b"/usr/bin/old", name="sha1"),
        ng(b"older", b"/usr/bin/older", name="sha1"),
        buffer(b"table", b"dm_table_load"),
    ]
    measurements, _ = replay_measurements(written(entries), ImaProgress.start())
    imported = import_measurements(measurements)
    other = [ng(b"another boot", b"boot_aggregate"), entries[1], entries[5], ng(b"rootkit", b"/usr/bin/a")]
    proved = prove_measurements(written(other), ImaProgress.start(), quoted(other))

    assert [one.path for one in listed(imported)] == [b"/usr/bin/a", b"buffer:dm_table_load"]
    assert imported.weak == 2
    assert list(compiled(imported.rules).verdicts(proved)) == [
        Verdict.BOOT_AGGREGATE,
        Verdict.LISTED,
        Verdict.BUFFER,
        Verdict.NOT_LISTED,
    ]
    assert {one.path for one in listed(import_measurements(measurements, any_path=True))} == {
        None,
        b"buffer:dm_table_load",
    }


# ---- Keylime ------------------------------------------------------------------------------------------------------

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
SPKI = KEY.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
KEYLIME = {
    "meta": {"version": 1},
    "release": 0,
    "digests": {"/usr/bin/a": [DIGEST.hex()], "/usr/bin/old": ["ab" * 20]},
    "excludes": ["/var/log/.*", "^/tmp$", r"/usr/lib/x\.pyc"],
    "keyrings": {".ima": [sha256(b"key").hex()]},
    "ima": {"ignored_keyrings": ["*"], "log_hash_alg": "sha1", "dm_policy": None},
    "ima-buf": {"dm_table_load": [sha256(b"table").hex()]},
    "verification-keys": json.dumps(
        {"meta": {"version": 1}, "pubkeys": [base64.b64encode(SPKI).decode()], "keyids": [1]}
    ),
}


def verdict(entry: Entry) -> Verdict:
    policy = compiled(import_keylime(json.dumps(KEYLIME).encode()).rules)
    entries = [AGGREGATE, entry]
    return Verdict(policy.verdicts(prove_measurements(written(entries), ImaProgress.start(), quoted(entries)))[1])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (ng(b"content", b"/usr/bin/a"), Verdict.LISTED),
        (ng(b"content", b"/usr/bin/b"), Verdict.NOT_LISTED),
        (ng(b"x", b"/var/log/messages"), Verdict.EXCLUDED),
        (ng(b"x", b"/tmp"), Verdict.EXCLUDED),
        (ng(b"x", b"/tmp/x"), Verdict.NOT_LISTED),
        (ng(b"x", b"/usr/lib/x.pyc"), Verdict.EXCLUDED),
        (ng(b"x", b"/usr/lib/xapyc"), Verdict.NOT_LISTED),
        (buffer(b"table", b"dm_table_load"), Verdict.BUFFER),
        (buffer(b"other", b"dm_table_load"), Verdict.BUFFER_NOT_LISTED),
        (buffer(b"key", b".ima"), Verdict.BUFFER),
        (buffer(b"other", b".evm"), Verdict.BUFFER),
        (buffer(b"other", b"kexec-cmdline"), Verdict.BUFFER_NOT_LISTED),
        (buffer(b"table", b"kexec-cmdline"), Verdict.BUFFER_NOT_LISTED),
        (ng(b"table", b"/usr/bin/table"), Verdict.NOT_LISTED),
        (signed(b"x", b"/opt/x", b"\x03\x02\x04junk"), Verdict.BAD_SIGNATURE),
    ],
)
def test_a_runtime_policy_of_keylime_means_the_same_here(entry: Entry, expected: Verdict) -> None:
    assert verdict(entry) == expected


def test_a_policy_without_keys_trusts_no_signature() -> None:
    rules = import_keylime(json.dumps(KEYLIME | {"verification-keys": ""}).encode()).rules

    assert (list(rules.keys), list(rules.signed)) == ([], [])


def test_the_keys_of_a_policy_and_the_keyrings_that_it_ignores_are_taken_over() -> None:
    rules = import_keylime(json.dumps(KEYLIME | {"ima": {"ignored_keyrings": [".evm", "*"]}}).encode()).rules

    assert (list(rules.keys), list(rules.signed), list(rules.buffers)) == ([SPKI], ["*"], [".evm", ".*"])


def test_what_a_policy_of_keylime_does_not_say_is_empty() -> None:
    for ima in ({}, {"ima": None}, {"ima": {}}, {"ima": {"ignored_keyrings": []}}):
        rules = import_keylime(json.dumps({"digests": {"/x": [DIGEST.hex()]}} | ima).encode()).rules

        assert list(rules.digests) == [ListedDigest(DIGEST, b"/x")]
        assert not [*rules.excludes, *rules.signed, *rules.keys, *rules.buffers]


def test_one_key_too_many_is_left_for_the_compiler_to_refuse() -> None:
    for count, taken in ((KEYS_MAX, KEYS_MAX), (KEYS_MAX + 1, KEYS_MAX + 1), (KEYS_MAX + 9, KEYS_MAX + 1)):
        keyring = {"pubkeys": [base64.b64encode(SPKI).decode()] * count}
        for said in (keyring, json.dumps(keyring)):
            rules = import_keylime(json.dumps(KEYLIME | {"verification-keys": said}).encode()).rules
            assert len(list(rules.keys)) == taken


def test_weak_digests_of_keylime_are_counted() -> None:
    assert import_keylime(json.dumps(KEYLIME).encode()).weak == 1
    weak = {"digests": {"/usr/bin/a": ["ab" * 16, DIGEST.hex()], "/usr/bin/old": ["ab" * 20]}}
    assert import_keylime(json.dumps(KEYLIME | weak).encode()).weak == 2


@pytest.mark.parametrize(
    "expression",
    ["/a|/b", "/(a)", "/[ab]", "/a+", "/a{2}", r"/\d", "/a*b", "/a?", r"/a\*", "a^b", "/a\\", "/a\\\\$", "/a$b"],
)
def test_an_expression_that_no_pattern_says_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError) as refused:
        pattern_of(expression)
    assert refused.value.reason == "bad_list"


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        ("/a", "/a*"),
        ("^/a$", "/a"),
        (r"/a\.so", "/a.so*"),
        ("/a.so$", "/a?so"),
        (".*", "*"),
        (r"/x\-y$", "/x-y"),
        ("/var/.*/X.*.log$", "/var/*/X*?log"),
        (r"/a\.", "/a.*"),
        (r"/a\$", "/a$*"),
        (r"/a\^b$", "/a^b"),
    ],
)
def test_expressions_become_patterns(expression: str, pattern: str) -> None:
    assert pattern_of(expression) == pattern


@pytest.mark.parametrize(
    "changed",
    [
        {"digests": []},
        {"digests": {"/x": "ab"}},
        {"keyrings": [1]},
        {"digests": {"/x": ["zz"]}},
        {"digests": {"/x": ["abcd"]}},
        {"excludes": "x"},
        {"excludes": [1]},
        {"verification-keys": "{}"},
        {"verification-keys": '{"pubkeys": ["?"]}'},
        {"ima": {"ignored_keyrings": 1}},
        {"ima": {"ignored_keyrings": ["\ud800"]}},
        {"digests": {"/\udc80": []}},
        {"excludes": ["/\udfff"]},
    ],
)
def test_what_is_no_policy_of_keylime_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        import_keylime(json.dumps(KEYLIME | changed).encode())
    assert refused.value.reason == "bad_list"
    for content in (b"", b"[]", b"{", b"[" * 100000):
        with pytest.raises(ConfigError, match="bad_list"):
            import_keylime(content)
