"""THE composition root: from settings to a running service, one async context manager.

Everything is made here and handed on; nothing below looks anything up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from compliance_copilot import bootstrap, observing, pacing
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.ledger import UsageLedger
from compliance_copilot.billing.metering import Metering
from compliance_copilot.billing.prices import PriceBook, load_price_book
from compliance_copilot.billing.statements import Statements
from compliance_copilot.billing.sweeping import sweeping
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import Operation, SealedKey, TenantId
from compliance_copilot.engines import (
    Engines,
    Vendor,
    check_place,
    make_embedder,
    open_engines,
    warm,
)
from compliance_copilot.gateway.scraping import exposed
from compliance_copilot.orchestrator import (
    ComplianceCopilotSaaS,
    Rooms,
    Service,
    Timeouts,
)
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.orchestrator.erasing import Erasing, finishing
from compliance_copilot.orchestrator.filing import Filing
from compliance_copilot.orchestrator.reception import Reception
from compliance_copilot.rag.answers import AnswerStore
from compliance_copilot.rag.breaker import Breakers
from compliance_copilot.rag.conversations import Conversations
from compliance_copilot.rag.documents import DocumentStore
from compliance_copilot.rag.extraction.pool import Extractor
from compliance_copilot.rag.extraction.scans import tesseract_data
from compliance_copilot.rag.generation import Answerer
from compliance_copilot.rag.holding import Watch
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.jobs import JobStore
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.links import Links, OwnGenerator, Seat
from compliance_copilot.rag.ports import Generator, VectorIndex
from compliance_copilot.rag.query_cache import CacheLimits, QueryCache
from compliance_copilot.rag.reindexing import Reindexing
from compliance_copilot.rag.resilience import Resilient
from compliance_copilot.rag.retrieval import Retriever
from compliance_copilot.rag.statistics import bring_into_force
from compliance_copilot.readiness import KEYS, Readying, missing_reason
from compliance_copilot.settings import PROJECT_ROOT, Settings, load_settings
from compliance_copilot.storage import migrations
from compliance_copilot.storage.checkpoints import Checkpoints
from compliance_copilot.storage.database import Database, open_database
from compliance_copilot.storage.durability import check_durability
from compliance_copilot.storage.embedded import open_embedded
from compliance_copilot.storage.sealing import Sealer, own_key
from compliance_copilot.storage.signing import open_signer
from compliance_copilot.tenancy.admission import Admission
from compliance_copilot.tenancy.audit import AuditLog
from compliance_copilot.tenancy.config_manager import ConfigManager
from compliance_copilot.tenancy.erasures import ErasureStore
from compliance_copilot.tenancy.keys import KeyRing
from compliance_copilot.tenancy.provider_keys import ProviderKeys
from compliance_copilot.tenancy.tenants import TenantStore

DATABASE = "compliance_copilot"
SERVING_ROLE = "compliance_copilot"
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the database is: for serving, and for migrating (None: only checked)."""

    serving: str
    owner: str | None
    password: str | None


@asynccontextmanager
async def open_copilot(settings: Settings | None = None) -> AsyncIterator[ComplianceCopilotSaaS]:
    """Open the service for library use and close it again.

    Raises SetupError with one line that names the fault and the fix.
    """
    async with open_service(settings) as service:
        yield service.copilot
        await service.config.finish_writes()


@asynccontextmanager
async def open_served(settings: Settings | None = None) -> AsyncIterator[Service]:
    """Open the service in a process that serves: paced, logs in our form, metrics shared."""
    settings = settings or load_settings()
    pacing.let_threads_roam()
    with pacing.paced(), observing.served(settings):
        async with (
            open_service(settings) as service,
            exposed(settings.metrics_bind),
            working(service, settings),
        ):
            with (
                pacing.unburdened(),
                pacing.seated(settings.peers_folder, settings.workers),
            ):
                yield service


