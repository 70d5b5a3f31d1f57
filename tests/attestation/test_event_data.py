"""What firmware, boot loaders and kernels wrote into real logs, typed; and foreign bytes that are none of it."""

import struct
import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.attestation.device_path import device_path_text
from tccp.attestation.event_data import (
    Action,
    CommandLine,
    CrtmVersion,
    Description,
    EventData,
    EventType,
    FirmwareBlob,
    GrubCommand,
    LoadedFile,
    LoadedImage,
    NoAction,
    Partition,
    PartitionTable,
    ReferenceManifest,
    Separator,
    StartupLocality,
    TaggedEvent,
    Unknown,
    decode_event_data,
    event_type_name,
)
from tccp.attestation.event_log import Event, replay_event_log
from tccp.attestation.firmware_variable import FirmwareVariable, Signature, decode_firmware_variable
from tccp.model import PcrBank
from tccp.printable import escape
from tests.support.event_logs import VECTORS

EFI_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
CERTIFICATE = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")  # EFI_CERT_X509_GUID
IMAGE_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")  # EFI_CERT_SHA256_GUID
GOOGLE = uuid.UUID("d281fad2-8d88-47a4-9792-5baa47bb1b89")


def events(path: str) -> list[Event]:
    return list(replay_event_log((VECTORS / path).read_bytes()).events)


def contents(path: str, kind: type[EventData], pcr: int | None = None) -> list[EventData]:
    return [
        content for event in events(path) if isinstance(content := event.content(), kind) and pcr in {None, event.pcr}
    ]


def variables(path: str) -> dict[str, FirmwareVariable]:
    return {found.name: found for found in contents(path, FirmwareVariable) if isinstance(found, FirmwareVariable)}


# ---- real logs ------------------------------------------------------------------------------------------------------


def test_secure_boot_is_on_or_off() -> None:
    assert variables("keylime/binary_bios_measurements-secureboot")["SecureBoot"].is_on is True
    assert variables("go-attestation/coreos_36_shielded_vm_no_secure_boot_eventlog")["SecureBoot"].is_on is False


def test_signature_databases_hold_certificates_and_hashes_with_their_owners() -> None:
    found = variables("go-tpm-tools/ubuntu-2404-amd-sevsnp.bin")

    keys, forbidden = found["db"].signatures(), found["dbx"].signatures()

    assert keys is not None
    assert forbidden is not None
    assert all(key.kind == CERTIFICATE and key.data[:2] == b"\x30\x82" for key in keys)
    assert {key.owner for key in keys} == {GOOGLE}
    hashes = [entry for entry in forbidden if entry.kind == IMAGE_SHA256]
    assert len(hashes) > 50
    assert all(len(entry.data) == 32 for entry in hashes)
    assert found["SecureBoot"].signatures() is None


def test_what_a_boot_was_authorised_by_is_measured_even_where_an_old_shim_logs_a_byte_too_many() -> None:
    authorities = [
        event
        for event in events("go-attestation/sb_cert_eventlog")
        if event.claimed_type == EventType.EV_EFI_VARIABLE_AUTHORITY
    ]

    found = [event.content() for event in authorities]

    assert [content.name for content in found if isinstance(content, FirmwareVariable)] == ["db", "Shim", "Shim"]
    for event in authorities[1:]:
        assert event.measured(PcrBank.SHA256) == event.claimed_data[:-1]


def test_of_a_boot_variable_only_the_value_was_measured() -> None:
    order, option = (
        next(event for event in events("keylime/binary_bios_measurements") if name in event.claimed_data)
        for name in (b"B\0o\0o\0t\0O\0r\0d\0e\0r\0", b"B\0o\0o\0t\x000\x000\x000\x001\0")
    )

    for event in (order, option):
        content = event.content()
        assert isinstance(content, FirmwareVariable)
        assert content.vendor == EFI_GLOBAL
        assert event.measured(PcrBank.SHA256) == content.value


