"""The price book: which model answers for a tier today, and what its tokens cost.

Money is integer micro-USD, rounded up once per call; an unknown model is `unpriced`, never free.
"""

import tomllib
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import ModelTier, Reservation, Usage

LOCAL = "local"
"""Whoever runs in this service costs nothing."""


class Cost(NamedTuple):
    """What a call costs. `unpriced`: the book has no price for the model."""

    micro_usd: int
    unpriced: bool = False


class Band(BaseModel):
    """Prices in USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached_input: Decimal | None = Field(default=None, ge=0)


class LongPromptBand(Band):
    """Prices that hold for the whole call once its prompt is longer than this."""

    above_input_tokens: int = Field(gt=0)


class ModelPrice(Band):
    """One model's prices from one day on."""

    model: str
    effective_from: date
    retired_on: date | None = None
    cache_write: Decimal | None = Field(default=None, ge=0)
    long_prompt: LongPromptBand | None = None
    source: str | None = None

    def band(self, input_tokens: int) -> Band:
        """Return the prices that hold for a prompt of this length."""
        long = self.long_prompt
        return long if long and input_tokens > long.above_input_tokens else self


class TierModel(BaseModel):
    """Who answers for a tier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    model: str


class PriceBook(BaseModel):
    """A version of the price book. Every ledger row names the version it was priced with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    as_of: date
    source: str
    tiers: dict[ModelTier, TierModel]
    models: tuple[ModelPrice, ...]

    def price_of(self, model: str, on: date) -> ModelPrice | None:
        """Return the newest entry of a model that has begun, None when there is none.

        A vendor's dated id (`gpt-4.1-2025-04-14`) is priced as the model it is a release of.
        """
        known = [
            p
            for p in self.models
            if (model == p.model or model.startswith(p.model + "-20")) and p.effective_from <= on
        ]
        return max(known, key=lambda p: (len(p.model), p.effective_from), default=None)

    def cost(self, model: str, usage: Usage, at: datetime | None = None) -> Cost:
        """Return what these tokens cost, rounded up to the micro-USD."""
        price = self.price_of(model, (at or datetime.now(UTC)).date())
        if price is None:
            return Cost(0, unpriced=True)
        band = price.band(usage.input_tokens)
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        cached_price = band.input if band.cached_input is None else band.cached_input
        micro = (
            (usage.input_tokens - cached) * band.input
            + cached * cached_price
            + usage.output_tokens * band.output
        )
        return Cost(int(micro.to_integral_value(ROUND_CEILING)))

    def entries(self) -> list[tuple[str, date, str]]:
        """Return each entry for the table of prices: model, first day, all of it as JSON."""
        return [(p.model, p.effective_from, p.model_dump_json()) for p in self.models]

    def retired_tiers(self, on: date) -> dict[ModelTier, str]:
        """Return what is wrong with tiers that nobody can answer on a day, or at no known price."""
        faults = {}
        for tier, answering in self.tiers.items():
            price = self.price_of(answering.model, on)
            if price is None:
                faults[tier] = f"{answering.model} has no price"
            elif price.retired_on and price.retired_on <= on:
                faults[tier] = f"{answering.model} is retired since {price.retired_on}"
        return faults

    def reservation(
        self, tier: ModelTier, *, most_input_tokens: int, most_output_tokens: int
    ) -> Reservation:
        """Return whom a tier asks, and the most that one call of these bounds may cost."""
        answering = self.tiers[tier]
        if answering.provider == LOCAL:
            return Reservation(LOCAL, answering.model, self.version)
        cost = self.cost(answering.model, Usage(most_input_tokens, most_output_tokens))
        return Reservation(
            answering.provider, answering.model, self.version, cost.micro_usd, cost.unpriced
        )


def load_price_book(path: Path) -> PriceBook:
    """Return the book in a TOML file. Raises SetupError with one line."""
    try:
        return PriceBook.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        words = " ".join(str(error).split())[:300]
        raise SetupError(f"{path.name}: not a price book ({words}).") from error
