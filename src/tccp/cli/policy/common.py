"""What the commands about policies share: reading policies, logs and PCR values."""

from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli.files import EVENT_LOG_BYTES_MAX, read_file
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.attestation.boot_policy import BootPolicy
    from tccp.attestation.event_log import ExplainedEventLog
    from tccp.attestation.policy import PcrPolicy
    from tccp.model import PcrBank

SIGNED_POLICY_BYTES_MAX = (256 << 10) + 512


def read_policy(path: Path) -> "PcrPolicy | BootPolicy":
    """The policy in a file, of either kind; of a signed one, the policy inside, whoever signed it.

    Raises:
        ConfigError: It is none.
    """
    from tccp.attestation.boot_policy import parse_any_policy

    return parse_any_policy(policy_body(read_file(path, bytes_max=SIGNED_POLICY_BYTES_MAX)))


def policy_file(path: Path) -> bytes:
    """What stands in a file with a policy, signed or not, for a coordinator to look at.

    Raises:
        ConfigError: ``bad_policy``: nothing does.
    """
    content = read_file(path, bytes_max=SIGNED_POLICY_BYTES_MAX)
    if not content:
        raise ConfigError("bad_policy", f"{path}: it is empty")
    return content


def policy_body(content: bytes) -> bytes:
    """The policy in *content* without the head of a signature; nothing is verified."""
    from tccp.attestation.signed_policy import HEADER

    head = HEADER.match(content)
    return content if head is None else content[head.end() :]


def read_boot_policy(path: Path) -> "BootPolicy":
    """A measured-boot policy.

    Raises:
        ConfigError: It is none, or one of PCR values.
    """
    from tccp.attestation.boot_policy import BootPolicy

    policy = read_policy(path)
    if not isinstance(policy, BootPolicy):
        raise ConfigError(
            "bad_policy", f"{path}: a policy of PCR values; only measured-boot policies are judged on logs"
        )
    return policy


def explain_log(log_path: Path, pcrs_path: Path | None, bank: "PcrBank", wanted: set[int]) -> "ExplainedEventLog":
    """The events of a log that lead to the PCR values in a file; without one, to those that the log itself leads to.

    Raises:
        EvidenceError: The log is damaged, or leads elsewhere.
    """
    from tccp.attestation.event_log import explain, replay_event_log
    from tccp.cli.evidence.pcr_file import PCR_FILE_BYTES_MAX, parse_pcr_file
    from tccp.model import PcrSelection, PcrValues

    log = replay_event_log(read_file(log_path, bytes_max=EVENT_LOG_BYTES_MAX), [bank])
    if pcrs_path is None:
        values = {index: log.pcr(bank, index) for index in wanted}
        return explain(log, PcrValues(PcrSelection.of(bank, values), values))
    given: PcrValues = parse_pcr_file(read_file(pcrs_path, bytes_max=PCR_FILE_BYTES_MAX)).whole_bank(bank)
    missing = wanted - set(given.values)
    if missing:
        names = ", ".join(map(str, sorted(missing)))
        raise ConfigError("pcr_missing", f"{pcrs_path} has no {bank.hash_name} value of PCR {names}")
    return explain(log, given, wanted)
