"""TLS contexts: version 1.3 only, both sides show a certificate, private keys never touch a disk."""

import os
import ssl
from collections.abc import Iterable

from tccp.transport.certificates import COORDINATOR_HOST, KeyPair


def coordinator_context(own: KeyPair, client_authorities: Iterable[bytes]) -> ssl.SSLContext:
    """For the coordinator's end: *own* is shown, clients need a certificate from one of *client_authorities* (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # Resumption would cost 0.2 ms of each handshake; the connections of nodes are long.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    for authority in client_authorities:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    _load_from_memory(context, own)
    return context


def node_context(own: KeyPair, coordinator_authority: bytes) -> ssl.SSLContext:
    """For a node's end: the coordinator's certificate must come from *coordinator_authority* (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = True
    context.load_verify_locations(cadata=coordinator_authority.decode("ascii"))
    _load_from_memory(context, own)
    return context


def peer_context(own: KeyPair, authority: bytes, *, is_server: bool) -> ssl.SSLContext:
    """For both ends of a connection between nodes: certificates of leases, from the coordinator's *authority* (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if is_server:
        context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.decode("ascii"))
    _load_from_memory(context, own)
    return context


def public_context(own: KeyPair) -> ssl.SSLContext:
    """For a server whose clients need to be nobody in particular: *own* is shown, nothing is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = 0
    _load_from_memory(context, own)
    return context


def tenant_context(coordinator_authority: bytes | None) -> ssl.SSLContext:
    """For a tenant's end, who shows no certificate.

    Args:
        coordinator_authority: PEM of the authority that is pinned. None: nothing is known yet, and TLS proves nothing;
            the coordinator's evidence names the TLS key that it must have shown.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if coordinator_authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=coordinator_authority.decode("ascii"))
    return context


SERVER_NAME = COORDINATOR_HOST


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    # Leases last minutes; a certificate is judged by its own dates and issuer, strictly.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT


def _load_from_memory(context: ssl.SSLContext, own: KeyPair) -> None:
    """Python's ssl reads keys from paths only: give it one that leads to memory."""
    descriptor = os.memfd_create("tccp-tls-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, own.key + own.certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
