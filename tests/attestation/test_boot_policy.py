"""What is no measured-boot policy is refused with the key that is wrong; what is one says what to quote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.boot_policy import BootPolicy, Mode, parse_any_policy, parse_boot_policy
from tccp.attestation.policy import PcrPolicy
from tccp.errors import ConfigError
from tests.support.boots import POLICY, policy

HEAD = 'kind = "measured-boot"\nname = "x"\nversion = 1\n'
DIGEST = "ab" * 32
KERNEL = f'[kernel]\nmode = "enforce"\ndigests = ["{DIGEST} 6.1"]\n'


def test_a_policy_says_what_must_be_quoted() -> None:
    assert policy().selection.indexes == (0, 2, 4, 5, 7, 8, 9, 12)
    assert policy(HEAD + KERNEL).selection.indexes == (4, 5, 9)
    assert policy(f'{HEAD}{KERNEL}[ima]\nsha256 = "{DIGEST}"\n').selection.indexes == (4, 5, 9, 10)


def test_an_unknown_event_counts_against_the_strictest_section_of_its_pcr() -> None:
    body = HEAD + KERNEL + f'[initrd]\nmode = "warn"\ndigests = ["{DIGEST}"]\n'

    assert policy(body).mode_of(9) is Mode.ENFORCE
    assert policy(body.replace('"enforce"', '"warn"')).mode_of(9) is Mode.WARN


def test_both_kinds_of_policies_are_told_apart() -> None:
    assert isinstance(parse_any_policy(POLICY.encode()), BootPolicy)
    assert isinstance(parse_any_policy(f'name = "x"\nversion = 1\n[pcrs]\n0 = "{DIGEST}"'.encode()), PcrPolicy)


WRONG = {
    "nothing": ("", "kind"),
    "no TOML": ("kind", "TOML"),
    "a version without end": (HEAD.replace("1", 4_400 * "9") + KERNEL, "digits"),
    "another kind": (HEAD.replace("measured-boot", "ima") + KERNEL, "kind"),
    "no section": (HEAD, "no section"),
    "a name that is a path": (HEAD.replace('"x"', '"../x"') + KERNEL, "name"),
    "version zero": (HEAD.replace("1", "0") + KERNEL, "version"),
    "an unknown key": ('colour = "red"\n' + HEAD + KERNEL, "colour"),
    "an unknown key of a section": (HEAD + KERNEL + "colour = 1\n", "colour"),
    "no mode": (HEAD + f'[kernel]\ndigests = ["{DIGEST}"]\n', "mode"),
    "an unknown mode": (HEAD + KERNEL.replace("enforce", "off"), "mode"),
    "no digests": (HEAD + '[kernel]\nmode = "enforce"\n', "kernel.digests"),
    "a short digest": (HEAD + KERNEL.replace(DIGEST, "ab"), "kernel.digests"),
    "a digest with blanks": (HEAD + KERNEL.replace(DIGEST, "ab " * 32), "kernel.digests"),
    "a digest twice": (HEAD + f'[kernel]\nmode = "warn"\ndigests = ["{DIGEST} a", "{DIGEST} b"]\n', "twice"),
    "the SHA-1 bank": ('bank = "sha1"\n' + HEAD + KERNEL, "bank"),
    "a digest of another bank": ('bank = "sha384"\n' + HEAD + KERNEL, "kernel.digests"),
    "no builds": (HEAD + '[firmware]\nmode = "enforce"\nbuilds = []\n', "firmware.builds"),
    "a build of nothing": (HEAD + '[firmware]\nmode = "enforce"\nbuilds = [{ events = [] }]\n', "firmware.builds"),
    "an event of no type": (
        HEAD + f'[firmware]\nmode = "enforce"\nbuilds = [{{ events = ["EV_X {DIGEST}"] }}]\n',
        "EV_X",
    ),
    "an event without a digest": (
        HEAD + '[firmware]\nmode = "enforce"\nbuilds = [{ events = ["EV_IPL"] }]\n',
        "EV_IPL",
    ),
    "a command line without rules": (HEAD + '[command_line]\nmode = "enforce"\n', "command_line"),
    "no lines": (HEAD + '[command_line]\nmode = "enforce"\nlines = []\n', "command_line.lines"),
    "another state": (HEAD + '[secure_boot]\nmode = "enforce"\nstate = "maybe"\n', "state"),
    "an IMA policy beside another bank": (
        f'bank = "sha384"\n{HEAD}[drivers]\nmode = "warn"\n[ima]\nsha256 = "{DIGEST}"\n',
        "ima",
    ),
    "a hash with blanks": (HEAD + KERNEL + f'[ima]\nsha256 = "{"ab " * 32}"\n', "ima.sha256"),
    "a hash that is none": (HEAD + KERNEL + f'[ima]\nsha256 = "{"zz" * 32}"\n', "ima.sha256"),
    "an event with a short digest": (
        HEAD + '[firmware]\nmode = "enforce"\nbuilds = [{ events = ["EV_IPL ab"] }]\n',
        "firmware.builds[0].events: 'ab'",
    ),
    **{
        f"a short digest in {key}": (
            f'{HEAD}[secure_boot]\nmode = "enforce"\nstate = "on"\n{key} = ["ab"]\n',
            f"secure_boot.{key}: 'ab'",
        )
        for key in ("PK", "KEK", "db", "dbx", "authorities", "others")
    },
    "a short hash of an IMA policy": (HEAD + KERNEL + '[ima]\nsha256 = "ab"\n', "ima.sha256"),
}


@pytest.mark.parametrize(("body", "told"), WRONG.values(), ids=WRONG)
def test_what_is_no_policy_is_refused_with_what_is_wrong(body: str, told: str) -> None:
    with pytest.raises(ConfigError, match="bad_policy") as caught:
        parse_boot_policy(body.encode())
    assert told in caught.value.detail


def test_the_largest_policy_is_read_as_its_kind() -> None:
    body = POLICY.encode().ljust(256 * 1024, b"#")

    assert isinstance(parse_any_policy(body), BootPolicy)


def test_an_endless_policy_is_not_read() -> None:
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_boot_policy(POLICY.encode() + b"#" * (256 * 1024))


@given(st.binary(max_size=300))
def test_garbage_is_no_policy(body: bytes) -> None:
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_boot_policy(body)
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_any_policy(body)


@given(st.integers(0, len(POLICY)), st.integers(0, len(POLICY)))
def test_a_damaged_policy_is_refused_or_is_one(begin: int, end: int) -> None:
    damaged = POLICY[: min(begin, end)] + POLICY[max(begin, end) :]
    try:
        found = parse_any_policy(damaged.encode())
    except ConfigError:
        return
    assert found.selection.indexes
