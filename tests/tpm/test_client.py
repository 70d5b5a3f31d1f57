"""The client against a real software TPM."""

from tccp.tpm import open_tpm
from tests.support.soft_tpm import SoftTpm


async def test_the_ek_comes_with_the_certificate_of_its_maker(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()

    assert ek.certificate is not None


async def test_a_power_cycle_is_counted(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        before = await tpm.read_clock()

    soft_tpm.reset()

    async with open_tpm(soft_tpm.tcti) as tpm:
        after = await tpm.read_clock()
    assert after.reset_count == before.reset_count + 1
    assert after.safe
