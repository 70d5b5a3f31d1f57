"""One TOML file for each daemon, checked whole before anything starts. An unknown key is an error.

tables, coordinator, node, witness    what there is: a class for each table; below each key stands what it means
schema                                the same, for those who describe it: documents, examples, messages
mistakes, places                      all that is wrong with a file, and on which lines
loading                               a file that is right, as the object that a daemon works with
"""

from tccp.config.coordinator import (
    CoordinatorConfig,
    EnrolmentConfig,
    ImaConfig,
    LeaseConfig,
    ListenConfig,
    LogServerConfig,
    PoliciesConfig,
    ReleaseConfig,
    TenantsConfig,
    WebhookConfig,
    WitnessKeyConfig,
)
from tccp.config.loading import load_config
from tccp.config.node import NodeConfig, NodeCoordinatorConfig, VmsConfig
from tccp.config.tables import EVENT_LOG, IMA_LIST, LogConfig, MetricsConfig
from tccp.config.witness import WitnessConfig

__all__ = [
    "EVENT_LOG",
    "IMA_LIST",
    "CoordinatorConfig",
    "EnrolmentConfig",
    "ImaConfig",
    "LeaseConfig",
    "ListenConfig",
    "LogConfig",
    "LogServerConfig",
    "MetricsConfig",
    "NodeConfig",
    "NodeCoordinatorConfig",
    "PoliciesConfig",
    "ReleaseConfig",
    "TenantsConfig",
    "VmsConfig",
    "WebhookConfig",
    "WitnessConfig",
    "WitnessKeyConfig",
    "load_config",
]
