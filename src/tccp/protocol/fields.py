"""Types of message fields, with their sizes: nothing longer is ever taken from a wire."""

from typing import Annotated, Literal

from msgspec import Meta

Digest32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Nonce32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Id16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Ed25519Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Ed25519Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
HpkeKey = Annotated[bytes, Meta(min_length=1216, max_length=1216)]  # X-Wing: ML-KEM-768 (1184) and X25519 (32)
SmallSpki = Annotated[bytes, Meta(min_length=32, max_length=1024)]
Certificate = Annotated[bytes, Meta(min_length=64, max_length=8192)]
CertificateOrNone = Annotated[bytes, Meta(max_length=8192)]
CertificateChain = Annotated[tuple[Certificate, ...], Meta(max_length=6)]
TpmPublic = Annotated[bytes, Meta(min_length=16, max_length=1024)]
TpmBlob = Annotated[bytes, Meta(min_length=1, max_length=1024)]
Attest = Annotated[bytes, Meta(min_length=16, max_length=2304)]  # TPMS_ATTEST: TPM2B_ATTEST's largest
TpmSignature = Annotated[bytes, Meta(min_length=8, max_length=1100)]
PcrIndex = Annotated[int, Meta(ge=0, le=23)]
PcrIndexes = Annotated[tuple[PcrIndex, ...], Meta(min_length=1, max_length=24)]
PcrDigest = Annotated[bytes, Meta(min_length=20, max_length=64)]
PcrDigests = Annotated[tuple[PcrDigest, ...], Meta(min_length=1, max_length=24)]
BankId = Annotated[int, Meta(ge=0, le=0xFFFF)]
FirmwareLog = Annotated[bytes, Meta(max_length=768 * 1024)]
HostLogContent = Annotated[bytes, Meta(max_length=768 * 1024)]
HostLog = Literal["firmware", "ima"]
HostLogOffset = Annotated[int, Meta(ge=0, lt=1 << 40)]
# `$` would let a newline follow.
Reason = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=63)]
Version = Annotated[str, Meta(max_length=64)]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
UnixMilliseconds = Annotated[int, Meta(ge=0, lt=1 << 48)]
MerklePath = Annotated[tuple[Digest32, ...], Meta(max_length=32)]
LogReceipt = Annotated[bytes, Meta(min_length=64, max_length=65_536)]
Statement = Annotated[bytes, Meta(min_length=1, max_length=8192)]
UnixSeconds = Annotated[int, Meta(ge=0, lt=1 << 40)]
Epoch = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # no database counts further
Generation = Count
HostAndPort = Annotated[str, Meta(min_length=3, max_length=255, pattern=r"^[0-9A-Za-z.:\[\]-]+:[0-9]{1,5}\Z")]
TICKET_FILE_BYTES_MAX = 131_072
TicketFile = Annotated[bytes, Meta(min_length=1, max_length=TICKET_FILE_BYTES_MAX)]
TicketBytes = Annotated[bytes, Meta(min_length=64, max_length=65_536)]
# HPKE: what X-Wing encapsulates (1120), two to seventeen keys of 32, and a tag of 16.
WrappedKeys = Annotated[bytes, Meta(min_length=1200, max_length=1680)]
DigestOrNone = Annotated[bytes, Meta(max_length=32)]
Marks = Annotated[bytes, Meta(max_length=360)]  # 40 bytes each; `tccp.protocol.marks`
LogNote = Annotated[bytes, Meta(min_length=1, max_length=16_384)]  # a signed checkpoint
Url = Annotated[str, Meta(max_length=512)]
TileContent = Annotated[bytes, Meta(min_length=32, max_length=8192)]  # hashes only
TileLevel = Annotated[int, Meta(ge=0, le=7)]
TileIndex = Annotated[int, Meta(ge=0, lt=1 << 55)]
TileWidth = Annotated[int, Meta(ge=1, le=256)]
Text = Annotated[str, Meta(max_length=4096)]  # for people
PolicyText = Annotated[bytes, Meta(min_length=1, max_length=256 * 1024 + 512)]  # TOML, with a signature or without