@asynccontextmanager
async def working(service: Service, settings: Settings) -> AsyncIterator[None]:
    """Take jobs from the queue while the context lasts; one under way at its end goes back."""
    if not settings.ingest_workers:
        yield
        return
    stopping, filing = asyncio.Event(), service.filing
    at_once = 2 * settings.ingest_workers  # one is read while another is stored
    work = asyncio.create_task(
        filing.jobs.work_off(filing.work_off, at_once=at_once, stopping=stopping), name="queue"
    )
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait({work}, timeout=_STOP_SECONDS)
        work.cancel()


@asynccontextmanager
async def open_service(
    settings: Settings | None = None, *, moving: bool = False
) -> AsyncIterator[Service]:
    """Open everything the gateway and the CLI serve: database, schema, examples, sweep.

    `moving`: also where vectors are elsewhere than configured, for who moves them.
    """
    settings = settings or load_settings()
    prices = load_price_book(PROJECT_ROOT / "configs" / "prices.toml")
    checkpoints = open_checkpoints(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(observing.traced(settings))
        embedder = make_embedder(settings)
        warming = asyncio.create_task(warm(embedder))
        addresses = await stack.enter_async_context(open_server(settings))
        await bring_up_to_date(addresses, prices)
        database = await stack.enter_async_context(
            open_database(
                addresses.serving,
                max_connections=settings.database_pool_size,
                anchor=checkpoints.write,
            )
        )
        if settings.environment != "test":  # where the suite's own server trades it for speed
            await check_durability(database, required=settings.environment == "production")
        await warming
        engines = await open_engines(settings, database, embedder, stack)
        if not moving and missing_reason(settings, Operation.SEARCH) is None:
            await check_place(database, engines)
        journal = Journal(settings.data_dir / "journal")
        stack.callback(journal.close)
        metering = Metering(database, prices, journal)
        service = _assemble(settings, database, engines, metering, checkpoints)
        stack.push_async_callback(service.filing.extractor.close)
        await stack.enter_async_context(sweeping(database, metering))
        await stack.enter_async_context(finishing(service.erasing))
        samples = [
            partial(observing.sample_stores, engines.index, journal),
            partial(observing.sample_breakers, service.copilot.breakers),
        ]
        await stack.enter_async_context(observing.sampling(database, samples))
        stack.push_async_callback(service.copilot.aclose)
        await bootstrap.first_start(service, database, settings)
        yield service


@asynccontextmanager
async def open_server(settings: Settings) -> AsyncIterator[Addresses]:
    """Give the database's addresses; the embedded server runs while the context lasts."""
    if settings.database_url is not None:
        owner = settings.database_owner_url
        serving = settings.database_url.get_secret_value()
        password = unquote(urlsplit(serving).password or "") or None
        yield Addresses(serving, owner.get_secret_value() if owner else None, password)
        return
    async with open_embedded(settings.data_dir, major=settings.embedded_postgres_version) as server:
        await migrations.ensure_database(server.dsn(server.superuser, "postgres"), DATABASE)
        yield Addresses(
            serving=server.dsn(SERVING_ROLE, DATABASE),
            owner=server.dsn(server.superuser, DATABASE),
            password=server.password,
        )


async def bring_up_to_date(addresses: Addresses, prices: PriceBook) -> None:
    """Migrate as the owner. Raises SetupError when the schema is behind and no owner is named."""
    if addresses.owner is not None:
        role = unquote(urlsplit(addresses.serving).username or "") or SERVING_ROLE
        await migrations.migrate(addresses.owner, role=role, password=addresses.password)
        await migrations.store_prices(addresses.owner, prices.version, prices.entries())
        return
    present = await migrations.present(addresses.serving)
    if present != migrations.head():
        raise SetupError(
            f"DATABASE_URL: the schema is {present or 'missing'}, this code needs "
            f"{migrations.head()}; set DATABASE_OWNER_URL and run `compliance-copilot migrate`."
        )


def open_checkpoints(settings: Settings) -> Checkpoints:
    """Return what signs the audit log and keeps its checkpoints. Raises SetupError."""
    secret = settings.audit_signing_key
    folder = settings.data_dir / "audit"
    signer = open_signer(secret.get_secret_value() if secret else None, folder)
    return Checkpoints(folder / "checkpoints", signer)


def _assemble(
    settings: Settings,
    database: Database,
    engines: Engines,
    metering: Metering,
    checkpoints: Checkpoints,
) -> Service:
    embedder = engines.embedder
    skipped = partial(missing_reason, settings)
    config = ConfigManager(database, settings.default_config)
    own_keys = ProviderKeys(database, _sealer(settings))
    rooms = Rooms(
        admission=Admission(
            database,
            settings.default_config,
            settings.default_limits,
            partial(bring_into_force, database),
        ),
        metering=metering,
        retriever=Retriever(engines.index, embedder, LinkedChunks(database)),
        answerer=_answerer(settings, engines, metering.prices, own_keys),
        ingestion=Ingestion(database, embedder, engines.replication, engines.courtesy),
        courtesy=engines.courtesy,
        reindexing=Reindexing(database, engines.replication, embedder.name),
        documents=DocumentStore(database),
        answers=AnswerStore(database),
        conversations=Conversations(database),
        watch=Watch(),
        cache=QueryCache(CacheLimits(settings.query_cache_megabytes * 2**20)),
        usage=UsageLedger(database),
        statements=Statements(database),
        config=config,
        skipped=skipped,
        mapped=engines.mapped,
    )
    timeouts = Timeouts(
        settings.query_timeout_seconds,
        settings.ingest_timeout_seconds,
        settings.stream_drain_seconds,
    )
    admin = settings.admin_api_key
    erasing = Erasing(
        ErasureStore(database, checkpoints.signer),
        rooms.documents,
        engines.replication,
        _forgetting(engines.index, rooms.cache),
        partial(bring_into_force, database),
    )
    return Service(
        copilot=ComplianceCopilotSaaS(rooms, timeouts),
        filing=Filing(
            rooms,
            Reception(rooms, timeouts),
            Embedding(rooms),
            JobStore(database),
            Extractor(processes=max(1, settings.ingest_workers), ocr_data=tesseract_data()),
        ),
        keys=KeyRing(database, admin.get_secret_value() if admin else None),
        tenants=TenantStore(database),
        provider_keys=own_keys,
        config=config,
        audit=AuditLog(database, checkpoints),
        erasing=erasing,
        status=Readying(settings, database, embedder, rooms.answerer.breakers, engines.hosted).look,
        skipped=skipped,
        crowded=database.is_crowded,
        queueing=database.is_queueing,
    )


def _forgetting(index: VectorIndex, cache: QueryCache) -> Callable[[TenantId], Awaitable[object]]:
    """Return what takes a tenant out of this process's memory and files."""

    async def forget(tenant_id: TenantId) -> None:
        cache.forget(tenant_id)
        if isinstance(index, HotIndex):
            await index.forget(tenant_id)

    return forget


def _answerer(
    settings: Settings, engines: Engines, prices: PriceBook, own_keys: ProviderKeys
) -> Answerer:
    seats = {
        tier: Seat(answering.provider, answering.model, _without_key(settings, answering.provider))
        for tier, answering in prices.tiers.items()
    }
    links = Links(seats, engines.generators, _own(engines.vendors, own_keys))
    return Answerer(links, Resilient(Breakers()))


def _without_key(settings: Settings, provider: str) -> str:
    """Return what is said when the service has no key for a provider; empty when it has one."""
    if provider not in KEYS or getattr(settings, KEYS[provider]) is not None:
        return ""
    return f"{KEYS[provider].upper()} is not set"


def _own(vendors: Mapping[str, Vendor], own_keys: ProviderKeys) -> OwnGenerator:
    """Return what makes the generator that calls by a tenant's key."""

    def own(key: SealedKey) -> Generator | None:
        secret, vendor = own_keys.open(key), vendors.get(key.provider)
        return None if secret is None or vendor is None else vendor.with_key(secret)

    return own


def _sealer(settings: Settings) -> Sealer:
    """Return what encrypts tenants' secrets; outside production a file of DATA_DIR will do."""
    if settings.secrets_key is None:
        return Sealer([own_key(settings.data_dir)])
    return Sealer(settings.secrets_key.get_secret_value().split(","))