def test_boot_options_have_a_name_and_a_path() -> None:
    found = variables("keylime/binary_bios_measurements")

    option = found["Boot0001"].load_option()

    assert option is not None
    assert option.is_active
    assert option.description == "Linux-Firmware-Updater"
    assert (
        option.device_path == r"HD(1,GPT,B8F6BEE9-BC10-4C72-B34A-6DB8FD8F772C,0x800,0x80000)/\EFI\fedora\fwupdx64.efi"
    )


@pytest.mark.parametrize(
    ("kind", "subkind", "body", "text"),
    [
        (1, 4, bytes(range(16)), "VenHw(03020100-0504-0706-0809-0A0B0C0D0E0F)"),
        (2, 1, struct.pack("<II", 0x0A0341D0, 1), "PciRoot(0x1)"),
        (2, 1, struct.pack("<II", 0x0A0841D0, 2), "PcieRoot(0x2)"),
        (2, 1, struct.pack("<II", 0x050141D0, 3), "Acpi(PNP0501,0x3)"),
        (2, 1, struct.pack("<II", 0x0A031234, 4), "Acpi(0x0A031234,0x4)"),
        (3, 2, struct.pack("<HH", 1, 2), "Scsi(0x1,0x2)"),
        (3, 5, struct.pack("<BB", 1, 2), "USB(0x1,0x2)"),
        (3, 11, b"\x02\0\0\0\0\x07".ljust(32, b"\0") + b"\1", "MAC(020000000007,0x1)"),
        (3, 12, b"\x0a\0\0\1\x0a\0\0\2".ljust(23, b"\0"), "IPv4(10.0.0.2)"),
        (3, 13, bytes(16) + bytes(15) + b"\1" + bytes(24), "IPv6(::1)"),
        (3, 18, struct.pack("<HHH", 0, 0xFFFF, 0), "Sata(0x0,0xFFFF,0x0)"),
        (3, 24, b"http://x/", "Uri(http://x/)"),
        (4, 1, struct.pack("<IQQ16sBB", 2, 63, 100, b"\x78\x56\x34\x12", 1, 1), "HD(2,MBR,0x12345678,0x3F,0x64)"),
        (4, 2, struct.pack("<IQQ", 1, 16, 32), "CDROM(0x1,0x10,0x20)"),
        (4, 8, struct.pack("<IQQ", 0, 16, 31), "Offset(0x10,0x1F)"),
    ],
)
def test_each_node_of_a_device_path_is_shown_as_its_specification_says(
    kind: int, subkind: int, body: bytes, text: str
) -> None:
    assert device_path_text(struct.pack("<BBH", kind, subkind, 4 + len(body)) + body + b"\x7f\xff\4\0") == text


def test_loaded_images_say_from_where() -> None:
    images = contents("go-tpm-tools/ubuntu-2404-amd-sevsnp.bin", LoadedImage, pcr=4)

    assert [image.device_path for image in images if isinstance(image, LoadedImage)] == [
        "PciRoot(0x0)/Pci(0x4,0x0)/NVMe(0x1,00-00-00-00-00-00-00-00)/"
        r"HD(15,GPT,FC24E8B6-5E8C-4396-AADD-2C6A9A43B92D,0x2800,0x35000)/\EFI\ubuntu\shimx64.efi",
        r"\EFI\ubuntu\grubx64.efi",
    ]


def test_grub_s_commands_and_the_kernel_s_command_line_are_text() -> None:
    commands = [
        command
        for command in contents("go-tpm-tools/ubuntu-2404-amd-sevsnp.bin", GrubCommand, pcr=8)
        if isinstance(command, GrubCommand)
    ]

    lines = [command.text for command in commands if command.keyword == "kernel_cmdline"]
    assert len(lines) == 1
    assert lines[0].startswith("/vmlinuz-6.8.0-1010-gcp root=PARTUUID=")
    assert commands[1].text == "set prefix=(hd0,gpt16)/grub"


