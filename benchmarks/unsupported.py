# ruff: noqa: E501  (facts and swaps read best one to a line)
"""Planted unsupported sentences: how many does the checking of quotes catch, how many good ones
does it refuse?

Made-up facts in English and German, each with honest retellings; then each retelling is spoilt in
one way. Run: `python -m benchmarks.unsupported --seed 7 --rounds 40`. Exits 1 below 95 % caught or
above 2 % false alarms (acceptance row 17).
"""

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from compliance_copilot.core.vocabulary import Chunk, DraftSentence, Quote, ScoredChunk
from compliance_copilot.rag.citations import check


@dataclass(frozen=True)
class Fact:
    """A stored sentence and honest ways to retell it."""

    stored: str
    told: tuple[str, ...]


FACTS = (
    Fact("Backups of {system} must be kept for {n} {unit} and then destroyed.",
         ("{system} backups must be retained for {n} {unit}.", "Backups of {system} must be kept {n} {unit}.",
          "For {n} {unit}, backups of {system} must be kept; then they are destroyed.")),
    Fact("The {role} reviews all access rights of {system} every {n} {unit}.",
         ("Access rights of {system} are reviewed every {n} {unit} by the {role}.",
          "The {role} reviews {system} access rights every {n} {unit}.")),
    Fact("Suppliers shall report a security incident within {n} {unit} of detection to the {role}.",
         ("A security incident shall be reported to the {role} within {n} {unit}.",
          "Suppliers must report security incidents to the {role} within {n} {unit} of detecting them.")),
    Fact("Employees must not share passwords with colleagues or the {role}.",
         ("Passwords must not be shared with colleagues.", "Sharing passwords with the {role} is not allowed: employees must not do so.")),
    Fact("Visitors may enter the server room only together with the {role}.",
         ("Visitors may enter the server room together with the {role} only.",
          "Only together with the {role} may visitors enter the server room.")),
    Fact("A password must have at least {n} characters and must not contain the user name.",
         ("Passwords must have at least {n} characters.", "At least {n} characters are required for a password.")),
    Fact("Logs of {system} should be archived before the annual audit by the {role}.",
         ("{system} logs should be archived before the annual audit.",
          "The {role} should archive logs of {system} before the annual audit.")),
    Fact("From {date} onwards, {system} encrypts all customer data at rest with AES-256.",
         ("Since {date}, all customer data in {system} is encrypted at rest with AES-256.",
          "{system} encrypts all customer data at rest with AES-256 from {date} onwards.")),
    Fact("The contract with the supplier ends on {date} unless the {role} extends it.",
         ("The supplier contract ends on {date} unless extended by the {role}.",
          "Unless the {role} extends it, the contract with the supplier ends on {date}.")),
    Fact("Private devices are prohibited in {system} without written approval of the {role}.",
         ("Private devices are prohibited in {system} without written approval.",
          "Without written approval of the {role}, private devices are not allowed in {system}: they are prohibited.")),
    Fact("The training takes {n} {unit} and is mandatory for external staff.",
         ("The mandatory training for external staff takes {n} {unit}.",
          "External staff must complete training that takes {n} {unit}.")),
    Fact("Invoices above {n} euro need the signature of the {role}.",
         ("The {role} signs invoices above {n} euro.", "Invoices above {n} euro need a signature by the {role}.")),
    Fact("Vulnerabilities rated critical are patched in {system} no later than {n} {unit} after release.",
         ("Critical vulnerabilities in {system} are patched within {n} {unit} after release.",
          "{system}: vulnerabilities rated critical are patched no later than {n} {unit} after release.")),
    Fact("Sicherungen von {system} müssen {n} {einheit} aufbewahrt und danach vernichtet werden.",
         ("{system}-Sicherungen müssen {n} {einheit} aufbewahrt werden.",
          "Sicherungen von {system} müssen {n} {einheit} lang aufbewahrt werden.")),
    Fact("Beschäftigte dürfen Kennwörter nicht an Kollegen weitergeben.",
         ("Kennwörter dürfen nicht an Kollegen weitergegeben werden.",
          "Beschäftigte dürfen ihre Kennwörter nicht weitergeben.")),
    Fact("Lieferanten melden einen Sicherheitsvorfall innerhalb von {n} {einheit} an die Leitung.",
         ("Ein Sicherheitsvorfall wird von Lieferanten innerhalb von {n} {einheit} an die Leitung gemeldet.",
          "Innerhalb von {n} {einheit} melden Lieferanten einen Sicherheitsvorfall.")),
    Fact("Die Zugriffsrechte in {system} sollen jährlich vor der Prüfung kontrolliert werden.",
         ("Zugriffsrechte in {system} sollen jährlich vor der Prüfung kontrolliert werden.",
          "Vor der Prüfung sollen die Zugriffsrechte in {system} jährlich kontrolliert werden.")),
    Fact("Der Vertrag mit {system} endet am {datum} und darf verlängert werden.",
         ("Der Vertrag mit {system} endet am {datum}.", "Am {datum} endet der Vertrag mit {system}; er darf verlängert werden.")),
)  # fmt: skip

