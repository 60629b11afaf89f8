"""Where this deployment's settings come from, and the clients made of them.

A client is None when its service has no key: the seed's limited mode. Nothing in the package
imports this file.
"""

from typing import Any

from compliance_copilot.settings import Settings, load_settings

__all__ = [
    "Settings",
    "load_settings",
    "make_anthropic_client",
    "make_openai_client",
    "make_pinecone_client",
]


def make_openai_client(settings: Settings) -> Any | None:
    """Return the OpenAI client, None without `OPENAI_API_KEY`."""
    if settings.openai_api_key is None:
        return None
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        max_retries=0,
    )


def make_anthropic_client(settings: Settings) -> Any | None:
    """Return the Anthropic client, None without `ANTHROPIC_API_KEY`."""
    if settings.anthropic_api_key is None:
        return None
    from anthropic import AsyncAnthropic

    return AsyncAnthropic(
        api_key=settings.anthropic_api_key.get_secret_value(),
        base_url=settings.anthropic_base_url,
        max_retries=0,
    )


def make_pinecone_client(settings: Settings) -> Any | None:
    """Return the Pinecone client, None without `PINECONE_API_KEY`."""
    if settings.pinecone_api_key is None:
        return None
    from pinecone import AsyncPinecone

    return AsyncPinecone(api_key=settings.pinecone_api_key.get_secret_value())
