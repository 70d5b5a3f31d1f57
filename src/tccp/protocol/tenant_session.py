"""One connection between a tenant and the coordinator: the coordinator proves itself, then answers questions.

The tenant may have her AK proved once, or skip that because she knows it already.
"""

import enum

from tccp.protocol.conversation import Conversation, End
from tccp.protocol.tenant_messages import (
    Activate,
    Activated,
    AddCosignature,
    AnyTenantMessage,
    GetHead,
    GetTile,
    Introduction,
    LogHead,
    LogTile,
    Probe,
    Probed,
    TenantHello,
    TenantRefused,
)


class TenantRole(End):
    """The two ends."""

    TENANT = "tenant"
    COORDINATOR = "coordinator"


class TenantState(enum.Enum):
    """How far the exchange has come."""

    NEW = "new"
    GREETED = "greeted"
    INTRODUCED = "introduced"
    ACTIVATING = "activating"
    PROVED = "proved"
    ASKED = "asked"
    PROBING = "probing"
    HEAD_WANTED = "head_wanted"
    PUBLIC = "public"
    TILE_WANTED = "tile_wanted"
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
    (TenantRole.TENANT, TenantState.INTRODUCED, Probe): TenantState.PROBING,
    (TenantRole.TENANT, TenantState.PROVED, Probe): TenantState.PROBING,
    (TenantRole.COORDINATOR, TenantState.PROBING, Probed): TenantState.PROVED,
    (TenantRole.COORDINATOR, TenantState.PROBING, TenantRefused): TenantState.CLOSED,
    # Whoever takes checkpoints to witnesses has nothing to hide, and believes nothing.
    (TenantRole.TENANT, TenantState.NEW, GetHead): TenantState.HEAD_WANTED,
    (TenantRole.COORDINATOR, TenantState.HEAD_WANTED, LogHead): TenantState.PUBLIC,
    (TenantRole.COORDINATOR, TenantState.HEAD_WANTED, TenantRefused): TenantState.CLOSED,
    (TenantRole.TENANT, TenantState.PUBLIC, GetHead): TenantState.HEAD_WANTED,
    (TenantRole.TENANT, TenantState.PUBLIC, AddCosignature): TenantState.HEAD_WANTED,
    (TenantRole.TENANT, TenantState.PUBLIC, GetTile): TenantState.TILE_WANTED,
    (TenantRole.COORDINATOR, TenantState.TILE_WANTED, LogTile): TenantState.PUBLIC,
    (TenantRole.COORDINATOR, TenantState.TILE_WANTED, TenantRefused): TenantState.CLOSED,
}


class TenantSession(Conversation[TenantRole, TenantState, AnyTenantMessage]):
    """One end of a connection between tenant and coordinator."""

    def __init__(self, role: TenantRole) -> None:
        super().__init__(
            TENANT_TRANSITIONS,
            AnyTenantMessage,
            own=role,
            new=TenantState.NEW,
            closed=TenantState.CLOSED,
        )