SYSTEMS = ("Orion", "Kestrel", "Maple", "Quarry", "Tundra", "Halcyon")
ROLES = ("CISO", "DPO", "Security Officer", "Works Council", "Compliance Manager")
UNITS = ("hours", "days", "weeks", "months", "years")
EINHEITEN = ("Stunden", "Tagen", "Wochen", "Monaten", "Jahren")
MONTHS = ("January", "March", "May", "August", "October")
MONATE = ("Januar", "März", "Mai", "August", "Oktober")
FILLERS = (
    "This section applies to all locations.",
    "The register is published on the intranet. Questions go to the service desk.",
    "Die Anlage nennt die Ansprechpartner der Standorte.",
)


def filled(rng: random.Random) -> Callable[[str], str]:
    """Return a function that fills the blanks of one fact the same way each time."""
    values = {
        "system": rng.choice(SYSTEMS), "role": rng.choice(ROLES), "n": str(rng.randint(2, 90)),
        "unit": rng.choice(UNITS), "einheit": rng.choice(EINHEITEN),
        "date": f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2019, 2027)}",
        "datum": f"{rng.randint(1, 28)}. {rng.choice(MONATE)} {rng.randint(2019, 2027)}",
    }  # fmt: skip
    return lambda template: template.format(**values)


def source(text: str, rng: random.Random, number: int) -> ScoredChunk:
    """Return a source that holds the text between others, at some offset of its document."""
    before, after = rng.sample(FILLERS, 2)
    whole = f"{before}\n\n{text} {after}"
    start = rng.randint(0, 5_000)
    chunk = Chunk(
        UUID(int=number), f"document-{number}", 1, 0, start, start + len(whole), whole, "Rules"
    )
    return ScoredChunk(chunk, 1.0)


# -- ways to spoil -----------------------------------------------------------------------------


def _swap(text: str, pairs: tuple[tuple[str, str], ...]) -> str | None:
    for old, new in pairs:
        if re.search(rf"\b{old}\b", text):
            return re.sub(rf"\b{old}\b", new, text, count=1)
    return None


def number(text: str, rng: random.Random) -> str | None:
    """Another number."""
    found = re.search(r"(?<![\w-])(?!20\d\d|19\d\d)\d+(?=[\s.])(?!\.? [A-Z])", text)
    if found is None:
        return None
    return (
        text[: found.start()] + str(int(found.group()) + rng.randint(1, 40)) + text[found.end() :]
    )


def unit(text: str, rng: random.Random) -> str | None:
    """Another unit behind the same number."""
    for units in (UNITS, EINHEITEN):
        for name in units:
            if re.search(rf"\d {name}\b", text):
                other = rng.choice([u for u in units if u != name])
                return re.sub(rf"(?<=\d ){name}\b", other, text)
    return None


def date(text: str, rng: random.Random) -> str | None:
    """Another year or month."""
    found = re.search(r"\b(?:19|20)\d\d\b", text)
    if found is None:
        return None
    if rng.random() < 0.5:
        return text.replace(found.group(), str(int(found.group()) + rng.choice((-3, 1, 2))))
    return _swap(text, (*zip(MONTHS, MONTHS[1:] + MONTHS[:1], strict=True),
                        *zip(MONATE, MONATE[1:] + MONATE[:1], strict=True)))  # fmt: skip


def negation(text: str, rng: random.Random) -> str | None:  # noqa: ARG001
    """Deny what is stated, or state what is denied."""
    return _swap(text, (("must not", "must"), ("is not", "is"), ("are not", "are"), ("dürfen nicht", "dürfen"),
                        ("Kennwörter nicht", "Kennwörter"), ("prohibited", "permitted"), ("must", "must not"),
                        ("shall", "shall not"), ("should", "should not"), ("may", "may not"), ("is", "is not"),
                        ("are", "are not"), ("ends", "never ends"), ("müssen", "müssen nicht"),
                        ("sollen", "sollen nicht"), ("endet", "endet nicht"), ("wird", "wird nicht"),
                        ("reviews", "never reviews"), ("encrypts", "never encrypts")))  # fmt: skip


def modal(text: str, rng: random.Random) -> str | None:  # noqa: ARG001
    """Make a duty of a permission, or the other way round ("may not" forbids as "must not" does)."""
    if re.search(r"must not|never", text):
        return None
    return _swap(text, (("must", "may"), ("shall", "can"), ("may", "must"), ("should", "must"), ("müssen", "können"),
                        ("sollen", "müssen"), ("dürfen", "müssen"), ("darf", "muss"), ("mandatory", "optional"),
                        ("reviews", "may review"), ("are reviewed", "must be reviewed"), ("ends", "may end"),
                        ("endet", "kann enden"), ("encrypts", "should encrypt")))  # fmt: skip


