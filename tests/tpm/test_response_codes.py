"""Response codes become reasons that one can match on."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.tpm.constants import CommandCode
from tccp.tpm.response_codes import rc_error


@pytest.mark.parametrize(
    ("code", "reason", "place"),
    [
        (0x100, "tpm_rc_initialize", ""),
        (0x14A, "tpm_rc_nv_uninitialized", ""),
        (0x902, "tpm_rc_object_memory", ""),
        (0x921, "tpm_rc_lockout", ""),
        (0x18B, "tpm_rc_handle", "handle 1"),
        (0x28B, "tpm_rc_handle", "handle 2"),
        (0x1C4, "tpm_rc_value", "parameter 1"),
        (0x2D5, "tpm_rc_size", "parameter 2"),
        (0x98E, "tpm_rc_auth_fail", "session 1"),
        (0x9A2, "tpm_rc_bad_auth", "session 1"),
        (0xA9D, "tpm_rc_policy_fail", "session 2"),
        (0x1DF, "tpm_rc_integrity", "parameter 1"),
        (0x1FFF, "tpm_rc_0x1fff", ""),
        (0x555, "tpm_rc_0x555", ""),
    ],
)
def test_a_code_has_a_reason_and_a_place(code: int, reason: str, place: str) -> None:
    error = rc_error(CommandCode.QUOTE, code)

    assert error.reason == reason
    assert hex(code) in error.detail
    assert place in error.detail


@pytest.mark.parametrize("code", [0x18B, 0x28B, 0x1C4, 0x2D5, 0x98E, 0xA9D])
def test_tpm2_rc_decode_blames_the_same_place(code: int) -> None:
    decoded = subprocess.run(["tpm2_rc_decode", hex(code)], capture_output=True, text=True, check=True).stdout

    kind, number = re.match(r"tpm:(handle|session|parameter)\((\d+)\):", decoded).groups()
    assert rc_error(CommandCode.QUOTE, code).detail.endswith(f"on {kind} {number}")


@given(st.integers(1, 0xFFFFFFFF))
def test_every_code_has_a_reason_in_snake_case(code: int) -> None:
    error = rc_error(CommandCode.QUOTE, code)

    assert error.reason.replace("_", "").isalnum()
    assert error.reason == error.reason.lower()
