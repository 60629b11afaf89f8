"""What `doctor` finds of providers: a key that is refused, one that is missing, old prices."""

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from compliance_copilot.cli.findings import Finding, failed, passed, warned
from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import Operation

if TYPE_CHECKING:
    from compliance_copilot.settings import Settings

_LOOK_SECONDS = 5.0
_OLD_PRICES_DAYS = 120
_REFUSED = (401, 403)


def look_at_providers(settings: "Settings") -> Iterator[Finding]:
    """Ask each provider that has a key whether it takes it, and tell of keys that are missing."""
    from compliance_copilot.readiness import KEYS, missing_reason, unused_key

    for provider, field in KEYS.items():
        key = getattr(settings, field)
        if key is None:
            yield passed(provider, f"{field.upper()} is not set")
        else:
            yield _asked(settings, provider, field.upper(), key.get_secret_value())
    note = unused_key(settings)
    if note:
        yield warned("vector_store", *note.split("; to switch, ", 1))
    reason = missing_reason(settings, Operation.QUERY)
    if reason:
        fix = "Set that key, or name another provider (GENERATION_PROVIDER=auto needs none)."
        yield failed("generation", reason, fix)
    else:
        yield passed("generation", f"GENERATION_PROVIDER={settings.generation_provider}")


def _asked(settings: "Settings", provider: str, variable: str, key: str) -> Finding:
    address, headers = _list_call(settings, provider, key)
    told = f"{variable} is set"
    try:
        with _OPENER.open(urllib.request.Request(address, headers=headers), timeout=_LOOK_SECONDS):  # noqa: S310 - the operator's own setting
            return passed(provider, f"{told} and taken by {address}")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _REFUSED:
            fix = f"Set {variable} to a key that is valid there, or remove it."
            return failed(provider, f"{told} and refused by {address} ({error.code})", fix)
        fix = f"Look at the vendor's status, and at {provider.upper()}_BASE_URL if it is set."
        return warned(provider, f"{told}; {address} answers {error.code}", fix)
    except (OSError, ValueError) as error:
        fix = "Check the way out: DNS, proxy, firewall. Until then answers come by fallback."
        return warned(provider, f"{told}; {address} cannot be reached ({_words(error)})", fix)


def _list_call(settings: "Settings", provider: str, key: str) -> tuple[str, Mapping[str, str]]:
    """Return a call that costs nothing and needs a valid key: address and headers."""
    if provider == "openai":
        base = settings.openai_base_url or "https://api.openai.com/v1"
        return f"{base.rstrip('/')}/models", {"Authorization": f"Bearer {key}"}
    if provider == "anthropic":
        base = settings.anthropic_base_url or "https://api.anthropic.com"
        version = {"anthropic-version": "2023-06-01"}
        return f"{base.rstrip('/')}/v1/models", {"x-api-key": key, **version}
    return f"{settings.pinecone_controller_host.rstrip('/')}/indexes", {"Api-Key": key}


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a key goes to the address that was named, and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Staying)


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__


def look_at_prices(settings: "Settings") -> Iterator[Finding]:
    """Compare the price book with the day: its age, and models without a price."""
    from compliance_copilot.billing.prices import load_price_book
    from compliance_copilot.readiness import KEYS
    from compliance_copilot.settings import PROJECT_ROOT

    try:
        book = load_price_book(PROJECT_ROOT / "configs" / "prices.toml")
    except SetupError as error:
        yield failed("prices", error.detail, "Mend configs/prices.toml.")
        return
    today = utc_now().date()
    if (today - book.as_of).days > _OLD_PRICES_DAYS:
        fix = "Compare it with the providers' lists and move its as_of."
        yield warned("prices", f"the price book is of {book.as_of}", fix)
    for tier, answering in book.tiers.items():
        key = KEYS.get(answering.provider)
        used = key is None or getattr(settings, key) is not None
        fault = _price_fault(book.price_of(answering.model, today), today)
        detail = f"tier {tier} is answered by {answering.model}"
        if fault is None:
            yield passed("prices", detail)
            continue
        fix = "Name a current model for the tier in configs/prices.toml, with its price."
        yield (failed if used else warned)("prices", f"{detail}, which {fault}", fix)


def _price_fault(price: object, today: date) -> str | None:
    if price is None:
        return "has no price: its use would be unpriced"
    retired: date | None = getattr(price, "retired_on", None)
    return f"was retired on {retired}" if retired is not None and retired <= today else None
