"""No step of any exchange about a VM is forgotten: not by the faults, and not by the document."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

from tccp.protocol.messages import NodeReport, NodeRequest
from tccp.store import KeyClaim, MoveArrival, MoveWord, Store, VmDestruction, VmEnd, VmMarks, VmSuspension
from tests.faults.breaking import FAULTS
from tests.faults.document import column_of, table
from tests.faults.exchanges import HOW
from tests.faults.steps import (
    EXCHANGES,
    OF_THE_MODEL,
    STEPS,
    STORED_BY,
    messages_about_vms,
    moments_of,
)

MODEL = Path(__file__).parents[2] / "formal" / "Ownership.tla"
# What a node says that changes the record, as the store takes it.
SAID = (KeyClaim, VmEnd, VmMarks, VmSuspension, VmDestruction, MoveArrival, MoveWord)
# Actions of the model that are no step: what befalls machines, and what a guest does. They are the faults.
NO_STEP = {
    *("Tick", "Stop", "Renew", "Freeze", "Thaw", "Crash", "RebootIntoEvil", "Revoke", "Compute"),
    "GoOnAtSource",  # whatever of a move breaks before the source has wiped
    "GoOnAtDestination",  # an attack
    "GiveUp",  # a source that is killed, or revoked
    "Discard",  # whatever of a move breaks, at the destination
}


def test_every_message_about_a_vm_is_in_an_exchange_and_each_exchange_is_tried() -> None:
    assert {message for said in EXCHANGES.values() for message in said} == messages_about_vms()
    assert set(HOW) == set(EXCHANGES)


def test_every_message_is_broken_before_it_is_said_and_before_it_is_heard() -> None:
    moments = {step.moment for step in STEPS}

    assert all(moment in moments for message in messages_about_vms() for moment in moments_of(message))


def test_every_transaction_of_the_record_that_a_node_brings_about_is_broken_before_and_after() -> None:
    transactions = {
        name
        for name, method in vars(Store).items() | {*vars(Store.__base__).items()}
        if not name.startswith("_") and callable(method) and set(get_type_hints(method).values()) & set(SAID)
    }

    assert set(STORED_BY.values()) == transactions
    assert set(STORED_BY) == set(get_args(NodeRequest | NodeReport))


def test_every_action_of_the_model_is_a_step_or_a_fault() -> None:
    following = MODEL.read_text().partition("\nNext ==")[2].partition("\n\n")[0]
    actions = set(re.findall(r"\b([A-Z][A-Za-z]+)\b", following)) - {"Nodes"}

    assert set(OF_THE_MODEL) | NO_STEP == actions
    assert set(OF_THE_MODEL.values()) <= {str(step) for step in STEPS}


def test_the_document_says_of_every_step_what_becomes_of_the_vm() -> None:
    said = table()

    assert list(said) == [str(step) for step in STEPS]
    assert {column for row in said.values() for column in row} == {column_of(fault) for fault in FAULTS}
