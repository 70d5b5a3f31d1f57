"""The TPM of one VM: swtpm, its state encrypted under a key that is derived from the VM's.

It is manufactured before its first start by our own TPM client: endorsement and attestation key, and certificates for
both by this node (`tccp.node.vm.certificates`). Then QEMU gets the other end of its control channel, and nobody else.
"""

import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tccp.core.child import ChildSpec
from tccp.core.memory import wipe
from tccp.errors import HostError
from tccp.model import SecretBytes
from tccp.node.vm.certificates import VtpmCertificates, VtpmKeys
from tccp.node.vm.child import Child, start
from tccp.node.vm.host import VmHost
from tccp.node.vm.manufacture import certified, certify_vtpm
from tccp.node.vm.sandbox import FILES_MAX, SWTPM_FILES, SWTPM_MEMORY_MIB, TASKS_MAX
from tccp.node.vm.vtpm_state import NOTHING, VtpmDemand, VtpmState, vtpm_mark

STATE_BYTES_MAX = 4 << 20
STATE_KEY_INFO = b"tccp/v1/vtpm-state"
MIGRATION_KEY_INFO = b"tccp/v1/vtpm-migration"


@dataclass(frozen=True, slots=True)
class Vtpm:
    """A running vTPM that waits for QEMU, and what vouches for its keys. Who passes `control` on closes it.

    Attributes:
        mark: How often it had been started, and whose it is: 40 bytes, as `tccp.protocol.marks` has them.
    """

    child: Child
    control: socket.socket
    certificates: VtpmCertificates
    state: VtpmState
    mark: bytes


def derive(vm_key: SecretBytes, info: bytes) -> bytes:
    """A key of 32 bytes for one use."""
    return HKDF(hashes.SHA256(), 32, None, info).derive(vm_key.value)


@contextlib.asynccontextmanager
async def open_vtpm(
    name: str,
    roots: tuple[tuple[str, bytes], ...],
    vm_key: SecretBytes,
    host: VmHost,
    *,
    user: int | None,
    nursery: trio.Nursery,
    arriving: VtpmKeys | None = None,
    demand: VtpmDemand = NOTHING,
) -> AsyncGenerator[Vtpm]:
    """Start the vTPM of the VM *name*, made on the first start; killed at the end of the block.

    Args:
        arriving: The keys of a vTPM whose state QEMU will bring along. What is in the guest's NV stays as it was;
            the new certificates are for everybody else.
        demand: What its state must be. The state that arrives is not looked at: it comes with a root of its own.

    Raises:
        DiskError: ``wrong_vtpm_state``, ``wrong_vtpm_mark``: it is an older one, or another.
        HostError: ``vtpm_failed``: swtpm does not run, or its state is not of this key.
    """
    state = VtpmState(host.settings.state / name)
    async with _folder(state, demand.state_sha256, user=user, anew=arriving is not None) as folder:
        if arriving is None:
            async with _swtpm("data", folder, vm_key, host, user=user, nursery=nursery) as (maker, data):
                certificates, starts = await certify_vtpm(data, maker, bytes.fromhex(name), roots, host.issuer)
            mark = vtpm_mark(certificates.keys, starts)
            demand.check(mark)
        else:
            certificates = certified(arriving, host.issuer.claim(bytes.fromhex(name), roots), host.issuer)
            mark = demand.mark or vtpm_mark(arriving, 0)
        async with _swtpm("control", folder, vm_key, host, user=user, nursery=nursery) as (child, control):
            yield Vtpm(child, control, certificates, state, mark)


@contextlib.asynccontextmanager
async def _folder(state: VtpmState, demanded: bytes | None, *, user: int | None, anew: bool) -> AsyncGenerator[int]:
    """Where swtpm works. Whatever it has put there: to look through it, and to remove it, holds up nobody."""
    await trio.to_thread.run_sync(lambda: state.prepare(demanded=None if anew else demanded, anew=anew))
    try:
        folder = await trio.to_thread.run_sync(state.lend, user)
        try:
            yield folder
        finally:
            os.close(folder)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(state.leave)


@contextlib.asynccontextmanager
async def _swtpm(
    channel: str, folder: int, vm_key: SecretBytes, host: VmHost, *, user: int | None, nursery: trio.Nursery
) -> AsyncGenerator[tuple[Child, socket.socket]]:
    """swtpm with our end of its data channel, for our own client, or of its control channel, for QEMU."""
    ours, theirs = socket.socketpair()
    with theirs, _pipe(derive(vm_key, STATE_KEY_INFO)) as key, _pipe(derive(vm_key, MIGRATION_KEY_INFO)) as moving:
        # Whatever their mode, nobody but it and us gets at files in this folder.
        arguments = ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=/proc/self/fd/6,mode=0644"]
        arguments += ["--seccomp", "action=kill", "--terminate"]
        arguments += ["--key", "fd=4,format=binary,mode=aes-256-cbc"]
        arguments += ["--migration-key", "fd=5,format=binary,mode=aes-256-cbc"]
        if channel == "data":
            arguments += ["--fd", "3", "--flags", "not-need-init,startup-clear"]
        else:
            arguments += ["--ctrl", "type=unixio,clientfd=3"]
        spec = ChildSpec(
            host.swtpm,
            arguments,
            output=-1,
            descriptors=[theirs.fileno(), key, moving, folder],
            user=user,
            file_bytes_max=STATE_BYTES_MAX,
            files_max=FILES_MAX,
            memory_bytes_max=SWTPM_MEMORY_MIB << 20,
            tasks_max=TASKS_MAX,
            readable=SWTPM_FILES,
            writable=[f"/proc/self/fd/{folder}"],
        )
        try:
            child = await start("vtpm", spec, nursery, host.keeper.guard)
        except HostError:
            ours.close()
            raise
    try:
        yield child, ours
    finally:
        ours.close()
        await child.kill()


@contextmanager
def _pipe(key: bytes) -> Iterator[int]:
    """What is read from it is *key*, which is wiped here."""
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(writer, key)
        finally:
            os.close(writer)
    finally:
        wipe(key)
    try:
        yield reader
    finally:
        os.close(reader)
