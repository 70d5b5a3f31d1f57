"""The certificate of the log's HTTPS port: the operator's own, read again at a reload."""

import datetime as dt
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import ConfigError
from tccp.transport.certificates import Authority, KeyPair, fresh_key, key_pem, pem_of, spki_of_key
from tests.support.live_coordinator import HOST, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

NAME = "log.example.net"
DEADLINE_S = 60.0


class Files:
    """What a certificate authority of the world's gives an operator, and where she keeps it."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "log.pem", folder / "log.key"
        self._pair = Authority.create("of the world", now=dt.datetime.now(tz=dt.UTC))
        self.authority = self._pair.certificate
        self.renew()

    def issue(self) -> KeyPair:
        now, key = dt.datetime.now(tz=dt.UTC), fresh_key()
        issued = Authority(self._pair).issue(
            spki_of_key(key), NAME, not_before=now, not_after=now + dt.timedelta(days=1), server=True, client=False
        )
        return KeyPair(certificate=pem_of(issued), key=key_pem(key))

    def renew(self) -> None:
        pair = self.issue()
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.key)

    @property
    def config(self) -> str:
        return f'certificate = "{self.certificate}"\nkey = "{self.key}"\n'


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def shown(coordinator: LiveCoordinator, authority: bytes) -> str:
    """The certificate that a reader of the log is shown, who trusts *authority* and wants `NAME`; PEM."""

    def connect() -> str:
        context = ssl.create_default_context(cadata=authority.decode())
        plain = socket.create_connection((HOST, coordinator.log_port), DEADLINE_S)
        with context.wrap_socket(plain, server_hostname=NAME) as connection:
            der = connection.getpeercert(binary_form=True)
            assert der is not None
            return ssl.DER_cert_to_PEM_cert(der)

    return await trio.to_thread.run_sync(connect)


async def reload(coordinator: LiveCoordinator) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await trio.testing.wait_all_tasks_blocked(0.05)


async def test_the_operators_certificate_is_shown_and_read_again_at_a_reload(
    coordinator_tpm: SoftTpm, tmp_path: Path, files: Files
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, log_server=files.config) as coordinator:
        assert await shown(coordinator, files.authority) == files.certificate.read_text()
        files.renew()
        assert await shown(coordinator, files.authority) != files.certificate.read_text()

        await reload(coordinator)

        assert await shown(coordinator, files.authority) == files.certificate.read_text()


async def test_files_that_do_not_belong_together_are_refused_and_at_a_reload_change_nothing(
    coordinator_tpm: SoftTpm, tmp_path: Path, files: Files
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm, log_server=files.config) as coordinator:
        before = await shown(coordinator, files.authority)
        files.key.write_bytes(files.issue().key)

        await reload(coordinator)

        assert await shown(coordinator, files.authority) == before
    with pytest.raises(BaseExceptionGroup) as refused:
        async with live_coordinator(tmp_path, coordinator_tpm, log_server=files.config):
            raise AssertionError("it started")
    wrong, others = refused.value.split(ConfigError)
    assert others is None
    assert "log_certificate" in str(wrong.exceptions)


async def test_files_that_are_not_there_are_named(coordinator_tpm: SoftTpm, tmp_path: Path, files: Files) -> None:
    files.key.unlink()

    with pytest.raises(BaseExceptionGroup) as refused:
        async with live_coordinator(tmp_path, coordinator_tpm, log_server=files.config):
            raise AssertionError("it started")

    assert str(files.key) in str(refused.value.exceptions)
