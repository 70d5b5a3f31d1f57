"""What ``tccp`` exits with: the one table, for scripts to rely on."""

from tccp.errors import ConfigError, HostError, PeerError, TccpError

OK = 0
REFUSED = 1
USAGE = 2
HOST = 3
CONFIG = 4
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

MEANINGS = {
    OK: "done, or accepted",
    REFUSED: "refused: the evidence does not hold, or the daemon said no",
    USAGE: "the command line is wrong",
    HOST: "this machine failed: a file, the TPM, the network, a daemon that does not answer",
    CONFIG: "the configuration is wrong: an operator must act",
    BUG: "a bug in tccp",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "whoever read the output went away",
}


class UsageError(TccpError):
    """The command line is wrong; ``detail`` says what of it."""


def exit_code_of(error: TccpError | OSError) -> int:
    """The exit code by whose fault *error* is."""
    match error:
        case UsageError():
            return USAGE
        case PeerError():
            return REFUSED
        case HostError() | OSError():
            return HOST
        case ConfigError():
            return CONFIG
    raise AssertionError(f"an error of no kind: {error!r}")


def epilogue() -> str:
    """The table as it stands in ``tccp --help``."""
    return "exit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