@pytest.mark.parametrize("path", ["go-tpm-tools/rhel8-uefi.bin", "ccel/CCEL_AAEL_alibabacloud"])
def test_an_older_grub_s_commands_are_measured_with_their_nul_and_junk_is_not(path: str) -> None:
    bank = PcrBank.SHA384
    commands = [event for event in events(path) if isinstance(event.content(), GrubCommand)]

    assert len(commands) > 30
    for event in commands:
        content, measured = event.content(), event.measured(bank)
        assert isinstance(content, GrubCommand)
        assert measured is not None
        assert measured.rstrip(b"\0").decode() == content.text


def test_systemd_boot_s_command_line_is_utf16_and_measured_whole() -> None:
    lines = [
        event for event in events("tpm2-tools/event-sd-boot-fedora37.bin") if isinstance(event.content(), CommandLine)
    ]

    assert [line.content() for line in lines] == [CommandLine(" console=ttyS0 console=tty0 efi=debug ")] * 2
    assert all(line.measured(PcrBank.SHA256) == line.claimed_data for line in lines)


def test_files_are_named_and_their_contents_are_not_in_the_log() -> None:
    files = [
        event
        for event in events("go-tpm-tools/gdc-host.bin")
        if event.content() == LoadedFile("/initrd.img-6.9.0-rc7+")
    ]

    assert len(files) == 1
    assert files[0].measured(PcrBank.SHA256) is None


def test_tagged_events_carry_their_tag() -> None:
    linux = contents("tpm2-tools/event-sd-boot-fedora37.bin", TaggedEvent)
    agent = contents("ccel/CCEL_AAEL_alibabacloud", TaggedEvent)

    assert linux == [TaggedEvent(0x8F3B22EC, b"Linux initrd\0")]
    texts = [event.text for event in agent if isinstance(event, TaggedEvent)]
    assert texts[0] == "coco.com some-operation some-content"


def test_firmware_blobs_have_an_address_and_a_size() -> None:
    assert contents("tpm2-tools/event.bin", FirmwareBlob) == [FirmwareBlob("", 0x900000, 0xB00000)]
    assert contents("ccel/CCEL_data_ovmf", FirmwareBlob) == [
        FirmwareBlob("Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)", 0xFFC00000, 0x84000)
    ]


def test_partition_tables_name_the_partitions() -> None:
    (table,) = contents("go-tpm-tools/ubuntu-2404-amd-sevsnp.bin", PartitionTable)

    assert isinstance(table, PartitionTable)
    assert len(table.partitions) == 4
    assert uuid.UUID("8270f3c9-b4e4-4345-80ee-5a62db7ebf3f") in {partition.guid for partition in table.partitions}


def test_the_rest_of_what_firmware_says() -> None:
    google = events("go-tpm-tools/eventlogwithsp800155.bin")
    assert [event.content() for event in google if isinstance(event.content(), CrtmVersion)] == [
        CrtmVersion("GCE Virtual Firmware v2")
    ]
    manifests = [event.content() for event in google if isinstance(event.content(), ReferenceManifest)]
    assert [manifest.manufacturer for manifest in manifests if isinstance(manifest, ReferenceManifest)] == [
        11129,
        11129,
    ]
    laptop = {event.content() for event in events("keylime/binary_bios_measurements") if event.pcr in {0, 5}}
    assert {StartupLocality(3), Description("ACPI DATA"), Separator(bytes(4))} <= laptop
    actions = contents("go-tpm-tools/gdc-host.bin", Action, pcr=5)
    assert actions == [Action("Exit Boot Services Invocation"), Action("Exit Boot Services Returned with Success")]


