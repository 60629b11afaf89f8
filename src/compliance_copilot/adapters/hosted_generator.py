"""What the vendors' generators share: the client, tenants' keys, one call as a draft."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any, ClassVar, Self

from compliance_copilot.adapters import drafting, prompting
from compliance_copilot.adapters.drafting import Progress
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd
from compliance_copilot.rag.ports import GenerationRequest


class HostedGenerator(ABC):
    """Streams a structured draft; one call is one request, never repeated in here.

    The vendor's client posts the body and reads the events; they stay the JSON that they are, for
    to make its models of the dozens in an answer takes longer than all the rest of the call. A
    server that refuses the JSON schema is asked in plain text from the next call on.
    """

    provider: ClassVar[str]
    """The ledger's word, and the name of the vendor's package."""
    _client_name: ClassVar[str]
    _address: ClassVar[str]
    _path: ClassVar[str]
    _schema_argument: ClassVar[str]

    def __init__(self, api_key: str, *, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._client: Any = None
        self._sdk: Any = None
        self._without_schema: set[str] = set()
        self._lender: HostedGenerator | None = None

    def with_key(self, api_key: str) -> Self:
        """Return a generator that calls by another key, over this one's connections."""
        other = type(self)(api_key, base_url=self._base_url)
        other._without_schema = self._without_schema
        other._lender = self
        return other

    async def generate(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[DraftSentence | GenerationEnd]:
        """Yield sentences as they are complete, then the end with the provider's count."""
        if deadline.passed:
            raise DeadlineExceeded
        sdk = await self.warm()
        message = prompting.message_of(request)
        prompt = f"{prompting.system_of(request)}{message}"
        progress = Progress(request.model, len(prompt.encode()))
        pieces = self._pieces(sdk, request, message, progress, deadline)
        async for item in drafting.drafted(self.provider, sdk, pieces, progress, deadline):
            yield item

    async def warm(self) -> Any:
        """Import the vendor's package (seconds) beside the event loop, and return it."""
        if self._lender is not None:
            return await self._lender.warm()
        if self._sdk is None:  # sys.modules would show a package that is half imported
            self._sdk = await asyncio.to_thread(import_module, self.provider)
        return self._sdk

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def _opened(self, sdk: Any) -> Any:
        """Return the vendor's client."""
        if self._lender is not None:
            return self._lender._opened(sdk).with_options(api_key=self._api_key)
        if self._client is None:
            self._client = getattr(sdk, self._client_name)(
                api_key=self._api_key,
                # Named, so that a variable of the process never sends a key elsewhere.
                base_url=self._base_url or self._address,
                max_retries=0,
            )
        return self._client

    async def _pieces(
        self,
        sdk: Any,
        request: GenerationRequest,
        message: str,
        progress: Progress,
        deadline: Deadline,
    ) -> AsyncIterator[str]:
        """Yield the text as it comes. Raises the vendor's errors, and ConnectionError."""
        try:
            stream = await self._opened(sdk).post(
                self._path,
                body=self._body(request, message),
                options={"timeout": deadline.remaining_seconds()},
                cast_to=object,
                stream=True,
                stream_cls=sdk.AsyncStream[object],
            )
        except sdk.BadRequestError as error:
            if "json_schema" in str(error) or self._schema_argument in str(error):
                self._without_schema.add(request.model)
                raise drafting.SchemaRefusedError from error
            raise
        try:
            async for event in stream:
                if text := self._read(progress, event):
                    yield text
        finally:
            await stream.close()
        if progress.finish_reason is None:
            raise ConnectionError("The stream ended before the answer did.")

    def _format(self, request: GenerationRequest, schema: object) -> dict[str, Any]:
        """Return the argument that names the schema, unless the server has refused it."""
        plain = request.instruction is not None or request.model in self._without_schema
        return {} if plain else {self._schema_argument: schema}

    @abstractmethod
    def _body(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        """Return the body of the call."""

    @abstractmethod
    def _read(self, progress: Progress, event: Any) -> str | None:
        """Take note of one event of the stream, and return its text."""
