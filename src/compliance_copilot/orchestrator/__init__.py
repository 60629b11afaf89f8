"""The order of the steps of a question, a search and an upload, and nothing else.

`copilot.py` is the recipe; `reception.py` lets a request in and out, `asking.py` is the way of a
question, `reservations.py` what it may cost, `replying.py` what it is told. Must not enter:
vendors, SQL, HTTP.
"""

from compliance_copilot.orchestrator.copilot import ComplianceCopilotSaaS
from compliance_copilot.orchestrator.rooms import Call, Component, Readiness, Rooms, Timeouts
from compliance_copilot.orchestrator.service import Service

__all__ = [
    "Call",
    "ComplianceCopilotSaaS",
    "Component",
    "Readiness",
    "Rooms",
    "Service",
    "Timeouts",
]
