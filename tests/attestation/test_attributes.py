"""What is said of nodes, by evidence or by people, and which of it counts."""

import json

import pytest

from tccp.attestation.attributes import (
    HOSTS_MAX,
    NAMES_MAX,
    TEXT_BYTES_MAX,
    NodeAttributes,
    attributes_in,
    attributes_of_tpm,
    attributes_text,
    check_attributes,
)
from tccp.attestation.boot_policy import AnyPolicy, parse_any_policy
from tccp.attestation.ek_id import ek_id_of, ek_spki_of
from tccp.attestation.enrolment import EkAuthorities, bind_ek, pinned_ek, verify_ek_certificate
from tccp.attestation.policy_diff import diff_policies
from tccp.attestation.quote import verify_quote
from tccp.errors import ConfigError
from tests.attestation.test_quote import AK, FORGER, NONCE, PCRS, good_attest
from tests.support import certificates as make
from tests.support.measured_host import boot_policy
from tests.support.public_areas import ek_area

EK, OTHER_EK = b"\x0a" * 32, b"\x0b" * 32
PCR = f'name = "tvmm"\nversion = 1\n{{}}\n[pcrs]\n0 = "{"00" * 32}"\n{{}}'
SAID = f"""
[attributes]
hardware = "epyc-9004"
[[hosts]]
eks = ["{EK.hex()} rack1-07"]
attributes = {{ location = "delft" }}
"""


def policy(said: str, *, kind: str = "pcr") -> AnyPolicy:
    body = PCR.format("", said) if kind == "pcr" else boot_policy().decode() + said
    return parse_any_policy(body.encode())


# ---- which of it counts ----

NODE = NodeAttributes(attested={"location": "delft"}, asserted={"location": "paris", "gpu": "yes"})


def test_what_was_asserted_does_not_count_where_evidence_says_something() -> None:
    assert NODE.get("location") == "delft"
    assert not NODE.lacking({"location": "delft", "gpu": "yes"})
    assert NODE.lacking({"location": "paris"}) == "location is delft, not paris"


def test_what_must_be_attested_is_not_there_by_being_asserted() -> None:
    assert not NODE.lacking_evidence({"location": "delft"})
    assert NODE.lacking_evidence({"gpu": "yes"}) == "gpu is None by evidence, asserted is yes, not yes"
    assert NodeAttributes().lacking_evidence({"gpu": "yes"}) == "gpu is None by evidence, not yes"


def test_a_tpm_says_what_it_is_as_far_as_somebody_certified_it() -> None:
    attest = good_attest().encode()
    quote = verify_quote(attest, FORGER.sign(attest), PCRS, ak=AK, qualifying_data=NONCE)
    key, root = make.new_key(), make.Authority()
    certificate = verify_ek_certificate(root.issue(key), [], authorities=EkAuthorities([root.der]), now=make.NOW)
    area = ek_area(key)
    pinned = pinned_ek(area, pinned_sha256=ek_id_of(area))

    assert attributes_of_tpm(pinned, quote) == {"tpm.firmware": "2020031200120003"}
    found = attributes_of_tpm(bind_ek(area, certificate), quote)
    assert found.pop("tpm.firmware") == "2020031200120003"
    said = {"tpm.manufacturer": certificate.manufacturer, "tpm.model": certificate.model}
    assert found == {name: value for name, value in {**said, "tpm.version": certificate.version}.items() if value}
    assert ek_id_of(ek_spki_of(area)) == pinned.id


# ---- what a policy says ----


@pytest.mark.parametrize("kind", ["pcr", "boot"])
def test_a_policy_of_each_kind_says_something_of_all_hosts_and_of_some(kind: str) -> None:
    said = policy(SAID, kind=kind).attributes

    assert said.of(EK) == {"hardware": "epyc-9004", "location": "delft"}
    assert said.of(OTHER_EK) == {"hardware": "epyc-9004"}


def test_what_is_said_of_one_host_comes_before_what_is_said_of_all() -> None:
    said = policy(SAID + '[[hosts]]\neks = ["' + OTHER_EK.hex() + '"]\nattributes = { hardware = "older" }\n')

    assert said.attributes.of(OTHER_EK) == {"hardware": "older"}


def test_a_key_may_be_written_in_capitals() -> None:
    assert policy(SAID.replace(EK.hex(), EK.hex().upper())).attributes.of(EK)["location"] == "delft"


def test_a_policy_without_any_says_nothing() -> None:
    assert policy("").attributes.of(EK) == {}


