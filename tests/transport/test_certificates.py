"""Whose certificate opens which door: both TLS contexts against every certificate that somebody may hold."""

import datetime as dt
import ssl

import pytest
from cryptography import x509

from tccp.transport.certificates import (
    COORDINATOR_HOST,
    Authority,
    KeyPair,
    fresh_key,
    key_pem,
    node_host,
    pem_of,
    spki_of_key,
)
from tccp.transport.tls import SERVER_NAME, coordinator_context, node_context

NOW = dt.datetime.now(tz=dt.UTC)
HOUR = dt.timedelta(hours=1)
CA = Authority.create("tccp coordinator CA", now=NOW)
DOOR = Authority.create("tccp door", now=NOW)
STRANGER = Authority.create("tccp coordinator CA", now=NOW)
LEASE_HOST = node_host("alpha")


def issued(
    by: KeyPair, host: str, *, server: bool = False, client: bool = False, until: dt.datetime = NOW + HOUR
) -> KeyPair:
    key = fresh_key()
    certificate = Authority(by).issue(
        spki_of_key(key), host, not_before=until - HOUR, not_after=until, server=server, client=client
    )
    return KeyPair(certificate=pem_of(certificate), key=key_pem(key))


def lease(*, until: dt.datetime = NOW + HOUR) -> KeyPair:
    key = fresh_key()
    template = Authority(CA).template(spki_of_key(key), LEASE_HOST, server=True, client=True)
    ends_ms = int(until.timestamp() * 1000)
    certificate = template.issue(not_before_ms=ends_ms - 3_600_000, not_after_ms=ends_ms)
    return KeyPair(certificate=pem_of(certificate), key=key_pem(key))


COORDINATOR = issued(CA, COORDINATOR_HOST, server=True)
NODE = issued(DOOR, LEASE_HOST, client=True)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A whole handshake in memory.

    Raises:
        ssl.SSLError: One of the two does not like the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=SERVER_NAME),
    ]
    waiting = ends
    for _ in range(6):
        still = []
        for end in waiting:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                still.append(end)
        waiting = still
    assert not waiting
    assert all(end.version() == "TLSv1.3" for end in ends)


def connect(server: KeyPair, client: KeyPair) -> None:
    shake_hands(coordinator_context(server, [CA.certificate, DOOR.certificate]), node_context(client, CA.certificate))


@pytest.mark.parametrize("client", [NODE, lease()], ids=["door", "lease"])
def test_the_coordinator_and_its_nodes_come_together(client: KeyPair) -> None:
    connect(COORDINATOR, client)


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        pytest.param(lease(), "Hostname mismatch", id="a lease"),
        pytest.param(issued(CA, LEASE_HOST, server=True), "Hostname mismatch", id="another name of the CA"),
        pytest.param(issued(CA, COORDINATOR_HOST, client=True), "unsuitable certificate purpose", id="a client"),
        pytest.param(issued(DOOR, COORDINATOR_HOST, server=True), "self-signed certificate", id="the door"),
        pytest.param(
            issued(STRANGER, COORDINATOR_HOST, server=True), "unable to get local issuer", id="a stranger's CA"
        ),
        pytest.param(issued(CA, COORDINATOR_HOST, server=True, until=NOW - HOUR), "expired", id="an expired one"),
    ],
)
def test_nobody_else_can_play_the_coordinator(server: KeyPair, problem: str) -> None:
    with pytest.raises(ssl.SSLError, match=problem):
        connect(server, NODE)


@pytest.mark.parametrize(
    ("client", "problem"),
    [
        pytest.param(COORDINATOR, "unsuitable certificate purpose", id="the coordinator"),
        pytest.param(issued(STRANGER, LEASE_HOST, client=True), "unable to get local issuer", id="a stranger's"),
        pytest.param(lease(until=NOW - HOUR), "expired", id="a lease that has ended"),
    ],
)
def test_the_coordinator_speaks_to_nobody_else(client: KeyPair, problem: str) -> None:
    with pytest.raises(ssl.SSLError, match=problem):
        connect(COORDINATOR, client)


def test_a_client_without_a_certificate_is_refused() -> None:
    client = ssl.create_default_context(cadata=CA.certificate.decode())

    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(coordinator_context(COORDINATOR, [CA.certificate, DOOR.certificate]), client)


@pytest.mark.parametrize("which", ["server", "client"])
def test_older_tls_is_refused_by_either_side(which: str) -> None:
    server = coordinator_context(COORDINATOR, [CA.certificate, DOOR.certificate])
    client = node_context(NODE, CA.certificate)
    older = server if which == "server" else client
    older.minimum_version = older.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
        shake_hands(server, client)


def test_a_lease_from_a_template_is_the_certificate_that_its_parts_would_make() -> None:
    key = fresh_key()
    begins, ends = NOW.replace(microsecond=0), (NOW + HOUR).replace(microsecond=0)
    built = x509.load_der_x509_certificate(
        Authority(CA).issue(spki_of_key(key), LEASE_HOST, not_before=begins, not_after=ends, server=True, client=True)
    )
    template = Authority(CA).template(spki_of_key(key), LEASE_HOST, server=True, client=True)

    made = [
        x509.load_der_x509_certificate(
            template.issue(
                not_before_ms=int(begins.timestamp() * 1000), not_after_ms=int(ends.timestamp() * 1000) - milliseconds
            )
        )
        for milliseconds in (0, 999)
    ]

    for certificate in made:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(CA.certificate))
        for part in ("version", "issuer", "subject", "not_valid_before_utc", "not_valid_after_utc"):
            assert getattr(certificate, part) == getattr(built, part)
        assert list(certificate.extensions) == list(built.extensions)
        assert certificate.public_key() == built.public_key()
        assert certificate.serial_number.bit_length() == 127
    assert made[0].serial_number != made[1].serial_number
