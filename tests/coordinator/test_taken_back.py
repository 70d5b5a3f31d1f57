"""A maker takes the EK certificate of an enrolled host back: what becomes of the host, and when."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tccp.errors import RefusedError
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.transport.connection import RefusalError
from tests.support.live_coordinator import HonestNode, LiveCoordinator
from tests.support.soft_tpm import SoftTpm

DAY = timedelta(days=1)


class Maker:
    """The issuer of swtpm's EK certificates, as an authority that may sign lists of what it takes back."""

    def __init__(self, tpm: SoftTpm) -> None:
        self.issued = x509.load_der_x509_certificate(tpm.authority.certificates[1])
        secret = (tpm.authority.directory / "signkey.pem").read_bytes()
        key = load_pem_private_key(secret[secret.index(b"-----BEGIN") :], None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self.key = key

    @property
    def certificate(self) -> bytes:
        """Of the same name and key, DER."""
        builder = x509.CertificateBuilder(
            self.issued.subject,
            self.issued.subject,
            self.key.public_key(),
            x509.random_serial_number(),
            self.issued.not_valid_before_utc,
            self.issued.not_valid_after_utc,
        )
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        for extension in self.issued.extensions:
            if isinstance(extension.value, x509.BasicConstraints | x509.SubjectKeyIdentifier):
                builder = builder.add_extension(extension.value, extension.critical)
        return builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def take_back(self, certificate: bytes) -> bytes:
        """A list with *certificate* in it, DER."""
        # What an NV index holds may be longer than the certificate in it.
        serial = x509.load_der_x509_certificate(certificate[: 4 + int.from_bytes(certificate[2:4])]).serial_number
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self.issued.subject, now - DAY, now + DAY)
        entry = x509.RevokedCertificateBuilder(serial, now - DAY).build()
        return builder.add_revoked_certificate(entry).sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


async def reload(coordinator: LiveCoordinator) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await trio.testing.wait_all_tasks_blocked(0.05)


@pytest.fixture
async def folder(coordinator: LiveCoordinator, coordinator_tpm: SoftTpm, tmp_path: Path) -> Path:
    """The authorities: a maker that may revoke."""
    folder = tmp_path / "ek-authorities"
    for content in folder.iterdir():
        content.unlink()
    (folder / "maker.der").write_bytes(Maker(coordinator_tpm).certificate)
    await reload(coordinator)
    return folder


async def test_a_host_whose_certificate_was_taken_back_keeps_its_lease_and_gets_no_other(
    coordinator: LiveCoordinator, alpha: HonestNode, folder: Path, host_tpm: SoftTpm
) -> None:
    await alpha.register()
    listed = folder / "maker.crl"
    listed.write_bytes(Maker(host_tpm).take_back(alpha.host.ek.certificate or b""))
    await reload(coordinator)

    await alpha.renew()
    assert set(await coordinator.leases()) == {"alpha"}
    again = HonestNode(coordinator, "alpha", alpha.host)
    with pytest.raises(RefusalError) as refused:
        await again.register()

    assert refused.value.message.reason == "certificate_revoked"
    shown = await coordinator.ask(c.ShowNode(name="alpha"), c.NodeInfo)
    assert shown.last_refusal.startswith("certificate_revoked")
    # The control: without the list the same host is admitted again.
    listed.unlink()
    await reload(coordinator)
    await HonestNode(coordinator, "alpha", alpha.host).register()


async def test_a_host_whose_certificate_was_taken_back_is_not_enrolled(
    coordinator: LiveCoordinator, host: NodeTpm, host_tpm: SoftTpm, folder: Path
) -> None:
    listed = folder / "maker.crl"
    listed.write_bytes(Maker(host_tpm).take_back(host.ek.certificate or b""))
    await reload(coordinator)

    with pytest.raises(RefusedError, match="certificate_revoked"):
        await coordinator.enrol("alpha", host)

    # The control: without the list it is.
    listed.unlink()
    await reload(coordinator)
    await coordinator.enrol("alpha", host)