@pytest.mark.parametrize(
    "said",
    [
        "attributes = 7",
        '[attributes]\nLocation = "delft"',
        '[attributes]\nlocation = ""',
        "[attributes]\nlocation = 7",
        '[attributes]\n"tpm.model" = "best"',
        '[attributes]\nlocation = "' + "x" * 257 + '"',
        "[attributes]\n" + "\n".join(f'a{number} = "x"' for number in range(NAMES_MAX + 1)),
        "hosts = 7",
        "[[hosts]]\n",
        '[[hosts]]\neks = ["00"]\nattributes = { a = "b" }',
        "[[hosts]]\neks = [7]\nattributes = {}",
        f'[[hosts]]\neks = "{EK.hex()}"\nattributes = {{}}',
        f'[[hosts]]\neks = ["{EK.hex()}"]\nattributes = {{}}\nmore = 1',
        f'[[hosts]]\neks = ["{EK.hex()}", "{EK.hex()} again"]\nattributes = {{ a = "b" }}',
    ],
)
def test_what_a_policy_cannot_say_is_refused(said: str) -> None:
    before = said if said.split(maxsplit=1)[0] in {"attributes", "hosts"} else ""
    with pytest.raises(ConfigError) as refused:
        parse_any_policy(PCR.format(before, "" if before else said).encode())
    assert refused.value.reason == "bad_policy"


@pytest.mark.parametrize("tables", [1, 5])
def test_all_that_a_policy_says_of_one_host_has_room_in_an_event(tables: int) -> None:
    host = f'[[hosts]]\neks = ["{EK.hex()}"]\n[hosts.attributes]\n'
    said = (host + "".join(f'a{table}-{number} = "{"x" * 200}"\n' for number in range(10)) for table in range(tables))
    if tables == 1:
        policy("".join(said))
        return
    with pytest.raises(ConfigError, match="more than 8192 bytes"):
        policy("".join(said))


def test_a_policy_names_so_many_hosts_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tccp.attestation.attributes.HOSTS_MAX", 2)
    eks = [f'"{number:064x}"' for number in range(3)]
    policy(f"[[hosts]]\neks = [{', '.join(eks[:2])}]\nattributes = {{}}")
    with pytest.raises(ConfigError, match="3 endorsement keys"):
        policy(f"[[hosts]]\neks = [{', '.join(eks)}]\nattributes = {{}}")
    assert HOSTS_MAX == 4_096


def test_a_difference_in_what_is_said_is_a_difference() -> None:
    changes = diff_policies(policy(SAID), policy(SAID.replace("delft", "paris")))

    assert {(change.item.value, change.is_added) for change in changes} == {
        ("location=delft", False),
        ("location=paris", True),
    }


# ---- as events and receipts have it ----


def test_what_is_written_is_read_again_whatever_the_values_are() -> None:
    said = {"b": 'a "quote"\n', "a": "\u00fc"}

    assert attributes_text(said) == '{"a":"\u00fc","b":"a \\"quote\\"\\n"}'
    read = attributes_in({"attested": attributes_text(said), "node": "x"})
    assert (read.attested, read.asserted) == (said, {})
    assert attributes_in({"asserted": attributes_text(said)}) == NodeAttributes({}, said)
    assert attributes_in({"node": "x"}) == NodeAttributes()


@pytest.mark.parametrize("text", ["", "[" * 16_000, "7", "[]", '{"a": 1}', '{"a": "' + "x" * 20_000 + '"}', 7, b"{}"])
def test_what_is_no_attributes_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"attributes|Expecting"):
        attributes_in({"asserted": text})


@pytest.mark.parametrize(
    "said",
    [
        {"": "x"},
        {"A": "x"},
        {"a ": "x"},
        {"a": "x" * 257},
        {f"a{n}": "x" * 250 for n in range(40)},
        {f"a{n}": "\u4e2d" * 250 for n in range(20)},
    ],
)
def test_what_cannot_be_asserted_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="attribute"):
        check_attributes(said)


def test_the_longest_names_and_values_fit() -> None:
    fill = {f"a{number:02}": "x" * 256 for number in range(30)}
    room = TEXT_BYTES_MAX - len(attributes_text(fill | {"b": ""}))
    check_attributes(fill | {"b": "x" * room})
    with pytest.raises(ValueError, match="more than 8192 bytes"):
        check_attributes(fill | {"b": "x" * (room + 1)})
    check_attributes({"a": "x" * 256, "a" * 63: "", "0": "y", "a.b_c-9": "z"})
    with pytest.raises(ValueError, match="name of an attribute"):
        check_attributes({"a" * 64: ""})
    most = "\n".join(f'a{number} = "x"' for number in range(NAMES_MAX))
    assert len(policy(f"[attributes]\n{most}").attributes.of(EK)) == NAMES_MAX


def test_the_text_is_json_for_others_too() -> None:
    assert json.loads(attributes_text({"a": "b"})) == {"a": "b"}