# ---- foreign bytes --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sampled_from([*EventType, 0x12345678]), st.binary(max_size=300))
def test_no_data_makes_a_decoder_raise(kind: int, data: bytes) -> None:
    content = decode_event_data(kind, data)

    if isinstance(content, FirmwareVariable):
        content.signatures()
        content.load_option()


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_device_path_makes_the_text_fail(path: bytes) -> None:
    device_path_text(path)
    for node in range(0x19):
        device_path_text(struct.pack("<BBH", 3, node, len(path) + 4) + path)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EventType.EV_EFI_VARIABLE_BOOT, bytes(16) + struct.pack("<QQ", 2**63, 0)),
        (EventType.EV_EFI_VARIABLE_BOOT, bytes(16) + struct.pack("<QQ", 0, 2**63)),
        (EventType.EV_EFI_VARIABLE_BOOT, bytes(16) + struct.pack("<QQ", 2**64 - 1, 2**64 - 1)),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, struct.pack("<QQQQ", 0, 0, 0, 2**64 - 1)),
        (EventType.EV_EFI_GPT_EVENT, bytes(84) + struct.pack("<IIQ", 128, 0, 2**61) + bytes(256)),
        (EventType.EV_EFI_GPT_EVENT, bytes(84) + struct.pack("<IIQ", 0, 0, 64) + bytes(256)),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\xff" + bytes(16)),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 1, 2**32 - 1)),
        (EventType.EV_CPU_MICROCODE, b"anything"),
    ],
    ids=["name", "value", "name and value", "path", "partitions", "empty partitions", "blob", "tag", "no decoder"],
)
def test_data_whose_sizes_do_not_fit_is_unknown(kind: int, data: bytes) -> None:
    assert decode_event_data(kind, data) == Unknown(data)


@pytest.mark.parametrize(
    "sizes",
    [(2**32 - 1, 0, 48), (28 + 48, 2**32 - 1, 48), (28 + 48, 0, 0), (28 + 48, 0, 15), (28 + 48, 0, 47), (0, 0, 48)],
    ids=["list", "header", "empty entries", "no owner", "half an entry", "an empty list for ever"],
)
def test_signature_lists_whose_sizes_do_not_fit_have_no_entries(sizes: tuple[int, int, int]) -> None:
    value = bytes(16) + struct.pack("<III", *sizes) + bytes(48)

    assert FirmwareVariable(EFI_GLOBAL, "db", value).signatures() is None


