"""Production is refused for what would make it unsafe, in one line each."""

from pathlib import Path

import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.settings import PROJECT_ROOT, load_settings

SAFE = {
    "environment": "production",
    "audit_signing_key": "5a0b1c2d3e4f6978" * 4,
    "secrets_key": "Zr2BnM5cYd7FgH1jPs4AeUXk3v9TqLw8",
    "admin_api_key": "Xk3v9TqLw8Zr2BnM5cYd7FgH1jPs4AeU",
    "database_url": "postgresql://cc:x@db.example.com/cc?sslmode=verify-full",
}


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"debug": True}, "DEBUG"),
        ({"audit_signing_key": None}, "AUDIT_SIGNING_KEY"),
        ({"audit_signing_key": "5a" * 32}, "AUDIT_SIGNING_KEY"),
        ({"secrets_key": None}, "SECRETS_KEY"),
        ({"secrets_key": "secret" * 8}, "SECRETS_KEY"),
        ({"admin_api_key": "a" * 40}, "ADMIN_API_KEY"),
        ({"admin_api_key": "short"}, "ADMIN_API_KEY"),
        ({"database_url": "postgresql://cc:x@db.example.com/cc"}, "DATABASE_URL"),
        ({"database_url": "postgresql://cc:x@/cc?host=10.1.2.3&sslmode=prefer"}, "DATABASE_URL"),
        ({"database_owner_url": "postgresql://o:x@db.example.com/cc"}, "DATABASE_OWNER_URL"),
    ],
)
def test_what_is_unsafe_in_production_is_refused_in_one_line(
    change: dict[str, object], variable: str
) -> None:
    with pytest.raises(SetupError) as refused:
        load_settings(PROJECT_ROOT, **{**SAFE, **change})
    assert refused.value.detail.startswith(f"{variable}: ")
    assert "\n" not in refused.value.detail
    if "short" not in change.values():
        load_settings(PROJECT_ROOT, **{**SAFE, **change, "environment": "development"})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cc:x@localhost/cc",
        "postgresql://cc:x@127.0.0.1:5433/cc",
        "postgresql://cc@/cc?host=/run/postgresql",
        "postgresql://cc:x@db.example.com/cc?sslmode=require",
    ],
)
def test_what_is_safe_starts(url: str) -> None:
    assert load_settings(PROJECT_ROOT, **{**SAFE, "database_url": url}).database_url is not None


def test_a_signing_key_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="audit key"):
        load_settings(tmp_path, audit_signing_key="not-hex")
