"""What is ready, limited or down, and why: `/ready`, and the seed's limited mode."""

from collections.abc import Mapping
from dataclasses import dataclass

from compliance_copilot.adapters.pinecone_store import PineconeStore
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import Operation
from compliance_copilot.orchestrator import Component, Readiness
from compliance_copilot.rag.breaker import Breakers, State
from compliance_copilot.rag.ports import Embedder
from compliance_copilot.settings import Settings
from compliance_copilot.storage.database import Database

_LOOK_SECONDS = 2.0
KEYS: Mapping[str, str] = {
    "openai": "openai_api_key",
    "anthropic": "anthropic_api_key",
    "pinecone": "pinecone_api_key",
}


def missing_reason(settings: Settings, operation: Operation) -> str | None:
    """Tell why an operation cannot run: a provider was named whose key is not set."""
    named: list[str] = [settings.embedding_provider, settings.vector_store]
    if operation is Operation.QUERY:
        named.append(settings.generation_provider)
    return next((reason for name in named if (reason := _unset(settings, name))), None)


def _unset(settings: Settings, provider: str) -> str | None:
    field = KEYS.get(provider)
    if field and getattr(settings, field) is None:
        return f"Service not initialized: {field.upper()} is not set"
    return None


def unused_key(settings: Settings) -> str | None:
    """Tell of a key that is set and not used, with the commands that put it to use."""
    if settings.pinecone_api_key is None or settings.vector_store == "pinecone":
        return None
    return (
        "PINECONE_API_KEY is set and not used: VECTOR_STORE is not pinecone; to switch, set it and"
        " run `compliance-copilot vectors init`, then `compliance-copilot reindex`"
    )


@dataclass(frozen=True, slots=True)
class Readying:
    """Looks at the parts of the service."""

    settings: Settings
    database: Database
    embedder: Embedder
    breakers: Breakers
    hosted: PineconeStore | None = None

    def resting(self) -> list[str]:
        """Name the providers and models of ours that are not called for now."""
        return [
            f"{provider} {model}"
            for (provider, model, scope), state in self.breakers.states().items()
            if state is State.OPEN and not scope
        ]

    async def look(self) -> Readiness:
        """Return the state of every part; the database is asked, within two seconds."""
        components = {
            "database": await self._database(),
            "vector_store": await self._vector_store(),
            "generation": self._generation(),
            "embedding": self._embedding(),
            "settings": self._placeholders(),
        }
        states = {component.status for component in components.values()}
        status = next((s for s in ("down", "limited") if s in states), "ready")
        return Readiness(status, components)

    async def _database(self) -> Component:
        try:
            await self.database.call_platform("SELECT 1", deadline=Deadline.after(_LOOK_SECONDS))
        except CopilotError as error:
            return Component("down", error.detail)
        where = "DATABASE_URL" if self.settings.database_url else "embedded PostgreSQL"
        return Component("ready", where)

    def _embedding(self) -> Component:
        reason = _unset(self.settings, self.settings.embedding_provider)
        return Component("limited", reason) if reason else Component("ready", self.embedder.name)

    async def _vector_store(self) -> Component:
        if self.hosted is not None:
            return await self._hosted(self.hosted)
        note = unused_key(self.settings)
        return Component("ready", f"pgvector; {note}" if note else "pgvector")

    async def _hosted(self, store: PineconeStore) -> Component:
        reason = _unset(self.settings, "pinecone")
        if reason:
            return Component("limited", reason)
        try:
            await store.describe(deadline=Deadline.after(_LOOK_SECONDS))
        except CopilotError as error:
            return Component("down", error.detail)
        return Component("ready", store.name)

    def _generation(self) -> Component:
        reason = _unset(self.settings, self.settings.generation_provider)
        if reason:
            return Component("limited", reason)
        with_key = [
            name
            for name in ("openai", "anthropic")
            if getattr(self.settings, KEYS[name]) is not None
            and self.settings.generation_provider in {"auto", name}
        ]
        names = ", ".join([*with_key, "extractive (local)"])
        resting = ", ".join(self.resting())
        if resting:
            return Component("limited", f"{names}; did not answer and rest: {resting}")
        return Component("ready", names)

    def _placeholders(self) -> Component:
        names = ", ".join(self.settings.unset_placeholders)
        return Component("ready", f"placeholders count as unset: {names}" if names else "read")
