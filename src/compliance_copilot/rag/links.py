"""Which generator answers for a tier, and by whose key: the tenant's own, else the service's.

Must not enter: the order of a chain, vendors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import EffectiveConfig, ModelTier, SealedKey
from compliance_copilot.rag.attempting import Link
from compliance_copilot.rag.ports import Generator

UNREADABLE_KEY = "the tenant's own key cannot be used here"
OwnGenerator = Callable[[SealedKey], Generator | None]
"""Gives the generator that calls by a tenant's key; None when the key cannot be opened."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The provider and the model that answer for a tier today, and what is said without a key."""

    provider: str
    model: str
    missing: str = ""


class Links:
    """The tiers of the price book, each with what can answer for it here."""

    def __init__(
        self,
        seats: Mapping[ModelTier, Seat],
        generators: Mapping[str, Generator],
        own: OwnGenerator | None = None,
    ) -> None:
        self._seats = seats
        self._generators = generators
        self._own = own

    def link(self, tier: ModelTier, config: EffectiveConfig) -> Link | None:
        """Return what answers for a tier, None when nobody does.

        A tenant's own key is used alone: when it fails, the service's key does not pay for it.
        """
        seat = self._seats.get(tier)
        if seat is None:
            return None
        key = self._key(seat, config)
        if key is not None and self._own is not None:
            generator = self._own(key)
            return Link(tier, generator, seat.model, key.tenant_id) if generator else None
        generator = self._generators.get(seat.provider)
        return Link(tier, generator, seat.model) if generator else None

    def missing(self, tier: ModelTier, config: EffectiveConfig) -> str | None:
        """Return why a tier cannot answer, None when it can."""
        seat = self._seats.get(tier)
        if seat is None or self.link(tier, config) is not None:
            return None
        own = self._own is not None and self._key(seat, config) is not None
        return UNREADABLE_KEY if own else seat.missing or None

    @staticmethod
    def _key(seat: Seat, config: EffectiveConfig) -> SealedKey | None:
        for key in config.own_keys:
            if key.provider == seat.provider:
                return key
        return None