def test_each_signature_list_has_its_own_kind_header_and_size_of_entries() -> None:
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    certificates = b"HEAD" + one.bytes_le + b"a certificate"
    hashes = one.bytes_le + b"\xaa" * 32 + two.bytes_le + b"\xbb" * 32
    value = b"".join(
        [
            CERTIFICATE.bytes_le + struct.pack("<III", 28 + len(certificates), 4, 29) + certificates,
            IMAGE_SHA256.bytes_le + struct.pack("<III", 28 + len(hashes), 0, 48) + hashes,
            IMAGE_SHA256.bytes_le + struct.pack("<III", 28 + 7, 7, 16) + b"no more",  # a header, and no entries
        ]
    )

    assert FirmwareVariable(EFI_GLOBAL, "db", value).signatures() == (
        Signature(CERTIFICATE, one, b"a certificate"),
        Signature(IMAGE_SHA256, one, b"\xaa" * 32),
        Signature(IMAGE_SHA256, two, b"\xbb" * 32),
    )
    for end in (len(value) - 1, len(value) - 8, len(value) - 34, 27):
        assert FirmwareVariable(EFI_GLOBAL, "db", value[:end]).signatures() is None


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("db\0", "db"),
        ("db\0\0", "db"),
        ("d\0b", "d\0b"),
        ("größe内核", "größe内核"),
        (b"\x00\xd8", "\ufffd"),
    ],
)
def test_the_name_of_a_variable_ends_with_its_length_and_not_with_the_zero_that_some_firmware_counts(
    written: str | bytes, name: str
) -> None:
    units = written if isinstance(written, bytes) else written.encode("utf-16-le")
    data = EFI_GLOBAL.bytes_le + struct.pack("<QQ", len(units) // 2, 5) + units + b"value" + b"padding"

    assert decode_firmware_variable(data) == FirmwareVariable(EFI_GLOBAL, name, b"value")


def test_there_are_at_most_16384_signatures() -> None:
    def database(count: int) -> FirmwareVariable:
        entries = bytes(16) * count
        return FirmwareVariable(EFI_GLOBAL, "dbx", bytes(16) + struct.pack("<III", 28 + len(entries), 0, 16) + entries)

    most = database(16384).signatures()

    assert most is not None
    assert len(most) == 16384
    assert database(16385).signatures() is None


def test_a_device_path_with_an_end_that_never_comes_is_cut() -> None:
    assert device_path_text(b"\x01\x01\x06\x00\x00\x1f" + b"\x04\x04\xff\xff") == "Pci(0x1F,0x0)/?"
    assert device_path_text(b"\x01\x01\x04\x00") == "Path(1,1,)"
    assert len(device_path_text(b"\x01\x01\x04\x00" * 100_000).split("/")) == 128


def test_foreign_text_cannot_move_the_cursor_or_hide_itself() -> None:
    foreign = "linux \x1b[2Jquiet\r\n\u202efdp.exe\u200b\x9b31m\ud800 \u00a0\u2028 größe 内核"

    shown = escape(foreign)

    assert shown == r"linux \x1b[2Jquiet\r\n\u202efdp.exe\u200b\x9b31m\ud800 \xa0\u2028 größe 内核"
    assert shown.isprintable()


def test_foreign_text_is_decoded_whatever_it_holds() -> None:
    content = decode_event_data(EventType.EV_IPL, b"grub_cmd: \xff\xfe\x1b[0m\0")

    assert content == GrubCommand("grub_cmd", "\ufffd\ufffd\x1b[0m")
    assert decode_event_data(EventType.EV_NO_ACTION, b"\xff" * 20) == NoAction("\ufffd" * 16, b"\xff" * 4)
    assert decode_event_data(EventType.EV_IPL, b"A\0\x00\xd8") == CommandLine("A\ufffd")


def test_long_text_is_cut_at_65536_bytes() -> None:
    content = decode_event_data(EventType.EV_EFI_ACTION, b"a" * 100_000)

    assert content == Action("a" * 65536)


def test_types_have_names_and_unknown_ones_their_number() -> None:
    assert event_type_name(4) == "EV_SEPARATOR"
    assert event_type_name(0x80000401) == "0x80000401"


def test_a_separator_that_is_an_error_says_so() -> None:
    assert Separator(b"\x01\0\0\0").is_error
    assert not Separator(b"\xff" * 4).is_error


def test_a_variable_that_is_too_short_is_no_boot_option() -> None:
    found = variables("keylime/binary_bios_measurements")["Boot0001"]

    assert replace(found, value=found.value[:7]).load_option() is None
    assert replace(found, value=found.value[:8]).load_option() is not None


def test_a_boot_option_whose_path_is_said_to_be_the_longest_is_read_to_its_end() -> None:
    found = variables("keylime/binary_bios_measurements")["Boot0001"]
    longest = replace(found, value=found.value[:4] + b"\xff\xff" + found.value[6:])
    option, same = found.load_option(), longest.load_option()

    assert option is not None
    assert same is not None
    assert option.device_path
    assert same.device_path.startswith(option.device_path)


def test_a_partition_is_read_field_by_field() -> None:
    kind, guid, disk = (uuid.UUID(int=number) for number in (1, 2, 3))
    entry = kind.bytes_le + guid.bytes_le + struct.pack("<QQQ", 1 << 63, (1 << 64) - 1, 7)
    entry += "a name".encode("utf-16-le").ljust(72, b"\0")
    table = bytes(56) + disk.bytes_le + bytes(12) + struct.pack("<I", 130) + bytes(4) + struct.pack("<Q", 2)
    last = "x" * 36
    other = entry[:56] + last.encode("utf-16-le")

    assert decode_event_data(EventType.EV_EFI_GPT_EVENT, table + entry + b"!!" + other + b"??") == PartitionTable(
        disk,
        (
            Partition(kind, guid, 1 << 63, (1 << 64) - 1, "a name"),
            Partition(kind, guid, 1 << 63, (1 << 64) - 1, last),
        ),
    )


def test_an_event_that_extends_nothing_is_what_its_signature_says() -> None:
    def decoded(signature: bytes, rest: bytes) -> object:
        return decode_event_data(EventType.EV_NO_ACTION, signature.ljust(16, b"\0") + rest)

    manifest = uuid.UUID(int=5)
    assert decoded(b"StartupLocality", b"\3") == StartupLocality(3)
    assert decoded(b"StartupLocality", b"\3\0") == NoAction("StartupLocality", b"\3\0")
    assert decoded(b"Something", b"\3") == NoAction("Something", b"\3")
    said = (0xFFFFFFFF).to_bytes(4, "little") + manifest.bytes_le
    for name in (b"SP800-155 Event", b"SP800-155 Event3"):
        assert decoded(name, said) == ReferenceManifest(0xFFFFFFFF, manifest)
        assert decoded(name, said + b"more") == ReferenceManifest(0xFFFFFFFF, manifest)
        assert decoded(name, said[:-1]) == NoAction(name.decode(), said[:-1])
    assert decoded(b"Something", said) == NoAction("Something", said)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"", ""),
        (b"\0\0", ""),
        (b"1\0", "1"),
        ("v2 \u00e9".encode("utf-16-le"), "v2 \u00e9"),
        (b"an ASCII version", "an ASCII version"),
        (b"1.0 (15 bytes) \0", "1.0 (15 bytes) "),
        (uuid.UUID(int=0xFF << 120).bytes_le, str(uuid.UUID(int=0xFF << 120))),
        (b"\xff" * 17, "\ufffd" * 17),
    ],
)
def test_the_version_of_a_firmware_is_written_in_three_ways(data: bytes, version: str) -> None:
    assert decode_event_data(EventType.EV_S_CRTM_VERSION, data) == CrtmVersion(version)


