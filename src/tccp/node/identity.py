"""The keys of one boot of a node. They live in this process's memory only: a restart forgets them, and the node
must register again before anything is entrusted to it.
"""

import datetime as dt
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from nacl.signing import SigningKey

from tccp import __version__
from tccp.image.keys import RecipientSecretKey
from tccp.protocol.statements import NODE_DOMAIN, IdentityStatement, encode_statement
from tccp.transport.certificates import Authority, KeyPair, fresh_key, key_pem, node_host, pem_of, spki_of_key

DOOR_CERTIFICATE_DAYS = 30


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The keys, and the statement of their public halves that every quote of this boot covers."""

    name: str
    boot_id: bytes
    tls_key: ec.EllipticCurvePrivateKey = field(repr=False)
    release_key: RecipientSecretKey = field(repr=False)  # to which the keys of VMs are released
    signing_key: SigningKey = field(repr=False)
    tls_spki: bytes
    statement: bytes

    def door_certificate(self, door: Authority, *, now: dt.datetime) -> KeyPair:
        """The TLS key with the certificate that opens the coordinator's door, before there is a lease."""
        not_after = now + dt.timedelta(days=DOOR_CERTIFICATE_DAYS)
        host = node_host(self.name)
        certificate = door.issue(self.tls_spki, host, not_before=now, not_after=not_after, server=False, client=True)
        return KeyPair(certificate=pem_of(certificate), key=key_pem(self.tls_key))


def make_node_identity(name: str) -> NodeIdentity:
    """Fresh keys for this boot."""
    tls_key, signing_key = fresh_key(), SigningKey.generate()
    release_key = RecipientSecretKey.of(mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate())
    boot_id, tls_spki = os.urandom(16), spki_of_key(tls_key)
    statement = encode_statement(
        IdentityStatement(
            domain=NODE_DOMAIN,
            node=name,
            boot_id=boot_id,
            tls_spki=tls_spki,
            hpke_key=release_key.public.raw,
            signing_key=bytes(signing_key.verify_key),
            software=__version__,
        )
    )
    return NodeIdentity(
        name=name,
        boot_id=boot_id,
        tls_key=tls_key,
        release_key=release_key,
        signing_key=signing_key,
        tls_spki=tls_spki,
        statement=statement,
    )
