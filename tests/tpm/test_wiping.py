"""A secret that was sealed and unsealed leaves no copy of itself in our memory, once who asked for it has wiped it."""

import subprocess
import sys

from tests.support.soft_tpm import SoftTpm

# A process of its own: whatever the tests hold in memory is not there.
PROGRAM = """
import os, re, sys
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tccp.core.memory import wipe
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import open_tpm
from tccp.tpm.policy import Approval, Approved, object_policy, to_be_signed

MASK = bytes(range(32))

def copies(masked):
    "How often the secret is in memory; it is put together byte by byte in a place that is skipped."
    first, rest = masked[0] ^ MASK[0], masked[1:]
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            if "rw" not in line.split()[1] or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            memory.seek(begin)
            try:
                data = memory.read(end - begin)
            except OSError:
                continue
            at = data.find(first)
            while at >= 0:
                window = data[at + 1 : at + 32]
                if len(window) == 31 and all(a ^ b == c for a, b, c in zip(window, MASK[1:], rest)):
                    found += 1
                at = data.find(first, at + 1)
            del data
    return found

async def main(tcti):
    key, reference = ec.generate_private_key(ec.SECP256R1()), bytes(32)
    secret = os.urandom(32)
    masked = bytes(a ^ b for a, b in zip(secret, MASK))
    async with open_tpm(tcti) as tpm:
        blob = await tpm.seal(secret, object_policy(key.public_key(), reference))
        wipe(secret)
        sealed = copies(masked)
        approved = Approved(await tpm.read_pcrs(PcrSelection(PcrBank.SHA256, (0, 4))), await tpm.read_generation())
        signature = key.sign(to_be_signed(approved, reference), ec.ECDSA(hashes.SHA256()))
        secret = await tpm.unseal(blob, Approval(approved, key.public_key(), reference, signature))
        held = copies(masked)
        wipe(secret)
        print(sealed, held, copies(masked))

trio.run(main, sys.argv[1])
"""


def test_no_copy_of_a_sealed_secret_stays_in_memory(soft_tpm: SoftTpm) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, soft_tpm.tcti], capture_output=True, text=True, check=True)

    # While it is held it is there once: so it would be found.
    assert ran.stdout.split() == ["0", "1", "0"]
