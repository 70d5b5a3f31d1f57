"""``tccp watch``: what happens at the coordinator of this machine, as ``tccp coordinator watch`` shows it."""

from tccp.cli.coordinator.watch import add_parser

__all__ = ["add_parser"]
