"""Who may ask what on a control socket: all requests of each daemon, all answers, and the role that each request needs.

The kernel says who is at the other end (SO_PEERCRED); `tccp.control.server` finds out which role that is.
"""

import enum

from tccp.protocol import control as c
from tccp.protocol import shadow_control as s
from tccp.protocol import vm_control as v


class ControlRole(enum.IntEnum):
    """What a peer of the socket may do; each includes the one before."""

    NONE = 0
    VIEWER = 1
    ADMIN = 2


CoordinatorRequest = (
    c.GetStatus
    | c.ListNodes
    | c.ShowNode
    | c.EnrolNode
    | c.ExportNodes
    | c.ImportNodes
    | c.SetNodePolicy
    | c.SetNodeAttributes
    | c.RevokeNode
    | c.AddPolicy
    | c.TryPolicy
    | s.AddShadow
    | s.ListShadows
    | s.ReportShadow
    | s.PromoteShadow
    | s.DropShadow
    | c.ListPolicies
    | c.ShowPolicy
    | c.GetTrust
    | c.WatchEvents
    | v.AddTenant
    | v.RemoveTenant
    | v.ListTenants
    | v.ListOwnedVms
)
NodeRequest = (
    c.GetStatus
    | v.LaunchVm
    | v.ListVms
    | v.ShowVm
    | v.StopVm
    | v.WatchVms
    | v.GetLaunchReceipt
    | v.SuspendVm
    | v.ResumeVm
    | v.ReceiveVm
    | v.CancelVm
    | v.SnapshotVm
    | v.DestroyVm
    | v.GetDestructionReceipt
)

Answer = (
    c.Failure
    | c.Done
    | c.CoordinatorStatus
    | c.NodeInfo
    | c.Nodes
    | c.PerimeterRecord
    | c.PolicyInfo
    | c.Policies
    | c.PolicyTrial
    | s.ShadowInfo
    | s.Shadows
    | s.ShadowReport
    | c.TrustFile
    | c.Event
    | c.NodeStatus
    | v.TenantInfo
    | v.Tenants
    | v.OwnedVms
    | v.VmInfo
    | v.Vms
    | v.LaunchReceiptFile
    | v.DestructionReceiptFile
)

ROLE_NEEDED: dict[type, ControlRole] = {
    c.GetStatus: ControlRole.VIEWER,
    c.ListNodes: ControlRole.VIEWER,
    c.ShowNode: ControlRole.VIEWER,
    c.ExportNodes: ControlRole.VIEWER,
    c.ListPolicies: ControlRole.VIEWER,
    c.ShowPolicy: ControlRole.VIEWER,
    c.WatchEvents: ControlRole.VIEWER,
    # The trust file carries the door key that lets a stranger take up a TLS handshake.
    c.GetTrust: ControlRole.ADMIN,
    c.EnrolNode: ControlRole.ADMIN,
    c.ImportNodes: ControlRole.ADMIN,
    c.SetNodePolicy: ControlRole.ADMIN,
    c.SetNodeAttributes: ControlRole.ADMIN,
    c.RevokeNode: ControlRole.ADMIN,
    c.AddPolicy: ControlRole.ADMIN,
    c.TryPolicy: ControlRole.ADMIN,
    s.ListShadows: ControlRole.VIEWER,
    s.ReportShadow: ControlRole.VIEWER,
    s.AddShadow: ControlRole.ADMIN,
    s.PromoteShadow: ControlRole.ADMIN,
    s.DropShadow: ControlRole.ADMIN,
    v.ListTenants: ControlRole.VIEWER,
    v.ListOwnedVms: ControlRole.VIEWER,
    v.AddTenant: ControlRole.ADMIN,
    v.RemoveTenant: ControlRole.ADMIN,
    v.ListVms: ControlRole.VIEWER,
    v.ShowVm: ControlRole.VIEWER,
    v.WatchVms: ControlRole.VIEWER,
    v.GetLaunchReceipt: ControlRole.VIEWER,
    v.LaunchVm: ControlRole.ADMIN,
    v.StopVm: ControlRole.ADMIN,
    v.GetDestructionReceipt: ControlRole.VIEWER,
    v.SuspendVm: ControlRole.ADMIN,
    v.ResumeVm: ControlRole.ADMIN,
    v.ReceiveVm: ControlRole.ADMIN,
    v.CancelVm: ControlRole.ADMIN,
    v.SnapshotVm: ControlRole.ADMIN,
    v.DestroyVm: ControlRole.ADMIN,
}
