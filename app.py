"""The front door: `uvicorn app:app`. Importing it starts nothing."""

from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.settings import load_settings
from compliance_copilot.wiring import open_served


def deployment() -> Deployment:
    """Return how this deployment is named. Raises SetupError for a bad setting."""
    settings = load_settings()
    keys = settings.data_dir / "keys"
    return Deployment(
        settings.environment,
        f"The demo keys lie in {keys}/<tenant_id>.key.",
        most_in_flight=settings.max_requests_in_flight,
        drain_notice_seconds=settings.drain_notice_seconds,
        peers_folder=settings.peers_folder if settings.workers > 1 else None,
    )


app = build_application(open_served, deployment)
