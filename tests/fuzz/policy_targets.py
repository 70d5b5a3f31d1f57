"""Fuzz targets for what operators bring for policies: policies, lists of files, packages, images."""

import io
import struct

from nacl.signing import SigningKey

from tccp.attestation.boot_policy import parse_any_policy
from tccp.attestation.debian_package import package_digests
from tccp.attestation.ima_import import import_digest_list, import_keylime
from tccp.attestation.ima_rules import compile_rules
from tccp.attestation.pe_image import _layout, as_qemu_loads, authenticode_hash, sections
from tccp.attestation.rpm_package import rpm_digests
from tccp.attestation.signed_policy import DOMAIN, sign_policy, verify_policy
from tccp.errors import ConfigError, EvidenceError, PolicyError
from tests.attestation.test_debian_package import deb
from tests.attestation.test_rpm_package import rpm
from tests.support.boots import POLICY

KEY = SigningKey(bytes(32))


def feed_boot_policy(data: bytes) -> bool:
    """A policy that is accepted says what to quote."""
    try:
        policy = parse_any_policy(data)
    except ConfigError:
        return False
    assert policy.selection.indexes
    return True


def boot_policies() -> list[bytes]:
    digest = "ab" * 32
    small = f'kind="measured-boot"\nname="x"\nversion=1\n[kernel]\nmode="warn"\ndigests=["{digest}"]\n'
    said = f'[attributes]\na="b"\n[[hosts]]\neks=["{digest} x"]\nattributes={{c="d"}}\n'
    return [POLICY.encode(), small.encode(), (small + said).encode()]


def feed_signed_policy(data: bytes) -> bool:
    """What is accepted was signed, byte for byte."""
    try:
        body = verify_policy(data, [KEY.verify_key])
    except PolicyError:
        return False
    assert sign_policy(body, KEY) == data
    assert DOMAIN not in data or body in data
    return True


def signed_policies() -> list[bytes]:
    return [sign_policy(b"", KEY), sign_policy(b'name = "x"\n', KEY)]


def feed_digest_list(data: bytes) -> bool:
    """What is imported can be compiled, or is refused."""
    try:
        compile_rules(import_digest_list(data).rules)
    except ConfigError:
        return False
    return True


def digest_lists() -> list[bytes]:
    digest = b"ab" * 32
    return [digest + b"  /usr/bin/x\n\\" + digest + b" */a\\nb\n# no\n  /folder\n" + b"cd" * 20 + b"  /weak\n"]


def feed_keylime_policy(data: bytes) -> bool:
    """Likewise."""
    try:
        compile_rules(import_keylime(data).rules)
    except ConfigError:
        return False
    return True


def keylime_policies() -> list[bytes]:
    digest = "ab" * 32
    return [
        f'{{"digests": {{"/x": ["{digest}"]}}, "excludes": ["^/tmp/.*", "/a\\\\.b$"],'
        f'"keyrings": {{".ima": ["{digest}"]}},'
        f'"ima": {{"ignored_keyrings": ["*"]}}, "ima-buf": {{"dm": ["{digest}"]}}, "verification-keys": ""}}'.encode()
    ]


def feed_image(data: bytes) -> bool:
    """An image whose sections lie in it, and whose checksum is not measured unless a section holds it; or none."""
    try:
        layout = _layout(data)
        measured, found = authenticode_hash(data), list(sections(data))
    except EvidenceError:
        return False
    assert all(section.content in data for section in found)
    at = layout.checksum_at
    other = data[:at] + b"\x5a" * 4 + data[at + 4 :]
    if all(start >= layout.headers_end for _, _, start, _ in layout.sections) and _has_layout(other, layout):
        assert authenticode_hash(other) == measured
    return True


def _has_layout(image: bytes, layout: object) -> bool:
    try:
        return _layout(image) == layout
    except EvidenceError:
        return False


def feed_kernel(data: bytes) -> bool:
    """A kernel as QEMU loads it with an initrd, as long as it was; or none."""
    try:
        loaded = as_qemu_loads(data, initrd_bytes=5_000, memory_mib=256)
    except (ConfigError, EvidenceError):
        return False
    assert len(loaded) == len(data)
    assert int.from_bytes(loaded[0x218:0x21C], "little") + 5_000 <= 256 << 20
    return True


def kernels() -> list[bytes]:
    """The header of one that may have its initrd anywhere, and of one that may not."""
    head = bytes(0x202) + b"HdrS" + struct.pack("<H", 0x20F) + bytes(0x22C - 0x208) + struct.pack("<I", 0x7FFFFFFF)
    return [(head + bytes(6) + flags).ljust(0x264, b"\0") for flags in (b"\2\0", b"\0\0")]


def images() -> list[bytes]:
    """The smallest image with one section."""
    optional = struct.pack("<H58xI", 0x20B, 512) + bytes(48) + struct.pack("<I", 16) + bytes(16 * 8)
    section = struct.pack("<8sIIII16x", b".linux", 16, 0, 16, 512)
    header = struct.pack("<4sHH12xHH", b"PE\0\0", 0x8664, 1, len(optional), 0)
    start = (b"MZ" + bytes(58) + struct.pack("<I", 64) + header + optional + section).ljust(512, b"\0")
    return [start + b"the kernel here!", start + b"the kernel here!" + b"more"]


def feed_package(data: bytes) -> bool:
    """A package whose digests have 32 bytes, or none."""
    try:
        found = list(package_digests(io.BytesIO(data), "x.deb"))
    except ConfigError:
        return False
    assert all(path.startswith(b"/") and len(digest) == 32 for path, digest in found)
    return bool(found)


def feed_rpm(data: bytes) -> bool:
    """A package whose digests have 32 bytes, or none."""
    try:
        found = list(rpm_digests(io.BytesIO(data), "x.rpm"))
    except ConfigError:
        return False
    assert all(len(digest) == 32 for _, digest in found)
    return bool(found)


def rpms() -> list[bytes]:
    return [rpm(), rpm(others={b"/usr/lib": 0o040755})]


def packages() -> list[bytes]:
    return [deb({"./usr/bin/x": b"x"}), deb({"./bin/y": b"y"}, compression="xz")]
