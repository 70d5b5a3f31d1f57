"""A policy says whose TPM counts and what it must have booted; one that does not is no policy."""

from pathlib import Path

import pytest
from nacl.signing import SigningKey

from tccp.errors import ConfigError, PolicyError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.tenant.policy import parse_tenant_policy
from tccp.transparency.note import NoteKey, SignatureType

ZERO = "00" * 32
PCRS = f'[pcrs]\n0 = ["{ZERO}", "{"ab" * 32}"]\n7 = "{ZERO}"\n'
EK = f'ek = "{"cd" * 32}"\n'


def witness(number: int, name: str = "") -> str:
    key = NoteKey(
        name or f"w{number}.example", bytes(SigningKey(bytes([number] * 32)).verify_key), SignatureType.COSIGNATURE
    )
    return f'[[witness]]\nkey = "{key}"\n'


def test_a_policy_is_read() -> None:
    body = f'{EK}software = ["0.1.0"]\nidentity = "{"ef" * 32}"\n{PCRS}{witness(1)}{witness(2)}'.encode()

    policy = parse_tenant_policy(body)

    assert policy.identity_key == b"\xef" * 32
    assert policy.ek_sha256 == b"\xcd" * 32
    assert policy.selection == PcrSelection(PcrBank.SHA256, (0, 7))
    assert policy.witnesses_required == 2  # all that are named, unless it says how many
    assert policy.witness_age_s == 3600
    policy.judge_software("0.1.0")


def test_a_folder_is_found_from_where_the_policy_is() -> None:
    body = f'ek_authorities = "makers"\n{PCRS}'.encode()

    assert parse_tenant_policy(body, folder=Path("/etc/tccp")).ek_authorities == Path("/etc/tccp/makers")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (PCRS, "one of ek_authorities, ek, ak"),
        (f'{EK}ak = "{"ab" * 91}"\n{PCRS}', "only one"),
        (EK, "pcrs"),
        (f"{EK}[pcrs]\n", "pcrs"),
        (f'{EK}[pcrs]\n16 = "{ZERO}"\n', "pcrs.16"),
        (f'{EK}bank = "sha1"\n{PCRS}', "sha1"),
        (f"{EK}software = []\n{PCRS}", "software"),
        (f'{EK}identity = "ab"\n{PCRS}', "identity"),
        (f"{EK}witnesses_required = 1\n{PCRS}", "witnesses_required"),
        (f"{EK}witnesses_required = true\n{PCRS}{witness(1)}", "witnesses_required"),
        (f"{EK}witness_age_s = 0\n{PCRS}", "witness_age_s"),
        (f"{EK}{PCRS}{witness(1)}{witness(1)}", "twice"),
        (f"{EK}{PCRS}{witness(1, 'a.example')}{witness(2, 'a.example')}", "twice"),
        (f'{EK}{PCRS}[[witness]]\nkey = "x+1+2"\n', "witness"),
        (f"{EK}colour = 1\n{PCRS}", "colour"),
        ("pcrs = [", "not TOML"),
        pytest.param(f"{EK}witness_age_s = {'9' * 4_400}\n{PCRS}", "not TOML", id="digits without end"),
        pytest.param(f"{EK}witness_age_s = 0x{'f' * 4_400}\n{PCRS}", "witness_age_s", id="bits without end"),
    ],
)
def test_what_is_no_policy_is_refused_and_told_why(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_tenant_policy(text.encode())

    assert caught.value.reason == "bad_policy"
    assert complaint in caught.value.detail


def test_a_key_of_the_log_is_no_witness() -> None:
    log = NoteKey("log.example", bytes(SigningKey(bytes(32)).verify_key))

    with pytest.raises(ConfigError, match="another kind"):
        parse_tenant_policy(f'{EK}{PCRS}[[witness]]\nkey = "{log}"\n'.encode())


def test_each_pcr_of_the_policy_must_be_quoted_with_a_value_of_it() -> None:
    policy = parse_tenant_policy(f"{EK}{PCRS}".encode())
    selection = PcrSelection(PcrBank.SHA256, (0, 4, 7))
    good = {0: b"\xab" * 32, 4: b"anything at all, of 32 bytes ....", 7: bytes(32)} | {4: b"\x11" * 32}

    policy.judge_pcrs(PcrValues(selection, good))
    with pytest.raises(PolicyError, match="pcr_not_in_policy"):
        policy.judge_pcrs(PcrValues(selection, good | {7: b"\xab" * 32}))
    with pytest.raises(PolicyError, match="pcr_not_quoted"):
        policy.judge_pcrs(PcrValues(PcrSelection(PcrBank.SHA256, (0,)), {0: bytes(32)}))
