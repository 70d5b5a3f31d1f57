"""A new version of a policy says what it allows more, and what less."""

import pytest

from tccp.attestation.boot_policy import parse_any_policy
from tccp.attestation.policy_diff import Item, diff_policies, items
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


A, B, C = "a1" * 32, "b2" * 32, "c3" * 32
WHOLE = f"""
kind = "measured-boot"
name = "x"
version = 1
[attributes]
site = "delft"
[[hosts]]
eks = ["{A}"]
attributes = {{ rack = "7" }}
[firmware]
mode = "enforce"
builds = [{{ events = ["EV_S_CRTM_VERSION {A}", "EV_SEPARATOR {B}"] }}, {{ events = ["EV_IPL {C}"] }}]
[drivers]
mode = "warn"
digests = ["{A} a card"]
[secure_boot]
mode = "enforce"
state = "on"
PK = ["{A}"]
db = ["{B}"]
authorities = ["{C}"]
others = ["{A}"]
[command_line]
mode = "warn"
lines = ["/vmlinuz *", "/other"]
required = ["quiet"]
forbidden = ["debug"]
commands = ["set x"]
[ima]
sha256 = "{B}"
"""


def test_everything_that_a_policy_says_is_something_that_it_allows_or_demands() -> None:
    found = list(items(parse_any_policy(WHOLE.encode())))

    assert len(found) == len(set(found))
    assert {(item.where, item.value) for item in found if item.is_demand} == {
        ("bank", "sha256"),
        ("firmware", "is judged"),
        ("firmware", "is enforced"),
        ("drivers", "is judged"),
        ("secure_boot", "is judged"),
        ("secure_boot", "is enforced"),
        ("secure_boot.state", "on"),
        ("secure_boot.PK", "is judged"),
        ("secure_boot.db", "is judged"),
        ("secure_boot.authorities", "is judged"),
        ("command_line", "is judged"),
        ("command_line.lines", "is judged"),
        ("command_line.required", "quiet"),
        ("command_line.forbidden", "debug"),
        ("ima.sha256", B),
    }
    assert {(item.where, item.value) for item in found if not item.is_demand} == {
        ("attributes", "site=delft"),
        (f"hosts.{A}", "rack=7"),
        ("firmware.builds", f"EV_S_CRTM_VERSION {A}, EV_SEPARATOR {B}"),
        ("firmware.builds", f"EV_IPL {C}"),
        ("drivers.digests", A),
        ("secure_boot.PK", A),
        ("secure_boot.db", B),
        ("secure_boot.authorities", C),
        ("secure_boot.others", A),
        ("command_line.lines", "/vmlinuz *"),
        ("command_line.lines", "/other"),
        ("command_line.commands", "set x"),
    }


def test_of_pcr_values_each_index_is_demanded_and_each_value_allowed() -> None:
    first, second = "ab" * 32, "cd" * 32

    assert sorted(items(parse_any_policy(PCRS.encode()))) == [
        Item("bank", "sha256", is_demand=True),
        Item("pcrs.0", first),
        Item("pcrs.0", "is judged", is_demand=True),
        Item("pcrs.7", first),
        Item("pcrs.7", second),
        Item("pcrs.7", "is judged", is_demand=True),
    ]
