"""What coordinator.toml leads to on this machine."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from tccp.cli.config.common import (
    look_at_control,
    look_at_log_of_kernel,
    look_at_note_key,
    look_at_ports,
    look_at_tpm,
)
from tccp.cli.config.finding import Report
from tccp.cli.config.paths import look_at_config_file, look_at_file, look_at_folder, look_at_state
from tccp.config.coordinator import CoordinatorConfig
from tccp.config.places import Place
from tccp.errors import ConfigError

USER, NOTIFIER = "tccp-coordinator", "tccp-notifier"
SECRET_BYTES = range(16, 1025)


def look(report: Report, config: CoordinatorConfig) -> None:
    """Note all that the daemon, the feeder and the notifier would stumble over."""
    look_at_config_file(report, report.path, user=USER)
    look_at_state(report, ("state_directory",), Path(config.state_directory), user=USER)
    listeners = {
        "listen": (config.listen.address, config.listen.port),
        "tenants": (config.tenants.address, config.tenants.port),
        "log_server": (config.log_server.address, config.log_server.port),
    }
    if config.metrics is not None:
        listeners["metrics"] = (config.metrics.address, config.metrics.port)
    look_at_ports(report, listeners)
    look_at_control(report, config.control)
    look_at_tpm(report, config.tpm)
    look_at_log_of_kernel(report, ("tpm", "event_log"), config.tpm.event_log)
    _look_at_authorities(report, config)
    _look_at_policies(report, config)
    _look_at_log_server(report, config)
    _look_at_webhook(report, config)
    if config.releases.evidence_age_s > config.leases.seconds:
        found = "evidence is never older than a lease, so that no release ever asks for fresh one"
        report.warn(("releases", "evidence_age_s"), found, "Write less than leases.seconds.")
    for number, witness in enumerate(config.witness):
        look_at_note_key(report, ("witness", number, "key"), witness.key)
        _look_at_url(report, ("witness", number, "url"), witness.url)
        if witness.key in {each.key for each in config.witness[:number]}:
            report.warn(("witness", number, "key"), "this witness stands here twice", "Remove one of them.")


def _look_at_authorities(report: Report, config: CoordinatorConfig) -> None:
    from tccp.coordinator.authorities import FOLDERS, load_authorities, old_revocations

    enrolment = config.enrolment
    named = [(("enrolment", key), Path(folder)) for key in FOLDERS if (folder := getattr(enrolment, key)) is not None]
    readable = [look_at_folder(report, place, folder, user=USER) for place, folder in named]
    if not all(readable):
        return
    try:
        load_authorities(enrolment)
    except ConfigError as problem:
        report.fail(("enrolment",), problem.detail, "Replace it by what the maker publishes, or take it away.")
        return
    for path in old_revocations(enrolment, datetime.now(UTC)):
        found = f"{path}: its maker has published a newer list since; this one counts on"
        report.warn(("enrolment",), found, "Fetch the newer one.")
    if enrolment.ek_authorities is None:
        found = "no maker of TPMs is trusted: only TPMs whose key an operator names can be enrolled"
        report.warn(("enrolment", "ek_authorities"), found, "Name a folder with the certificates of their makers.")


def _look_at_policies(report: Report, config: CoordinatorConfig) -> None:
    from tccp.coordinator.policies import load_operators

    paths = [Path(each) for each in config.policies.operator_keys]
    readable = [look_at_file(report, ("policies", "operator_keys"), path, user=USER) for path in paths]
    if all(readable):
        try:
            load_operators(config.policies)
        except ConfigError as problem:
            mend = "Name what `tccp key generate --type operator` wrote as the public key."
            report.fail(("policies", "operator_keys"), problem.detail, mend)
    if config.ima.policies is not None:
        look_at_folder(report, ("ima", "policies"), Path(config.ima.policies), user=USER)


def _look_at_log_server(report: Report, config: CoordinatorConfig) -> None:
    server = config.log_server
    if server.certificate is None or server.key is None:
        return
    certificate, key = Path(server.certificate), Path(server.key)
    there = look_at_file(report, ("log_server", "certificate"), certificate, user=USER)
    if not look_at_file(report, ("log_server", "key"), key, user=USER, secret=True) or not there:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as problem:
        found = f"{certificate} and {key}: {getattr(problem, 'reason', None) or problem}"
        report.fail(("log_server", "certificate"), found, "Both are PEM files, and belong together.")
        return
    _look_at_end(report, certificate)


def _look_at_end(report: Report, certificate: Path) -> None:
    from tccp.transport.certificates import certificate_of_pem

    try:
        end = certificate_of_pem(certificate.read_bytes()).not_valid_after_utc
    except ValueError as problem:  # OpenSSL, above, reads some that others do not
        report.fail(("log_server", "certificate"), f"{certificate}: {problem}", "Have it issued anew.")
        return
    if end <= datetime.now(UTC):
        found = f"{certificate} has ended on {end:%Y-%m-%d}"
        report.fail(("log_server", "certificate"), found, "Renew it.")


def _look_at_webhook(report: Report, config: CoordinatorConfig) -> None:
    webhook = config.webhook
    if webhook is None:
        return
    look_at_state(report, ("webhook", "state_directory"), Path(webhook.state_directory), user=NOTIFIER)
    _look_at_url(report, ("webhook", "url"), webhook.url)
    known = _kinds_of_events()
    for kind in webhook.kinds:
        if kind not in known:
            found = f'there are no events of the kind "{kind}"'
            report.fail(("webhook", "kinds"), found, f"There are: {', '.join(sorted(known))}.")
    if webhook.secret is None:
        return
    secret = Path(webhook.secret)
    if look_at_file(report, ("webhook", "secret"), secret, user=NOTIFIER, secret=True):
        size = len(secret.read_bytes().strip())
        if size not in SECRET_BYTES:
            report.fail(("webhook", "secret"), f"{secret}: {size} bytes", "16 to 1024 are wanted: openssl rand -hex 32")


def _look_at_url(report: Report, place: Place, url: str) -> None:
    from tccp.transport.http_client import http_url

    try:
        http_url(url)
    except ConfigError as problem:
        report.fail(place, problem.detail, "Write it as https://HOST[:PORT]/...")


def _kinds_of_events() -> set[str]:
    from tccp.store import EventKind

    return {str(kind.value) for kind in EventKind}