def test_a_blob_has_a_place_of_64_bits_and_perhaps_a_name() -> None:
    place = struct.pack("<QQ", (1 << 64) - 1, 1 << 63)
    for name in (b"", b"X", b"a blob"):
        data = bytes([len(name)]) + name + place
        decoded = decode_event_data(EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, data)
        assert decoded == FirmwareBlob(name.decode(), (1 << 64) - 1, 1 << 63)
    decoded = decode_event_data(EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, place)
    assert decoded == FirmwareBlob("", (1 << 64) - 1, 1 << 63)
    assert decode_event_data(EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"") == Unknown(b"")


def test_an_image_has_a_place_a_size_and_a_path_of_its_length() -> None:
    node = b"\x01\x01\x06\x00\x00\x1f"
    data = struct.pack("<QQQQ", (1 << 64) - 1, 1 << 63, 0, len(node)) + node

    for behind in (b"", b"\x01", node):
        decoded = decode_event_data(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, data + behind)
        assert decoded == LoadedImage((1 << 64) - 1, 1 << 63, "Pci(0x1F,0x0)")
    short = decode_event_data(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, data[:-1])
    assert short == Unknown(data[:-1])


def test_a_tagged_event_is_as_long_as_it_says() -> None:
    for data, content in ((b"\1\0\0\0\2\0\0\0ab", b"ab"), (b"\1\0\0\0\2\0\0\0abc", b"ab")):
        assert decode_event_data(EventType.EV_EVENT_TAG, data) == TaggedEvent(1, content)
    short = b"\1\0\0\0\3\0\0\0ab"
    assert decode_event_data(EventType.EV_EVENT_TAG, short) == Unknown(short)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\x1b[0m", b"a\nb", b"\0a"])
def test_a_description_is_printable_or_none(data: bytes) -> None:
    assert decode_event_data(EventType.EV_POST_CODE, b"X a text X\0\0") == Description("X a text X")
    assert decode_event_data(EventType.EV_NONHOST_INFO, data) == Unknown(data)
    assert decode_event_data(EventType.EV_NONHOST_INFO, b"X a text \0\0") == Description("X a text ")


def test_a_boot_option_may_be_there_and_not_be_tried() -> None:
    found = variables("keylime/binary_bios_measurements")["Boot0001"]

    for attributes, is_active in ((0, False), (1, True), (8, False), (9, True), (0xFFFFFFFE, False)):
        option = replace(found, value=attributes.to_bytes(4, "little") + found.value[4:]).load_option()
        assert option is not None
        assert option.is_active is is_active
