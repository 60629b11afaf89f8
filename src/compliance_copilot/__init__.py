"""Compliance Copilot: multi-tenant answers with checked quotes, exact limits, an exact ledger.

async with open_copilot() as copilot:
    answer = await copilot.query("acme_corp", "What are our data encryption requirements?")
"""

from compliance_copilot.core.vocabulary import (
    ModelTier,
    NewDocument,
    Outcome,
    ResourceLimits,
    RetrievalMode,
)
from compliance_copilot.orchestrator import ComplianceCopilotSaaS
from compliance_copilot.settings import Settings, load_settings
from compliance_copilot.tenancy.config_manager import ConfigManager
from compliance_copilot.tenancy.context import TenantContext
from compliance_copilot.wiring import open_copilot

__version__ = "0.1.0"

__all__ = [
    "ComplianceCopilotSaaS",
    "ConfigManager",
    "ModelTier",
    "NewDocument",
    "Outcome",
    "ResourceLimits",
    "RetrievalMode",
    "Settings",
    "TenantContext",
    "__version__",
    "load_settings",
    "open_copilot",
]
