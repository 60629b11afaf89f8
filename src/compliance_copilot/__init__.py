"""Compliance Copilot: multi-tenant answers with checked quotes, exact limits, an exact ledger.

async with open_copilot() as copilot:
    answer = await copilot.query("acme_corp", "What are our data encryption requirements?")

The names below are imported when they are first used: the processes that read files, and the
command line, start without the service.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compliance_copilot.core.vocabulary import (
        ModelTier,
        NewDocument,
        Outcome,
        ResourceLimits,
        RetrievalMode,
    )
    from compliance_copilot.orchestrator import ComplianceCopilotSaaS
    from compliance_copilot.rag.filter_language import narrowed
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
    "narrowed",
    "open_copilot",
]

_PLACES = {
    "ComplianceCopilotSaaS": "orchestrator",
    "ConfigManager": "tenancy.config_manager",
    "ModelTier": "core.vocabulary",
    "NewDocument": "core.vocabulary",
    "Outcome": "core.vocabulary",
    "ResourceLimits": "core.vocabulary",
    "RetrievalMode": "core.vocabulary",
    "Settings": "settings",
    "TenantContext": "tenancy.context",
    "load_settings": "settings",
    "narrowed": "rag.filter_language",
    "open_copilot": "wiring",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its place."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
