"""What this deployment is told: one frozen object, read once.

Layers, lowest first: `configs/default.toml`, `configs/<ENVIRONMENT>.toml`, `.env`, environment.
dynaconf reads the files; of `.env` and the environment only the names below are looked at, as
strings, and pydantic casts and checks them. The only reader of the environment in the package.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from dotenv import dotenv_values
from dynaconf import Dynaconf
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    ModelTier,
    ResourceLimits,
    RetrievalMode,
)

PROJECT_ROOT = Path(__file__).resolve().parents[2]
_SHORTEST_SECRETS_KEY = 32
PLACEHOLDERS = ("sk-your-", "sk-ant-your-", "your-pinecone-", "user:password@localhost")
_LEAST_LETTERS = 8
_LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})
_ENCRYPTED_MODES = frozenset({"require", "verify-ca", "verify-full"})
_SIGNING_KEY = re.compile(r"[0-9a-fA-F]{64}")
_FIXES = {
    "AUDIT_SIGNING_KEY": "make one with `compliance-copilot audit key`",
    "API_PORT": "use a port number from 1 to 65535",
    "ADMIN_API_KEY": "use any string of 32 characters or more, or leave it unset",
    "SECRETS_KEY": "use random strings of 32 characters or more, the newest first",
    "DEFAULT_MODEL": f"use one of {', '.join(ModelTier)}",
    "DEFAULT_RETRIEVAL_MODE": f"use one of {', '.join(RetrievalMode)}",
}


class Settings(BaseModel):
    """Every setting of the service; field names are the variables' names in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    anthropic_api_key: SecretStr | None = None
    anthropic_base_url: str | None = None
    pinecone_api_key: SecretStr | None = None
    pinecone_environment: str | None = None
    pinecone_index_name: str = "compliance-copilot"
    pinecone_index_host: str | None = None
    pinecone_controller_host: str = "https://api.pinecone.io"
    database_url: SecretStr | None = None
    database_owner_url: SecretStr | None = None
    admin_api_key: SecretStr | None = Field(default=None, min_length=32)
    audit_signing_key: SecretStr | None = None

    secrets_key: SecretStr | None = None

    default_model: ModelTier = ModelTier.GPT35
    default_retrieval_mode: RetrievalMode = RetrievalMode.BASIC
    default_max_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    max_queries_per_hour: int = Field(default=100, ge=1)
    max_requests_per_minute: int = Field(default=100, ge=1)
    max_concurrent_requests: int = Field(default=5, ge=1)
    max_documents_per_tenant: int = Field(default=10_000, ge=0)
    query_timeout_seconds: float = Field(default=30.0, gt=0)
    stream_drain_seconds: float = Field(default=30.0, ge=0)
    ingest_timeout_seconds: float = Field(default=300.0, gt=0)
    ingest_workers: int = Field(default=1, ge=0, le=16)
    """Reading processes of each serving process; 0 leaves the queue to `worker`."""

    generation_provider: Literal["auto", "openai", "anthropic", "extractive"] = "auto"
    embedding_provider: Literal["wordllama", "onnx", "openai"] = "wordllama"
    onnx_model_dir: Path | None = None
    vector_store: Literal["pgvector", "pinecone"] = "pgvector"

    otlp_endpoint: str | None = None
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    trace_content: bool = False
    metrics_bind: str | None = Field(default=None, pattern=r"^.+:\d{1,5}$")
    metrics_tenants: int = Field(default=100, ge=0, le=10_000)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    environment: Literal["development", "test", "production"] = "development"
    debug: bool = False
    data_dir: Path = Path(".data")
    load_examples: bool = False
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=1, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    max_requests_in_flight: int = Field(default=256, ge=1, le=100_000)
    """Of one worker; more get 503 before any work."""
    drain_notice_seconds: float = Field(default=0.0, ge=0, le=60)
    """Between SIGTERM, when /ready turns to 503, and the end of accepting connections."""
    hot_index_megabytes: int = Field(default=512, ge=0, le=1_000_000)
    """Room on disk for the corpora of tenants in use; 0 searches in SQL alone."""
    hnsw_min_chunks: int = Field(default=50_000, ge=1)
    """From here on `vectors hnsw` gives a tenant an index of its own for dense search alone."""
    query_cache_megabytes: int = Field(default=64, ge=0, le=100_000)
    """Memory per worker for answers of a moment ago; 0 keeps none."""
    database_pool_size: int = Field(default=10, ge=1, le=100)
    embedded_postgres_version: Literal[16, 18] = 18

    unset_placeholders: tuple[str, ...] = ()
    """Names whose value is one of the example file's placeholders: treated as unset."""

    @model_validator(mode="before")
    @classmethod
    def _drop_placeholders(cls, values: dict[str, Any]) -> dict[str, Any]:
        dropped = tuple(
            name.upper()
            for name, value in values.items()
            if isinstance(value, str) and any(mark in value for mark in PLACEHOLDERS)
        )
        kept = {k: v for k, v in values.items() if k.upper() not in dropped and v != ""}
        return {**kept, "unset_placeholders": kept.get("unset_placeholders", dropped)}

    @field_validator("audit_signing_key")
    @classmethod
    def _sixty_four_digits(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _SIGNING_KEY.fullmatch(value.get_secret_value()):
            raise ValueError("it has 64 hexadecimal digits")
        return value

    @field_validator("secrets_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        keys = value.get_secret_value().split(",") if value else []
        if any(len(key) < _SHORTEST_SECRETS_KEY for key in keys):
            raise ValueError("each key needs 32 characters")
        return value

    @field_validator("data_dir", "onnx_model_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value if value is None or value.is_absolute() else PROJECT_ROOT / value

    @field_validator("embedded_postgres_version", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _refuse_insecure_production(self) -> Self:
        if self.environment == "production":
            fault = next(insecurities(self), None)
            if fault is not None:
                raise ValueError(fault)
        return self

    @property
    def peers_folder(self) -> Path:
        """Where the workers of the port find each other and their cores."""
        return self.data_dir / "peers" / str(self.api_port)

    @property
    def default_config(self) -> EffectiveConfig:
        """The system layer of the cascade, as the files and the environment have it."""
        return EffectiveConfig(
            model_tier=self.default_model,
            retrieval_mode=self.default_retrieval_mode,
            max_tokens=self.default_max_tokens,
        )

    @property
    def default_limits(self) -> ResourceLimits:
        """The limits of a tenant that has none of its own."""
        return ResourceLimits(
            max_queries_per_hour=self.max_queries_per_hour,
            max_tokens_per_query=self.default_max_tokens,
            max_concurrent_requests=self.max_concurrent_requests,
            max_documents=self.max_documents_per_tenant,
            requests_per_minute=self.max_requests_per_minute,
        )


def insecurities(settings: Settings) -> Iterator[str]:
    """Yield what production is refused for, one line each: variable, fault and fix."""
    if settings.debug:
        yield "DEBUG: must be false in production; set DEBUG=false."
    if settings.audit_signing_key is None:
        yield (
            "AUDIT_SIGNING_KEY: production needs one, kept outside the database's host; make it"
            " with `compliance-copilot audit key`."
        )
    if settings.secrets_key is None:
        yield (
            "SECRETS_KEY: production needs one, kept outside the database's host; make it with"
            " `compliance-copilot secrets new`."
        )
    yield from _guessable(settings)
    for name, url in (
        ("DATABASE_URL", settings.database_url),
        ("DATABASE_OWNER_URL", settings.database_owner_url),
    ):
        if url is not None and _is_remote_in_clear(url.get_secret_value()):
            yield f"{name}: a database on another host needs TLS; add ?sslmode=verify-full."


def _guessable(settings: Settings) -> Iterator[str]:
    for name, key, fix in (
        ("ADMIN_API_KEY", settings.admin_api_key, "use 32 random characters or leave it unset"),
        ("AUDIT_SIGNING_KEY", settings.audit_signing_key, _FIXES["AUDIT_SIGNING_KEY"]),
        ("SECRETS_KEY", settings.secrets_key, "make one with `compliance-copilot secrets new`"),
    ):
        if key is not None and len(set(key.get_secret_value())) < _LEAST_LETTERS:
            yield f"{name}: this is no secret; {fix}."


def _is_remote_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    host = options.get("host") or parts.hostname or ""
    local = host in _LOCAL_HOSTS or host.startswith("/")
    return not local and options.get("sslmode", "prefer") not in _ENCRYPTED_MODES


VARIABLES: tuple[str, ...] = tuple(
    name.upper() for name in Settings.model_fields if name != "unset_placeholders"
)


def load_settings(root: Path = PROJECT_ROOT, **overrides: object) -> Settings:
    """Return the settings of this deployment; `overrides` lie on top (tests, notebooks).

    Raises SetupError with one line that names the variable, the fault and the fix.
    """
    above = _known({**dotenv_values(root / ".env"), **os.environ})
    environment = str(overrides.get("environment") or above.get("environment") or "development")
    below = _known(_read_files(root / "configs", environment))
    try:
        return Settings.model_validate({**below, **above, **overrides})
    except ValidationError as error:
        raise SetupError(_explain(error)) from None


def _read_files(folder: Path, environment: str) -> dict[str, Any]:
    names = [folder / "default.toml", folder / f"{environment}.toml"]
    layers = Dynaconf(settings_files=[str(n) for n in names], envvar_prefix=False, loaders=[])
    return dict(layers.as_dict())


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): values[name] for name in VARIABLES if values.get(name) not in (None, "")}


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0]).upper()
    fix = _FIXES.get(name, "correct it in the environment or in .env, or leave it unset")
    return f"{name}: {message[0].lower()}{message[1:]}; {fix}."


def read_variable(name: str) -> str | None:
    """Return one environment variable that is not a setting (tests, benchmarks)."""
    return os.environ.get(name) or None
