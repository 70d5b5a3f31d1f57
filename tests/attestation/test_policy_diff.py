"""A new version of a policy says what it allows more, and what less."""

import pytest
from nacl.signing import SigningKey

from tccp.attestation.boot_policy import parse_any_policy
from tccp.attestation.policy_diff import diff_policies
from tccp.attestation.signed_policy import is_signed, sign_policy, verify_policy
from tccp.errors import PolicyError
from tests.support.boots import KERNEL, POLICY

PCRS = f'name = "x"\nversion = 1\n[pcrs]\n0 = "{"ab" * 32}"\n7 = ["{"ab" * 32}", "{"cd" * 32}"]\n'


def changes(old: str, new: str) -> list[tuple[str, str, bool]]:
    """Where, what, and whether it allows more."""
    found = diff_policies(parse_any_policy(old.encode()), parse_any_policy(new.encode()))
    return [(change.item.where, change.item.value, change.allows_more) for change in found]


def test_a_policy_does_not_differ_from_itself_or_by_words() -> None:
    assert changes(POLICY, POLICY.replace("version = 2", "version = 3").replace(" 6.1", " renamed")) == []


@pytest.mark.parametrize(
    ("before", "after", "where", "more"),
    [
        (
            f'digests = ["{KERNEL.digest.hex()} 6.1"]',
            f'digests = ["{"ef" * 32}", "{KERNEL.digest.hex()}"]',
            "kernel",
            True,
        ),
        ('[kernel]\nmode = "enforce"', '[kernel]\nmode = "warn"', "kernel", True),
        ('required = ["lockdown=integrity"]', "required = []", "command_line.required", True),
        (
            'forbidden = ["init=*", "debug"]',
            'forbidden = ["init=*", "debug", "single"]',
            "command_line.forbidden",
            False,
        ),
        ('state = "on"', 'state = "any"', "secure_boot.state", True),
        ("[initrd]\nmode", f'[ima]\nsha256 = "{"ab" * 32}"\n[initrd]\nmode', "ima.sha256", False),
        ('commands = ["set timeout=0", ', "commands = [", "command_line.commands", False),
        ('lines = ["/vmlinuz ro *"]', 'lines = ["/vmlinuz ro *", "*"]', "command_line.lines", True),
    ],
)
def test_each_change_says_which_way_it_goes(before: str, after: str, where: str, more: bool) -> None:
    assert before in POLICY
    there = changes(POLICY, POLICY.replace(before, after))
    back = changes(POLICY.replace(before, after), POLICY)

    assert [(place.split(".")[0], is_more) for place, _, is_more in there] == [(where.split(".", maxsplit=1)[0], more)]
    assert [is_more for *_, is_more in back] == [not more]


def test_a_section_that_is_gone_allows_more() -> None:
    gone = POLICY.replace('[drivers]\nmode = "enforce"\n', "")

    assert changes(POLICY, gone) == [("drivers", "is enforced", True), ("drivers", "is judged", True)]


SECTIONS = {
    "firmware": f'[firmware]\nmode = "warn"\nbuilds = [{{ events = ["EV_IPL {"ab" * 32}"] }}]\n',
    "drivers": '[drivers]\nmode = "warn"\n',
    "secure_boot": f'[secure_boot]\nmode = "warn"\nstate = "any"\nPK = ["{"ab" * 32}"]\n',
    "boot_loader": f'[boot_loader]\nmode = "warn"\ndigests = ["{"ab" * 32}"]\n',
    "initrd": f'[initrd]\nmode = "warn"\ndigests = ["{"ab" * 32}"]\n',
    "command_line": '[command_line]\nmode = "warn"\nrequired = ["quiet"]\n',
}
ALONE = f'kind = "measured-boot"\nname = "x"\nversion = 1\n[kernel]\nmode = "enforce"\ndigests = ["{"ab" * 32}"]\n'


@pytest.mark.parametrize(("name", "section"), SECTIONS.items(), ids=SECTIONS)
def test_a_section_more_allows_less_but_for_what_it_lists(name: str, section: str) -> None:
    there = changes(ALONE, ALONE + section)

    assert (name, "is judged", False) in there
    assert {where.split(".")[0] for where, *_ in there} == {name}
    listed = {where for where, _, more in there if more}
    assert listed <= {f"{name}.digests", f"{name}.builds", f"{name}.PK"}
    assert [(where, value, not more) for where, value, more in there] == changes(ALONE + section, ALONE)


def test_authorities_that_are_not_listed_any_more_are_any() -> None:
    gone = "\n".join(line for line in POLICY.splitlines() if not line.startswith("authorities"))

    assert ("secure_boot.authorities", "is judged", True) in changes(POLICY, gone)


def test_a_policy_of_the_other_kind_is_another_altogether() -> None:
    assert {where for where, *_ in changes(ALONE, PCRS)} == {"kernel", "kernel.digests", "pcrs.0", "pcrs.7"}


def test_policies_of_pcr_values_are_compared_too() -> None:
    assert changes(PCRS, PCRS.replace(f', "{"cd" * 32}"', "")) == [("pcrs.7", "cd" * 32, False)]


# ---- signatures --------------------------------------------------------------------------------------------------


KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes([1] * 32))


def test_a_signed_policy_is_the_policy_that_was_signed() -> None:
    assert verify_policy(sign_policy(POLICY.encode(), KEY), [OTHER.verify_key, KEY.verify_key]) == POLICY.encode()


def test_no_bit_of_a_signed_policy_can_be_changed() -> None:
    signed = sign_policy(PCRS.encode(), KEY)
    for position in range(len(signed)):
        altered = bytearray(signed)
        altered[position] ^= 1
        with pytest.raises(PolicyError, match=r"malformed|unknown_key|bad_signature"):
            verify_policy(bytes(altered), [KEY.verify_key])


def test_a_signed_policy_is_told_from_a_bare_one() -> None:
    assert is_signed(sign_policy(POLICY.encode(), KEY))
    assert not is_signed(POLICY.encode())


def test_a_policy_by_somebody_else_or_by_nobody_is_refused() -> None:
    with pytest.raises(PolicyError, match="unknown_key"):
        verify_policy(sign_policy(PCRS.encode(), OTHER), [KEY.verify_key])
    with pytest.raises(PolicyError, match="malformed"):
        verify_policy(PCRS.encode(), [KEY.verify_key])
    with pytest.raises(PolicyError, match="too_large"):
        verify_policy(sign_policy(bytes(1 << 19), KEY), [KEY.verify_key])


def test_a_signature_for_another_purpose_signs_no_policy() -> None:
    signed = sign_policy(b"", KEY)
    bare = KEY.sign(PCRS.encode()).signature.hex().encode()
    swapped = signed[:80] + b"signature " + bare + b"\n\n" + PCRS.encode()

    with pytest.raises(PolicyError, match=r"malformed|bad_signature"):
        verify_policy(swapped, [KEY.verify_key])
