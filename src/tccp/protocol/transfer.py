"""What two nodes say to each other of a VM that moves, beside what carries it: the schema, and how it is framed.

    source          preamble, then { progress }*, sent
    destination     here, once its QEMU has all of it and stands still

Each with its length before it (4 bytes, big-endian). The preamble is that of a suspended state. What is said here tells
people how far it is, and the source when it may wipe; who owns the VM only the coordinator says.
"""

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message

LENGTH_BYTES = 4
WORD_BYTES_MAX = 4 << 10


class TransferProgress(Message, frozen=True, tag="transfer_progress"):
    """Source -> destination, now and then: how far it is. Bytes of memory are the guest's, not those on the wire."""

    disk_bytes: f.Count  # of all its disks, holes counted
    disk_left_bytes: f.Count
    memory_bytes: f.Count
    memory_left_bytes: f.Count
    sent_bytes: f.Count  # on all wires
    bytes_per_s: f.Count  # just now
    rounds: f.Count  # how often its memory was gone through


class TransferSent(Message, frozen=True, tag="transfer_sent"):
    """Source -> destination: all of it is on its way, and the guest stands still here."""

    state_bytes: f.Count  # memory, devices, vTPM: on the wire
    disk_bytes: f.Count  # the same of its disks
    total_ms: f.Count  # since the preamble
    still_ms: f.Count  # since the guest stands still, as of this word


class TransferHere(Message, frozen=True, tag="transfer_here"):
    """Destination -> source: all of it is here."""


SourceWord = TransferProgress | TransferSent
DestinationWord = TransferHere
