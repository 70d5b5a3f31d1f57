"""Every certificate of tests/vectors/ek loads, or stands here with the reason why it does not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tccp.attestation.enrolment import EkAuthorities, verify_ek_certificate
from tccp.errors import EnrolmentError

VECTORS = Path(__file__).parent.parent / "vectors" / "ek"
ROOTS = VECTORS / "go-tpm-tools-roots"
CLOUD = VECTORS / "go-tpm-tools-certs"
NOW = datetime(2026, 6, 1, tzinfo=UTC)

ATTRIBUTE_CERTIFICATE = "malformed"  # X.509 attribute certificates (RFC 5755) certify a platform, and hold no key
LEAF = "key_attributes"  # certificates of keys that certify nothing
NOT_AUTHORITIES = {
    "go-attestation-platform-certs/IntelSigningKey_20April2017.cer": LEAF,
    **{
        f"go-attestation-platform-certs/{name}.cer": ATTRIBUTE_CERTIFICATE
        for name in (
            *("Intel_nuc1", "Intel_nuc_pc", "Intel_nuc_pc2", "Intel_pc1", "Intel_pc2", "Intel_pc3", "Intel_pc4"),
            *("Intel_pc5", "lenovo", "plat_cert1", "plat_cert2", "plat_cert3"),
        )
    },
    **{
        f"go-tpm-tools-certs/{owner}_tpm_{kind}_{use}_cert.pem": LEAF
        for owner in ("uca", "pca")
        for kind in ("rsa", "ecc")
        for use in ("enc", "sign")
    },
}
FILES = {
    str(path.relative_to(VECTORS)): path
    for path in sorted(VECTORS.rglob("*"))
    if path.suffix in {".pem", ".cer", ".crt"}
}


@pytest.mark.parametrize("name", sorted(FILES.keys() - NOT_AUTHORITIES.keys()))
def test_every_authority_of_a_tpm_maker_loads(name: str) -> None:
    file = FILES[name].read_bytes()

    assert len(EkAuthorities([file])) == max(1, file.count(b"-----BEGIN CERTIFICATE-----"))


@pytest.mark.parametrize("name", sorted(NOT_AUTHORITIES))
def test_what_is_no_authority_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(EnrolmentError) as refused:
        EkAuthorities([FILES[name].read_bytes()])

    assert refused.value.reason == NOT_AUTHORITIES[name]


def test_all_authorities_together_are_one_set() -> None:
    files = [path.read_bytes() for name, path in FILES.items() if name not in NOT_AUTHORITIES]

    together = EkAuthorities(files)

    assert 169 <= len(together) <= sum(len(EkAuthorities([file])) for file in files)


def cloud_reason(name: str, root: str, *chain: str) -> str:
    authorities = EkAuthorities([(ROOTS / root).read_bytes()])
    given = [(ROOTS / file).read_bytes() for file in chain]
    try:
        verify_ek_certificate((CLOUD / f"{name}_cert.pem").read_bytes(), given, authorities=authorities, now=NOW)
    except EnrolmentError as refused:
        return refused.reason
    return "verified"


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
@pytest.mark.parametrize(
    ("owner", "root", "intermediate"),
    [
        ("uca", "tpm_ek_root_1.cer", "tpm_ek_intermediate_3.crt"),
        ("pca", "gcp_ek_ak_ca_root.crt", "gcp_ek_ak_ca_intermediate_v3.crt"),
    ],
)
def test_a_clouds_endorsement_keys_verify_and_its_attestation_keys_do_not(
    kind: str, owner: str, root: str, intermediate: str
) -> None:
    other = {"uca": "gcp_ek_ak_ca_root.crt", "pca": "tpm_ek_root_1.cer"}[owner]

    assert cloud_reason(f"{owner}_tpm_{kind}_enc", root, intermediate) == "verified"
    assert cloud_reason(f"{owner}_tpm_{kind}_enc", intermediate) == "verified"
    assert cloud_reason(f"{owner}_tpm_{kind}_sign", root, intermediate) == "key_attributes"
    assert cloud_reason(f"{owner}_tpm_{kind}_enc", root) == "untrusted"
    assert cloud_reason(f"{owner}_tpm_{kind}_enc", root, "tpm_ek_intermediate_2.crt") == "untrusted"
    assert cloud_reason(f"{owner}_tpm_{kind}_enc", other, intermediate) == "untrusted"


def test_a_clouds_endorsement_key_names_its_tpm() -> None:
    ek = verify_ek_certificate(
        (CLOUD / "uca_tpm_rsa_enc_cert.pem").read_bytes(),
        [(ROOTS / "tpm_ek_intermediate_3.crt").read_bytes()],
        authorities=EkAuthorities([(ROOTS / "tpm_ek_root_1.cer").read_bytes()]),
        now=NOW,
    )

    assert (ek.manufacturer, ek.model, ek.version) == ("id:474F4F47", "vTPM", "id:20160511")
    assert ek.serial == "012FA814E382DEE7FA92DF8488F0EAC0965F11"
    assert ek.not_after == datetime(2052, 9, 29, 20, 33, 50, tzinfo=UTC)
