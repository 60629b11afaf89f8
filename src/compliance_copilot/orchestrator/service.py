"""Everything the gateway and the CLI serve, in one value."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import Operation
from compliance_copilot.orchestrator.copilot import ComplianceCopilotSaaS
from compliance_copilot.orchestrator.erasing import Erasing
from compliance_copilot.orchestrator.filing import Filing
from compliance_copilot.orchestrator.rooms import Readiness
from compliance_copilot.tenancy.audit import AuditLog
from compliance_copilot.tenancy.config_manager import ConfigManager
from compliance_copilot.tenancy.keys import KeyRing
from compliance_copilot.tenancy.provider_keys import ProviderKeys
from compliance_copilot.tenancy.tenants import TenantStore


@dataclass(frozen=True, slots=True)
class Service:
    """Everything the gateway and the CLI serve."""

    copilot: ComplianceCopilotSaaS
    filing: Filing
    keys: KeyRing
    tenants: TenantStore
    provider_keys: ProviderKeys
    config: ConfigManager
    audit: AuditLog
    erasing: Erasing
    status: Callable[[], Awaitable[Readiness]]
    skipped: Callable[[Operation], str | None]
    crowded: Callable[[], bool]
    queueing: Callable[[], bool]
