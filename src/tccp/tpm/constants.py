"""The TPM's numbers, under the names that they have in the TPM 2.0 Library, Part 2."""

import enum

RESPONSE_HEADER_BYTES = 10
# What the Linux driver and swtpm exchange at most in one direction.
MESSAGE_BYTES_MAX = 4096


class CommandCode(enum.IntEnum):
    """TPM_CC: the commands that we send (Part 2, 6.5.2)."""

    EVICT_CONTROL = 0x120
    NV_UNDEFINE_SPACE = 0x122
    NV_DEFINE_SPACE = 0x12A
    PCR_ALLOCATE = 0x12B
    CREATE_PRIMARY = 0x131
    NV_INCREMENT = 0x134
    NV_WRITE = 0x137
    SHUTDOWN = 0x145
    ACTIVATE_CREDENTIAL = 0x147
    POLICY_NV = 0x149
    NV_READ = 0x14E
    POLICY_SECRET = 0x151
    CREATE = 0x153
    LOAD = 0x157
    QUOTE = 0x158
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    LOAD_EXTERNAL = 0x167
    NV_READ_PUBLIC = 0x169
    POLICY_AUTHORIZE = 0x16A
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    VERIFY_SIGNATURE = 0x177
    GET_CAPABILITY = 0x17A
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    READ_CLOCK = 0x181
    PCR_EXTEND = 0x182

    @property
    def response_handles(self) -> int:
        """How many handles its response carries before the parameters."""
        return 1 if self in _ANSWERED_WITH_A_HANDLE else 0


_ANSWERED_WITH_A_HANDLE = frozenset(
    {CommandCode.CREATE_PRIMARY, CommandCode.START_AUTH_SESSION, CommandCode.LOAD, CommandCode.LOAD_EXTERNAL}
)


class Tag(enum.IntEnum):
    """TPM_ST: the first two bytes of a command, a response or an attestation (Part 2, 6.9)."""

    TPM_1_2_RESPONSE = 0x00C4
    NO_SESSIONS = 0x8001
    SESSIONS = 0x8002
    ATTEST_QUOTE = 0x8018
    VERIFIED = 0x8022


class Algorithm(enum.IntEnum):
    """TPM_ALG_ID (TCG Algorithm Registry, table 3)."""

    RSA = 0x0001
    AES = 0x0006
    KEYEDHASH = 0x0008
    SHA256 = 0x000B
    SHA384 = 0x000C
    NULL = 0x0010
    RSASSA = 0x0014
    ECDSA = 0x0018
    ECC = 0x0023
    CFB = 0x0043


class Curve(enum.IntEnum):
    """TPM_ECC_CURVE (TCG Algorithm Registry, table 4)."""

    NIST_P256 = 0x0003
    NIST_P384 = 0x0004


class Handle(enum.IntEnum):
    """TPM_RH: the permanent handles (Part 2, 7.4)."""

    OWNER = 0x40000001
    NULL = 0x40000007
    PASSWORD_SESSION = 0x40000009
    ENDORSEMENT = 0x4000000B
    PLATFORM = 0x4000000C


class HandleRange(enum.IntEnum):
    """The first handle of each kind (Part 2, 7.2)."""

    NV_INDEX = 0x01000000
    LOADED_SESSION = 0x02000000
    TRANSIENT = 0x80000000
    PERSISTENT = 0x81000000


class Capability(enum.IntEnum):
    """TPM_CAP: what GetCapability is asked for (Part 2, 6.12)."""

    HANDLES = 1
    PCRS = 5
    TPM_PROPERTIES = 6


class Property(enum.IntEnum):
    """TPM_PT of the fixed group (Part 2, 6.13)."""

    FIXED = 0x100
    MANUFACTURER = 0x105
    VENDOR_STRING_1 = 0x106
    FIRMWARE_VERSION_1 = 0x10B
    FIRMWARE_VERSION_2 = 0x10C


class ObjectAttribute(enum.IntFlag):
    """TPMA_OBJECT (Part 2, 8.3)."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


class NvAttribute(enum.IntFlag):
    """TPMA_NV (Part 2, 13.4)."""

    PLATFORM_WRITE = 1 << 0
    OWNER_WRITE = 1 << 1
    COUNTER = 1 << 4
    PLATFORM_READ = 1 << 16
    OWNER_READ = 1 << 17
    AUTH_READ = 1 << 18
    NO_DICTIONARY_ATTACKS = 1 << 25
    WRITTEN = 1 << 29
    PLATFORM_CREATE = 1 << 30


TPM_GENERATED = 0xFF544347
SESSION_TYPE_HMAC = 0
SESSION_TYPE_POLICY = 1


class SessionAttribute(enum.IntFlag):
    """TPMA_SESSION (Part 2, 8.4); decrypt and encrypt are the TPM's acts: on the command, on the response."""

    CONTINUE = 1 << 0
    DECRYPT = 1 << 5
    ENCRYPT = 1 << 6


# Which comparison PolicyNV makes: what the index holds is not greater than the operand (TPM_EO, Part 2, 6.8).
EO_UNSIGNED_LE = 9

# Where the EK certificate chain lies (EK Credential Profile 2.5, 2.2.1).
EK_CHAIN_NV = range(0x01C00100, 0x01C00200)
# Where a maker or an operator keeps EKs (Registry of Reserved TPM 2.0 Handles and Localities, 2.3.1).
EK_PERSISTENT = range(0x81010000, 0x81010100)
