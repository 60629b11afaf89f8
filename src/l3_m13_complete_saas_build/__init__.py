"""The course module's import path: re-exports the public names, nothing else."""

from compliance_copilot import (
    ComplianceCopilotSaaS,
    ConfigManager,
    ModelTier,
    ResourceLimits,
    RetrievalMode,
    TenantContext,
    open_copilot,
)

__all__ = [
    "ComplianceCopilotSaaS",
    "ConfigManager",
    "ModelTier",
    "ResourceLimits",
    "RetrievalMode",
    "TenantContext",
    "open_copilot",
]