def name(text: str, rng: random.Random) -> str | None:
    """Another role or system."""
    for names in (ROLES, SYSTEMS):
        for old in names:
            if re.search(rf"(?<=\w ){old}\b", text):
                return text.replace(old, rng.choice([other for other in names if other != old]))
    return None


def scale(text: str, rng: random.Random) -> str | None:  # noqa: ARG001
    """The other end of a scale."""
    return _swap(text, (("at least", "at most"), ("At least", "At most"), ("annual", "monthly"), ("before", "after"),
                        ("above", "below"), ("jährlich", "täglich"), ("external", "internal"), ("External", "Internal"),
                        ("vor", "nach"), ("Vor", "Nach"), ("after release", "before release")))  # fmt: skip


CHANGES: dict[str, Callable[[str, random.Random], str | None]] = {
    "number": number, "unit": unit, "date": date, "negation": negation, "modal": modal,
    "name": name, "scale": scale,
}  # fmt: skip


def planted(
    told: str, stored: str, other: str, rng: random.Random
) -> Iterator[tuple[str, DraftSentence]]:
    """Yield every way to spoil a retelling of the first source (`other` is the second's fact)."""
    quotes = (Quote(0, stored),)
    for kind, change in CHANGES.items():
        spoilt = change(told, rng)
        if spoilt is not None and spoilt != told:
            yield kind, DraftSentence(spoilt, quotes)
            # The same, with the quote bent to fit: then the quote is not in the source.
            yield f"{kind}, bent quote", DraftSentence(spoilt, (Quote(0, spoilt),))
            yield f"{kind}, prose", DraftSentence(f"{spoilt} [1]", ())
    yield "no quote", DraftSentence(told, ())
    yield "unknown source", DraftSentence(told, (Quote(7, stored),))
    yield "wrong source", DraftSentence(told, (Quote(1, stored),))
    yield "other subject", DraftSentence(told, (Quote(1, other),))
    yield "invented", DraftSentence("Regulators praised the firm for its canteen.", quotes)


def honest(told: str, stored: str) -> Iterator[DraftSentence]:
    """Yield the retelling with its quote as models write them."""
    yield DraftSentence(told, (Quote(0, stored),))
    yield DraftSentence(
        f"{told} [1]", (Quote(0, f"“{stored.replace(' ', '  ', 1).rstrip('.')}…”"),)
    )
    yield DraftSentence(stored, (Quote(0, stored.replace("-", "–")),))
    yield DraftSentence(f"{told} [1]", ())


def run(seed: int, rounds: int) -> tuple[Counter[str], Counter[str], int, list[str]]:
    """Return planted and caught by kind, the number of honest sentences, and those refused."""
    rng = random.Random(seed)
    total: Counter[str] = Counter()
    caught: Counter[str] = Counter()
    good = 0
    refused: list[str] = []
    for _ in range(rounds):
        for n, fact in enumerate(FACTS):
            fill, fill_other = filled(rng), filled(rng)
            stored = fill(fact.stored)
            other = fill_other(FACTS[(n + 1 + rng.randrange(len(FACTS) - 1)) % len(FACTS)].stored)
            sources = [source(stored, rng, 0), source(other, rng, 1)]
            told = fill(rng.choice(fact.told))
            for draft in honest(told, stored):
                good += 1
                checked = check(draft, sources)
                if not checked.supported:
                    refused.append(f"{checked.reasons} {draft.text!r} <- {stored!r}")
            for kind, draft in planted(told, stored, other, rng):
                total[kind] += 1
                if check(draft, sources).supported:
                    refused_kind = f"missed {kind}: {draft.text!r} <- {stored!r}"
                    refused.append(refused_kind)
                else:
                    caught[kind] += 1
    return total, caught, good, refused


def main() -> int:
    """Print the table; return 1 when row 17 is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--show", type=int, default=0, help="print so many of the misses")
    options = parser.parse_args()
    total, caught, good, misses = run(options.seed, options.rounds)
    alarms = [miss for miss in misses if not miss.startswith("missed")]
    for kind in sorted(total):
        print(f"{kind:28} {caught[kind]:6} of {total[kind]:6}  {caught[kind] / total[kind]:8.2%}")
    share, false = sum(caught.values()) / sum(total.values()), len(alarms) / good
    print(f"seed {options.seed}: caught {share:.2%} of {sum(total.values())}; "
          f"false alarms {false:.2%} of {good} honest sentences")  # fmt: skip
    seen = dict.fromkeys(re.sub(r"\d+", "N", miss) for miss in misses)
    for miss in list(seen)[: options.show]:
        print("  ", miss)
    return 0 if share >= 0.95 and false <= 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
