"""docs/PROTOCOL.md says what the code does: names, fields, order, numbers, reasons."""

import importlib
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from tccp.attestation.boot_policy import SECTION_PCRS
from tccp.core._lib import lib, status_name
from tccp.protocol import binding, control, destruction, launch_proof, moving, statements, ticket
from tccp.protocol.control_roles import ROLE_NEEDED, CoordinatorRequest
from tccp.protocol.launch_proof import LaunchProof, LaunchReceipt
from tccp.protocol.messages import AnyMessage, CoordinatorEvidence
from tccp.protocol.session import TRANSITIONS, State
from tccp.protocol.tenant_messages import AnyTenantMessage
from tccp.protocol.tenant_session import TENANT_TRANSITIONS, TenantState
from tccp.protocol.ticket import SignedTicket, Ticket
from tccp.transport.trust import KEYS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "PROTOCOL.md").read_text()
SOURCE = ROOT / "src" / "tccp"

WIRE = [
    *get_args(AnyMessage),
    *get_args(AnyTenantMessage),
    CoordinatorEvidence,
    *get_args(CoordinatorRequest),
    control.Failure,
]
# Where a refusal of a node can begin.
REFUSING = [
    "attestation/boot_judge.py",
    "attestation/enrolment.py",
    "attestation/event_log.py",
    "attestation/ima.py",
    "attestation/ima_parts.py",
    "attestation/policy.py",
    "attestation/quote.py",
    "coordinator/admission.py",
    "coordinator/ima_policies.py",
    "coordinator/policies.py",
    "coordinator/registration.py",
    "store/transactions.py",
    "store/renewal.py",
]


def tag(message: type) -> str:
    return str(msgspec.inspect.type_info(message).tag)  # type: ignore[union-attr]


def fields(message: type) -> list[str]:
    return [field.name for field in msgspec.structs.fields(message)]


