"""One connection between a tenant and the coordinator: the coordinator proves itself, then answers questions.

The tenant may have her AK proved once, or skip that because she knows it already.
"""

import enum

from tccp.protocol.conversation import Conversation
from tccp.protocol.tenant_messages import (
    Activate,
    Activated,
    AnyTenantMessage,
    GetTile,
    Introduction,
    LogTile,
    TenantHello,
    TenantRefused,
)


class TenantRole(enum.Enum):
    """The two ends."""

    TENANT = "tenant"
    COORDINATOR = "coordinator"

    @property
    def peer(self) -> "TenantRole":
        """The other end."""
        return TenantRole.TENANT if self is TenantRole.COORDINATOR else TenantRole.COORDINATOR


class TenantState(enum.Enum):
    """How far the exchange has come."""

    NEW = "new"
    GREETED = "greeted"
    INTRODUCED = "introduced"
    ACTIVATING = "activating"
    PROVED = "proved"
    ASKED = "asked"
    CLOSED = "closed"


# (sender, state before, message) -> state after
TENANT_TRANSITIONS: dict[tuple[TenantRole, TenantState, type], TenantState] = {
    (TenantRole.TENANT, TenantState.NEW, TenantHello): TenantState.GREETED,
    (TenantRole.COORDINATOR, TenantState.GREETED, Introduction): TenantState.INTRODUCED,
    (TenantRole.COORDINATOR, TenantState.GREETED, TenantRefused): TenantState.CLOSED,
    (TenantRole.TENANT, TenantState.INTRODUCED, Activate): TenantState.ACTIVATING,
    (TenantRole.COORDINATOR, TenantState.ACTIVATING, Activated): TenantState.PROVED,
    (TenantRole.COORDINATOR, TenantState.ACTIVATING, TenantRefused): TenantState.CLOSED,
    (TenantRole.TENANT, TenantState.INTRODUCED, GetTile): TenantState.ASKED,
    (TenantRole.TENANT, TenantState.PROVED, GetTile): TenantState.ASKED,
    (TenantRole.COORDINATOR, TenantState.ASKED, LogTile): TenantState.PROVED,
    (TenantRole.COORDINATOR, TenantState.ASKED, TenantRefused): TenantState.CLOSED,
}


class TenantSession(Conversation[TenantRole, TenantState, AnyTenantMessage]):
    """One end of a connection between tenant and coordinator."""

    def __init__(self, role: TenantRole) -> None:
        super().__init__(
            TENANT_TRANSITIONS,
            AnyTenantMessage,
            own=role,
            peer=role.peer,
            new=TenantState.NEW,
            closed=TenantState.CLOSED,
        )
