"""What embeds, finds and answers here: from settings to adapters.

A vendor that is named without its key is made all the same and never called: every operation that
needs it is skipped before admission (`readiness.missing_reason`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module

from pydantic import SecretStr

from compliance_copilot.adapters.anthropic_generator import AnthropicGenerator
from compliance_copilot.adapters.corpus_files import CorpusFiles
from compliance_copilot.adapters.extractive_generator import ExtractiveGenerator
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.onnx_embedder import OnnxEmbedder
from compliance_copilot.adapters.openai_embedder import OpenAIEmbedder
from compliance_copilot.adapters.openai_generator import OpenAIGenerator
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.pinecone_control import check_index
from compliance_copilot.adapters.pinecone_index import PineconeIndex
from compliance_copilot.adapters.pinecone_store import PineconeStore
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.courtesy import Courtesy
from compliance_copilot.rag.ports import Embedder, Generator, VectorIndex
from compliance_copilot.rag.reindexing import Target, refuse_elsewhere
from compliance_copilot.rag.replication import Replication, replicating
from compliance_copilot.settings import Settings
from compliance_copilot.storage.database import Database

Vendor = OpenAIGenerator | AnthropicGenerator
_NOBODYS = "no-key"
"""What a vendor's client is made with when the service has no key: no call is made by it."""
_CHECK_SECONDS = 10.0
MadeEmbedder = WordllamaEmbedder | OnnxEmbedder | OpenAIEmbedder


@dataclass(frozen=True, slots=True)
class Engines:
    """What finds, what embeds, and what answers, by provider."""

    index: VectorIndex
    embedder: Embedder
    generators: Mapping[str, Generator]
    replication: Replication
    courtesy: Courtesy
    """By which what goes on in the background gives way to questions."""
    vendors: Mapping[str, Vendor]
    """By whom a tenant's own key may be used; they have a key of the service's or none."""
    hosted: PineconeStore | None = None
    """The hosted vector store, None when the database is the store."""

    def mapped(self, tenant_id: TenantId) -> int | None:
        """Return the version of a corpus that is searched in a moment, asking nobody, if one is."""
        if isinstance(self.index, HotIndex) and isinstance(self.embedder, WordllamaEmbedder):
            return self.index.at_hand(tenant_id)
        return None


def make_embedder(settings: Settings) -> MadeEmbedder:
    """Return the embedder that is named. Raises SetupError when its model is not there."""
    if settings.embedding_provider == "wordllama":
        return WordllamaEmbedder()
    if settings.embedding_provider == "onnx":
        if settings.onnx_model_dir is None:
            raise SetupError(
                "ONNX_MODEL_DIR: EMBEDDING_PROVIDER is onnx and no model is named; set it to the "
                "folder that holds model.onnx and tokenizer.json."
            )
        return OnnxEmbedder(settings.onnx_model_dir)
    return OpenAIEmbedder(_secret(settings.openai_api_key), base_url=settings.openai_base_url)


async def warm(embedder: MadeEmbedder) -> None:
    """Load the model or the vendor's package now and not with the first question."""
    if isinstance(embedder, OpenAIEmbedder):
        await embedder.warm()
    else:
        await asyncio.to_thread(embedder.warm)


async def open_engines(
    settings: Settings, database: Database, embedder: MadeEmbedder, stack: AsyncExitStack
) -> Engines:
    """Make index and generators; what they hold is closed with the stack."""
    courtesy = Courtesy()
    index, replication, hosted = await _open_store(settings, database, courtesy, stack)
    if isinstance(embedder, OpenAIEmbedder):
        stack.push_async_callback(embedder.aclose)
    vendors = _vendors(settings)
    generators: dict[str, Generator] = {"local": ExtractiveGenerator()}
    for provider, vendor in vendors.items():
        if getattr(settings, f"{provider}_api_key") is not None:
            # A vendor's client takes seconds to import: not a question's.
            await asyncio.to_thread(import_module, provider)
            generators[provider] = vendor
        stack.push_async_callback(vendor.aclose)
    return Engines(index, embedder, generators, replication, courtesy, vendors, hosted)


async def check_place(database: Database, engines: Engines) -> None:
    """Refuse a start where vectors are not by the embedder and in the store that are configured.

    Raises SetupError in one line that names the command which helps.
    """
    if engines.hosted is not None:
        await check_index(
            engines.hosted,
            dimension=engines.embedder.dimensions,
            deadline=Deadline.after(_CHECK_SECONDS),
        )
    target = Target(engines.embedder.name, engines.replication.store)
    await refuse_elsewhere(database, target)


async def _open_store(
    settings: Settings, database: Database, courtesy: Courtesy, stack: AsyncExitStack
) -> tuple[VectorIndex, Replication, PineconeStore | None]:
    rows = PgvectorIndex(database)
    if settings.vector_store == "pinecone":
        hosted = make_pinecone_store(settings)
        stack.push_async_callback(hosted.aclose)
        named = settings.pinecone_api_key is not None
        replication = Replication(database, hosted if named else None)
        if named:
            await stack.enter_async_context(replicating(replication))
        return PineconeIndex(database, hosted, rows), replication, hosted
    files = CorpusFiles(settings.data_dir / "hot", settings.hot_index_megabytes * 2**20)
    await asyncio.to_thread(files.prepare)
    index = HotIndex(rows, database, files, courtesy)
    stack.push_async_callback(index.close)
    left = None
    if settings.pinecone_api_key is not None:  # not in use, but perhaps it was
        left = make_pinecone_store(settings)
        stack.push_async_callback(left.aclose)
    return index, Replication(database, left=left), None


def make_pinecone_store(settings: Settings) -> PineconeStore:
    """Return the index at Pinecone that the settings name."""
    return PineconeStore(
        _secret(settings.pinecone_api_key),
        settings.pinecone_index_name,
        host=settings.pinecone_index_host,
        controller=settings.pinecone_controller_host,
    )


def _vendors(settings: Settings) -> dict[str, Vendor]:
    """Return the vendors that may be asked, by name; a named one leaves the other out."""
    vendors: dict[str, Vendor] = {
        "openai": OpenAIGenerator(
            _secret(settings.openai_api_key) or _NOBODYS, base_url=settings.openai_base_url
        ),
        "anthropic": AnthropicGenerator(
            _secret(settings.anthropic_api_key) or _NOBODYS,
            base_url=settings.anthropic_base_url,
        ),
    }
    return {n: v for n, v in vendors.items() if settings.generation_provider in {"auto", n}}


def _secret(value: SecretStr | None) -> str:
    return "" if value is None else value.get_secret_value()
