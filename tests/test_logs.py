import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tccp.errors import ConfigError
from tccp.logs import LEFT_OUT, Format, Level, _Cleaner, configure, escape
from tccp.model import NodeName, SecretBytes


def log_in_a_process(script: str, **environment: str) -> str:
    """What *script* writes to stderr, with a configured `log`."""
    prelude = "import structlog\nfrom tccp.logs import configure\nlog = structlog.get_logger()\n"
    child = subprocess.run(
        [sys.executable, "-c", prelude + script],
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
        check=True,
    )
    return child.stderr.decode()


def drawn(capfd: pytest.CaptureFixture[str], log_format: Format, **fields: object) -> str:
    """One event as it is written to stderr in *log_format*."""
    configure(log_format=log_format)
    structlog.get_logger().info("node refused", **fields)
    return capfd.readouterr().err


@pytest.fixture(autouse=True)
def unconfigure() -> None:
    structlog.reset_defaults()


HOSTILE = {
    "a forged line": "innocent\n2026-01-01T00:00:00Z [info] node admitted",
    "a terminal title": "\x1b]0;owned\x07",
    "a C1 control sequence": "\x9b31m",
    "text drawn backwards": "\u202egpj.exe",
    "a line separator": "one\u2028two",
    "a lone surrogate": "\udcff",
    "a carriage return": "refused\rgranted",
    "nothing visible": "a\u200bb\ufeff",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_foreign_text_stays_text_on_its_line(capfd: pytest.CaptureFixture[str], log_format: Format, text: str) -> None:
    line = drawn(capfd, log_format, name=text, nested={"list": [text]}, **{text: 1})

    assert line.endswith("\n")
    assert line[:-1].isprintable()


@pytest.mark.parametrize("text", [HOSTILE["a forged line"], HOSTILE["a terminal title"]])
def test_without_the_cleaning_foreign_text_forges_a_line(capfd: pytest.CaptureFixture[str], text: str) -> None:
    """The control: the same renderers, with only the cleaning left out."""
    configure(log_format="console")
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[step for step in processors if not isinstance(step, _Cleaner)])
    structlog.get_logger().info(text)

    assert text in capfd.readouterr().err


def refuse(name: str) -> None:
    raise ValueError(name)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exceptions_message_cannot_forge_a_line(capfd: pytest.CaptureFixture[str], log_format: Format) -> None:
    configure(log_format=log_format)
    try:
        refuse("bad name\n2026-01-01T00:00:00Z [info] node admitted \x1b[2J")
    except ValueError:
        structlog.get_logger().exception("task ended")

    lines = capfd.readouterr().err.splitlines()
    assert "\x1b" not in "".join(lines)
    assert "test_logs.py" in "".join(lines), "the traceback is there"
    assert all(line.startswith("    | ") for line in lines[1:])
    assert len(lines) == 1 or log_format == "console"


def test_a_json_line_has_time_level_event_and_fields(capfd: pytest.CaptureFixture[str]) -> None:
    event = json.loads(
        drawn(capfd, "json", node=NodeName("node-1"), pcrs=[0, 7], ok=False, folder=Path("/x"), none=None)
    )

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {"event": "node refused", "level": "info", "node": "node-1", "pcrs": [0, 7], "ok": False,
                     "folder": "/x", "none": None}  # fmt: skip


def test_bound_context_is_part_of_the_line(capfd: pytest.CaptureFixture[str]) -> None:
    with structlog.contextvars.bound_contextvars(session="s-1"):
        assert json.loads(drawn(capfd, "json"))["session"] == "s-1"


def test_raw_bytes_are_counted_and_never_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    key = bytes(range(65, 97))
    line = drawn(capfd, "json", value=key, more={"inside": [bytearray(key), memoryview(key)]})

    assert line.count("(32 bytes)") == 3
    assert "ABC" not in line


SECRETS = {"key_material": "x", "vm_key": "x", "password": "x", "tls_key": "x", "PRIVATE_KEY": "x", "user_token": "x",
           "harmless": SecretBytes(b"x")}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_left_out(capfd: pytest.CaptureFixture[str], name: str) -> None:
    configure(log_format="json", strict=False)
    structlog.get_logger().info("key made", **{name: SECRETS[name]}, nested=[{name: SECRETS[name]}])

    event = json.loads(capfd.readouterr().err)
    assert event[name] == LEFT_OUT
    assert event["nested"] == [{name: LEFT_OUT}]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_log_is_a_bug_in_strict_mode(name: str) -> None:
    configure(log_format="json", strict=True)

    with pytest.raises(AssertionError, match="a secret was given to the log"):
        structlog.get_logger().info("key made", **{name: SECRETS[name]})


@pytest.mark.parametrize("name", ["public_key", "ak_public_key", "key_id", "keyboard", "tls_key_sha256"])
def test_what_only_sounds_secret_is_logged(capfd: pytest.CaptureFixture[str], name: str) -> None:
    configure(log_format="json", strict=True)
    structlog.get_logger().info("key made", **{name: "abc"})

    assert json.loads(capfd.readouterr().err)[name] == "abc"


def test_pythons_development_mode_is_strict() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        log_in_a_process("configure()\nlog.info('x', vm_key='k')", PYTHONDEVMODE="1")

    assert LEFT_OUT in log_in_a_process("configure()\nlog.info('x', vm_key='k')")


def test_long_text_and_long_lists_are_cut(capfd: pytest.CaptureFixture[str]) -> None:
    deep: list[object] = []
    deep.append(deep)
    line = drawn(capfd, "json", text="x" * 1_000_000, items=list(range(1_000_000)), deep=deep)

    assert len(line) < 10_000
    assert "(997952 characters more)" in line


def test_less_severe_events_are_not_written_and_the_level_can_be_changed(capfd: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    configure(log_format="console", level="warning")
    log.info("not written")
    configure(log_format="console", level="debug")
    log.debug("written")

    assert "not written" not in (text := capfd.readouterr().err)
    assert "written" in text


def test_a_file_is_written_as_text_without_colours() -> None:
    assert re.fullmatch(
        r"\S+ \[info +\] hello +node=n1\n", log_in_a_process("configure()\nlog.info('hello', node='n1')")
    )


def test_the_journal_gets_json_with_the_priority_before_it(tmp_path: Path) -> None:
    script = (
        "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'\n"
        "configure()\nlog.info('hello'); log.error('oh')"
    )
    lines = log_in_a_process(script).splitlines()

    assert [line[:3] for line in lines] == ["<6>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in lines] == ["hello", "oh"]


def test_a_journal_of_somebody_else_is_not_ours() -> None:
    assert "[info" in log_in_a_process("configure()\nlog.info('hello')", JOURNAL_STREAM="8:12345")


def test_a_log_that_cannot_be_written_does_not_stop_the_daemon(tmp_path: Path) -> None:
    script = (
        "import os; keep = os.dup(2); os.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n"
        "configure()\nlog.info('lost'); log.info('lost too')\n"
        "os.dup2(keep, 2); log.info('here again')"
    )

    lines = log_in_a_process(script).splitlines()

    assert lines[0] == "(2 log lines could not be written)"
    assert "here again" in lines[1]


def test_unknown_formats_and_levels_are_the_operators_fault() -> None:
    bad_format: Format = "xml"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="one of auto, json, console"):
        configure(log_format=bad_format)
    bad_level: Level = "loud"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="one of debug, info"):
        configure(level=bad_level)


def test_plain_text_is_left_as_it_is() -> None:
    assert escape("Größe 5 µs - 測試 \\x") == "Größe 5 µs - 測試 \\x"
