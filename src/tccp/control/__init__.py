"""The Unix control socket of a daemon: the server in trio, the client without it (a command starts in no time)."""
