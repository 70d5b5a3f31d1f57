"""Whoever names a host may name one that is none: that is an answer, and not the end of a daemon."""

import socket

import pytest
import trio

from tccp.errors import ConfigError, HostError
from tccp.tenant.connection import TenantConnection
from tccp.tenant.log_source import HttpSource
from tccp.transport.bulk_stream import BulkStream
from tccp.transport.calling import call
from tccp.transport.errors import PeerGoneError
from tccp.transport.http_client import http_url
from tccp.transport.tls import tenant_context

NO_HOSTS = ["a..b", "a" * 64, "a b", "", ".a"]


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_a_name_that_can_be_no_host_is_unreachable(host: str) -> None:
    with pytest.raises(HostError, match="unreachable"):
        await call(host, 443, within_s=10)


async def test_control_the_library_says_something_else_of_such_a_name() -> None:
    with pytest.raises(UnicodeError):
        await trio.open_tcp_stream("a..b", 443)


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
async def test_a_number_that_is_no_port_is_unreachable(port: int) -> None:
    """99,999 is another port, by those who take the last sixteen bits."""
    with pytest.raises(HostError, match="no such port"):
        await call("127.0.0.1", port, within_s=10)


async def test_a_port_on_which_nobody_listens_is_unreachable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))

        with pytest.raises(HostError, match="unreachable"):
            await call("127.0.0.1", bound.getsockname()[1], within_s=10)


def test_a_tenant_is_told_so_too() -> None:
    with pytest.raises(HostError, match="unreachable"):
        TenantConnection.open("a..b", 7444)
    source = HttpSource("http://a..b/log/")
    with pytest.raises(HostError, match="unreachable"):
        source.read_checkpoint()


@pytest.mark.parametrize("url", ["https://[", "http://[::1/", "http://a b/", "https://host:port/", "https:///log"])
def test_what_is_no_url_is_found_before_anybody_is_called(url: str) -> None:
    """A coordinator tells its tenants where its log is; nothing it says ends their command without a word."""
    with pytest.raises(ConfigError, match="bad_log"):
        HttpSource(url)


@pytest.mark.parametrize("url", ["https://[", "http://[::1/", "https://host:port/", "https://host:0/", "ftp://host/"])
def test_what_is_no_url_of_a_web_server_is_a_mistake_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="bad_url"):
        http_url(url)


async def test_a_peer_whom_tls_can_call_by_no_name_is_gone() -> None:
    ours, theirs = trio.socket.socketpair()
    with theirs, pytest.raises(PeerGoneError):
        BulkStream(trio.SocketStream(ours), tenant_context(None), server_side=False, server_name="a..b.node")
