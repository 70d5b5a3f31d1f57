"""The software TPMs themselves: they start, stop, forget and die as they should."""

import hashlib
import os
import select
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tccp.errors import ConfigError, TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import open_tpm
from tests.support.soft_tpm import EkAuthority, SoftTpm, SoftTpmPool
from tests.support.tpm2_tools import Tpm2Tools
from tests.support.tpm_relay import TpmRelay

PCR_8 = PcrSelection.of(PcrBank.SHA256, [8])
DIGEST = hashlib.sha256(b"a kernel").digest()
EXTENDED = hashlib.sha256(bytes(32) + DIGEST).digest()
REPOSITORY = Path(__file__).parents[2]

START_AND_SLEEP = """
import signal, sys
from pathlib import Path
from tests.support.soft_tpm import EkAuthority, SoftTpm
soft_tpm = SoftTpm(EkAuthority(Path(sys.argv[1])), Path(sys.argv[2]))
soft_tpm.start()
print(soft_tpm.pid, flush=True)
signal.pause()
"""


async def test_a_lent_tpm_is_as_new(soft_tpms: SoftTpmPool) -> None:
    publics = []
    for _ in range(2):
        with soft_tpms.lend() as soft_tpm:
            async with open_tpm(soft_tpm.tcti) as tpm:
                assert (await tpm.read_pcrs(PCR_8)).values[8] == bytes(32)
                publics.append((await tpm.read_ek()).public)
                await tpm.extend_pcr(8, PcrBank.SHA256, DIGEST)

    assert publics[0] == publics[1]


async def test_a_reset_takes_back_the_pcrs_and_keeps_the_keys(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.extend_pcr(8, PcrBank.SHA256, DIGEST)
        public = (await tpm.read_ek()).public

    soft_tpm.reset()

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_pcrs(PCR_8)).values[8] == bytes(32)
        assert (await tpm.read_ek()).public == public


async def test_a_tpm_may_be_reset_under_a_client(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        before = await tpm.read_clock()
        soft_tpm.reset()
    async with open_tpm(soft_tpm.tcti) as tpm:
        after = await tpm.read_clock()

    assert after.reset_count == before.reset_count + 1


async def test_a_stopped_tpm_is_missing(soft_tpm: SoftTpm) -> None:
    soft_tpm.stop()

    with pytest.raises(ConfigError, match="tpm_missing") as caught:
        async with open_tpm(soft_tpm.tcti):
            pass
    assert "Is swtpm running" in caught.value.hint


def test_no_tpm_outlives_who_started_it(ek_authority: EkAuthority, tpm_directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_SLEEP, str(ek_authority.directory), str(tpm_directory / "orphan")],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        orphan = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()

    with os.fdopen(orphan, "rb"):
        poll = select.poll()
        poll.register(orphan, select.POLLIN)
        assert poll.poll(10_000), "swtpm is still there"


async def test_the_authority_certified_the_ek(soft_tpm: SoftTpm, tmp_path: Path) -> None:
    root, issuer = soft_tpm.authority.certificates
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()
    assert ek.certificate
    for name, certificate in (("root", root), ("issuer", issuer), ("ek", ek.certificate)):
        (tmp_path / name).write_text(ssl.DER_cert_to_PEM_cert(certificate))

    verify = ["openssl", "verify", "-ignore_critical", "-CAfile", "root", "-untrusted", "issuer", "ek"]
    await trio.run_process(verify, cwd=tmp_path, capture_stdout=True, capture_stderr=True)


async def test_behind_a_relay_a_pcr_changes_while_a_client_is_connected(soft_tpm: SoftTpm, tmp_path: Path) -> None:
    with TpmRelay(soft_tpm) as relay:
        async with open_tpm(relay.tcti) as tpm:
            ak = await tpm.create_ak()

            relay.extend_pcr(8, "sha256", DIGEST)
            assert (await tpm.read_pcrs(PCR_8)).values[8] == EXTENDED

            tools = Tpm2Tools(soft_tpm, tmp_path, tcti=relay.tcti)
            tools.run("pcrextend", f"8:sha256={DIGEST.hex()}")
            _, pcrs = await tpm.quote_with_pcrs(ak, bytes(32), PCR_8)
            assert pcrs.values[8] == hashlib.sha256(EXTENDED + DIGEST).digest()


async def test_a_relay_finds_a_restarted_tpm_and_lets_older_clients_go(soft_tpm: SoftTpm) -> None:
    with TpmRelay(soft_tpm) as relay:
        async with open_tpm(relay.tcti) as tpm:
            before = await tpm.read_clock()
            soft_tpm.reset()
            relay.extend_pcr(8, "sha256", DIGEST)
            with pytest.raises(TpmError, match="tpm_gone"):
                await tpm.read_clock()
        async with open_tpm(relay.tcti) as tpm:
            after = await tpm.read_clock()

    assert after.reset_count == before.reset_count + 1
