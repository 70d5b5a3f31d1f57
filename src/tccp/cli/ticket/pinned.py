"""The coordinator that a tenant's command means: one that she has pinned."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli.arguments import Parser
from tccp.cli.trust.common import add_store, store_of

if TYPE_CHECKING:
    from tccp.tenant.trust_store import PinnedCoordinator


def add_coordinator(parser: Parser) -> None:
    """The options that say which."""
    parser.add_argument(
        "--coordinator", metavar="NAME", help="the pinned coordinator, see `tccp trust` (default: the only one)"
    )
    add_store(parser)


def pinned_coordinator(args: argparse.Namespace) -> "PinnedCoordinator":
    """What is pinned of it.

    Raises:
        ConfigError: Nothing is pinned under that name, or several are and none was named.
    """
    return store_of(args).load(args.coordinator)