def section(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads."""
    lines = re.findall(r"^\|(.*)\|$", section(title), re.MULTILINE)
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    heads = {number - 1 for number, line in enumerate(lines) if set(line) <= set("-|")}
    return [row for number, row in enumerate(cells) if number not in heads and number - 1 not in heads]


@pytest.mark.parametrize("message", WIRE, ids=tag)
def test_every_message_is_there_with_its_fields_in_order(message: type) -> None:
    assert "[" + ", ".join([f'"{tag(message)}"', *fields(message)]) + "]" in DOCUMENT


@pytest.mark.parametrize(
    ("statement", "domain"),
    [
        (statements.IdentityStatement, statements.NODE_DOMAIN),
        (statements.CoordinatorStatement, statements.COORDINATOR_DOMAIN),
    ],
)
def test_every_statement_is_there_with_its_fields_in_order(statement: type, domain: str) -> None:
    assert "[" + ", ".join([f'"{domain}"', *fields(statement)[1:]]) + "]" in DOCUMENT


def test_every_domain_is_there() -> None:
    domains = [
        binding.REGISTRATION,
        binding.RENEWAL,
        binding.COORDINATOR_LEAF,
        binding.TENANT_LEAF,
        binding.COORDINATOR_START,
        binding.COORDINATOR,
    ]

    assert not [domain for domain in domains if f'SHA-256("{domain[:-1].decode()}" 00 ||' not in DOCUMENT]
    assert all(domain[-1:] == b"\0" for domain in domains)


def test_the_table_of_the_order_is_the_one_that_both_sides_run() -> None:
    documented = {tuple(cell.strip("`") for cell in row) for row in rows("Order") if len(row) == 4}
    beside = {
        (sender, said)
        for sender, *cells in rows("Order")
        if len(cells) == 1
        for said in re.findall(r"`(\w+)`", cells[0])
    }
    admitted = ("admitted", "renewal_challenged", "renewal_answered", "renewal_log_asked")

    assert {row[0] for row in documented} == {state.value for state in State} - {State.CLOSED.value}
    assert documented | {(state, sender, said, state) for state in admitted for sender, said in beside} == {
        (before.value, sender.value, tag(message), after.value)
        for (sender, before, message), after in TRANSITIONS.items()
    }


def test_the_table_of_the_order_with_tenants_is_the_one_that_both_sides_run() -> None:
    documented = {tuple(cell.strip("`") for cell in row) for row in rows("Tenants")}

    assert documented == {
        (before.value, sender.value, tag(message), after.value)
        for (sender, before, message), after in TENANT_TRANSITIONS.items()
    }
    assert {row[0] for row in documented} == {state.value for state in TenantState} - {TenantState.CLOSED.value}


def test_every_reason_for_which_a_tenant_is_refused_is_there() -> None:
    source = (SOURCE / "coordinator" / "tenants.py").read_text()
    given = set(re.findall(r'(?:reason=|reason = )"([a-z_]+)"|"([a-z_]+)" if', source))

    assert {word for pair in given for word in pair if word} <= set(re.findall(r"`([a-z0-9_]+)`", section("Tenants")))


@pytest.mark.parametrize("row", rows("Limits and times"), ids=lambda row: row[2].strip("`"))
def test_a_limit_is_what_the_code_says(row: list[str]) -> None:
    module, _, name = row[2].strip("`").partition(":")

    assert getattr(importlib.import_module(module), name) == float(row[1])


def reasons_in_code() -> set[str]:
    raised = r'(?:Enrolment|Quote|EventLog|Ima|Policy|Conflict)Error\(\s*"([a-z0-9_]+)"'
    found = {reason for path in REFUSING for reason in re.findall(raised, (SOURCE / path).read_text())}
    statuses = [getattr(lib, name) for name in dir(lib) if name.startswith("TCCP_ERR_")]
    # What comes behind these is about images.
    evidence = range(lib.TCCP_ERR_MALFORMED, lib.TCCP_ERR_REVOKED + 1)
    found |= {f"{section}_not_in_policy" for section in SECTION_PCRS}
    return found | {status_name(status) for status in statuses if status in evidence}


def test_every_reason_that_the_code_gives_is_explained() -> None:
    explained = set(re.findall(r"`([a-z0-9_]+)`", section("Reasons of a refusal") + section("Control sockets")))

    assert reasons_in_code() <= explained


def test_every_reason_that_is_explained_is_given_by_the_code() -> None:
    listed = {reason for row in rows("Reasons of a refusal") for reason in re.findall(r"`([a-z0-9_]+)`", row[0])}

    assert len(listed) > 30
    assert not listed - reasons_in_code()


# Where a refusal of keys can begin, and which of the reasons there are about something else.
KEY_REFUSING = {
    "protocol/ticket.py": set(),
    "image/entrusting.py": set(),
    "coordinator/launch.py": {"too_many_requests"},
    "coordinator/renewals.py": {"policy_changed"},
    "store/launching.py": {"tenant_exists"},
    "store/resuming.py": set(),
    "store/moving.py": {"move_unknown", "move_over"},
}


def test_every_reason_why_keys_are_refused_is_explained_and_given_by_the_code() -> None:
    raised = re.compile(r'(?:Launch|Policy|Conflict)Error\(\s*"([a-z0-9_]+)"')
    given = {
        reason
        for path, others in KEY_REFUSING.items()
        for reason in set(raised.findall((SOURCE / path).read_text())) - others
    }
    of_the_lease = {"lease_unknown", "lease_ended", "policy_changed"}  # raised by functions of store/transactions.py
    listed = {
        reason for row in rows("Reasons why keys are refused") for reason in re.findall(r"`([a-z0-9_]+)`", row[0])
    }

    assert listed == given | of_the_lease


@pytest.mark.parametrize(
    ("message", "domain"),
    [
        (Ticket, ticket.DOMAIN),
        (LaunchProof, launch_proof.DOMAIN),
        (destruction.Destruction, destruction.DESTRUCTION_DOMAIN),
        (moving.Wiped, moving.WIPED_DOMAIN),
    ],
    ids=["ticket", "proof", "destruction", "wiped"],
)
def test_tickets_and_proofs_are_there_with_their_fields_in_order(message: type, domain: str) -> None:
    assert "[" + ", ".join([f'"{domain}"', *fields(message)[1:]]) + "]" in DOCUMENT


@pytest.mark.parametrize("message", [SignedTicket, LaunchReceipt, destruction.DestructionReceipt], ids=tag)
def test_the_files_of_a_launch_are_there_with_their_fields_in_order(message: type) -> None:
    assert "[" + ", ".join([f'"{tag(message)}"', *fields(message)]) + "]" in DOCUMENT


def test_what_keys_are_bound_to_is_there() -> None:
    for info in (ticket.KEYS_INFO, ticket.RELEASE_INFO, launch_proof.PROOF_KEY_INFO):
        assert f'"{info[:-1].decode()}" 00 ||' in DOCUMENT
        assert info.endswith(b"\0")
    assert f'`{ticket.PREFIX[:2].hex(" ")} "{ticket.DOMAIN}" {ticket.PREFIX[-2:].hex(" ")}`' in DOCUMENT


def test_every_role_is_right() -> None:
    roles = {re.findall(r'"([a-z_]+)"', row[0])[0]: row[1] for row in rows("Control sockets")}

    assert roles == {tag(request): role.name.lower() for request, role in ROLE_NEEDED.items()}


def test_the_keys_of_the_trust_file_are_there() -> None:
    listed = {key.strip("`[]") for row in rows("What each side knows beforehand") for key in row[0].split(", ")}

    assert listed == KEYS
