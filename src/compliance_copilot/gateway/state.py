"""What the application holds while it runs: the service, and how this deployment is named."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from compliance_copilot.core.errors import NotInitialized, StoreUnavailable
from compliance_copilot.gateway.attempts import FailedAttempts

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

ServiceOpener = Callable[[], AbstractAsyncContextManager["Service"]]
NOT_STARTED = "Service not initialized: the application's lifespan has not run"


@dataclass(frozen=True, slots=True)
class Deployment:
    """How this deployment is named; `key_hint` tells developers where the demo keys lie."""

    environment: str = "development"
    key_hint: str | None = None
    most_in_flight: int = 256
    drain_notice_seconds: float = 0.0
    peers_folder: Path | None = None
    """Where the workers of the port find each other; None: there is one."""


class Gateway:
    """The one mutable thing of the gateway: filled by the lifespan, emptied by it."""

    def __init__(self, describe: Callable[[], Deployment], version: str) -> None:
        self._describe = describe
        self._deployment: Deployment | None = None
        self.version = version
        self.service: Service | None = None
        self.attempts = FailedAttempts()
        self.draining = False

    @property
    def deployment(self) -> Deployment:
        """The deployment, asked for once. Raises SetupError."""
        if self._deployment is None:
            self._deployment = self._describe()
        return self._deployment

    def is_crowded(self) -> bool:
        """Tell whether too many requests wait for the database."""
        return self.service is not None and self.service.crowded()

    def is_queueing(self) -> bool:
        """Tell whether too many wait for the database or for their tenant's part of it."""
        return self.service is not None and self.service.queueing()

    def check(self) -> None:
        """Ask for the deployment now: a bad setting is told before anything is opened."""
        _ = self.deployment


def gateway_of(request: Request) -> Gateway:
    """Return the running application's state."""
    return cast("Gateway", request.app.state.gateway)


def service_of(request: Request) -> "Service":
    """Return the service. Raises StoreUnavailable when the lifespan has not run."""
    service = gateway_of(request).service
    if service is None:
        raise StoreUnavailable(f"{NOT_STARTED}.")
    return service


def working_service_of(request: Request) -> "Service":
    """Return the service for work that is skipped, not refused, without it (NotInitialized)."""
    service = gateway_of(request).service
    if service is None:
        raise NotInitialized(NOT_STARTED)
    return service
