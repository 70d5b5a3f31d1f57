"""What is pinned survives a crash whole, old or new; what is damaged is not believed."""

import datetime as dt
import os
import ssl
import threading
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from tccp.errors import ConfigError, HostError
from tccp.tenant.trust_store import PinnedCoordinator, TrustStore, parse_pinned, write_pinned
from tccp.transport.certificates import Authority
from tests.fuzz.tenant_targets import pinned as pinned_bytes
from tests.support.strange_certificates import with_a_version_that_does_not_exist


@pytest.fixture
def pinned() -> PinnedCoordinator:
    return parse_pinned(pinned_bytes()[0])


def test_what_is_saved_is_found(tmp_path: Path, pinned: PinnedCoordinator) -> None:
    store = TrustStore(tmp_path / "new" / "trust")
    with store.locked("tc"):
        store.save(pinned)

    assert store.names() == ["tc"]
    assert store.load() == store.load("tc") == pinned
    assert (store.folder / "tc.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_is_cut_off_leaves_the_old_one(
    step: str, tmp_path: Path, pinned: PinnedCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrustStore(tmp_path)
    with store.locked("tc"):
        store.save(pinned)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken, store.locked("tc"):
        broken.setattr(os if step == "fsync" else Path, step, fails)
        with pytest.raises(HostError, match="trust_store"):
            store.save(msgspec.structs.replace(pinned, software="9"))

    assert store.load() == pinned
    assert store.names() == ["tc"]


def test_two_commands_do_not_change_the_store_at_once(tmp_path: Path, pinned: PinnedCoordinator) -> None:
    store, entered = TrustStore(tmp_path), threading.Event()

    def enter() -> None:
        with TrustStore(tmp_path).locked("tc"):
            entered.set()

    with store.locked("tc"):
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.is_set()
        store.save(pinned)
        with store.locked("another"):  # that one is nobody's
            pass
    other.join()
    assert entered.is_set()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "tccp/v2/trust"},
        {"name": "../x"},
        {"address": "nowhere"},
        {"address": "host:99999"},
        {"release_key": "ab"},
        {"ca": ""},
        {"ca": "an authority"},
        {"ca": "ä"},
        {"policy": "nothing"},
        {"seen": "nothing"},
        {"identity": "ab" * 32},  # of another coordinator: the head is of another log
    ],
)
def test_a_file_that_was_altered_is_not_believed(
    change: dict[str, str], tmp_path: Path, pinned: PinnedCoordinator
) -> None:
    (tmp_path / "tc.json").write_bytes(write_pinned(msgspec.structs.replace(pinned, **change)))

    with pytest.raises(ConfigError, match="trust_invalid"):
        TrustStore(tmp_path).load("tc")


def test_an_authority_of_a_version_that_does_not_exist_is_not_believed(pinned: PinnedCoordinator) -> None:
    door = Authority.create("an authority", now=dt.datetime.now(tz=dt.UTC))
    odd = with_a_version_that_does_not_exist(x509.load_pem_x509_certificate(door.certificate), door)
    body = write_pinned(msgspec.structs.replace(pinned, ca=ssl.DER_cert_to_PEM_cert(odd)))

    with pytest.raises(ConfigError, match="trust_invalid: 4 is not a valid X509 version"):
        parse_pinned(body)


def test_a_file_under_another_name_is_not_believed(tmp_path: Path, pinned: PinnedCoordinator) -> None:
    (tmp_path / "other.json").write_bytes(write_pinned(pinned))

    with pytest.raises(ConfigError, match="it is of 'tc'"):
        TrustStore(tmp_path).load("other")


def test_who_is_not_named_is_the_only_one_or_nobody(tmp_path: Path, pinned: PinnedCoordinator) -> None:
    store = TrustStore(tmp_path)
    with pytest.raises(ConfigError, match="not_pinned"):
        store.load()
    with store.locked("tc"):
        store.save(pinned)
        store.save(msgspec.structs.replace(pinned, name="other"))
    with pytest.raises(ConfigError, match="which_one"):
        store.load()
    with pytest.raises(ConfigError, match="bad_name"):
        store.find("../tc")
