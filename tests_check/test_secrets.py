"""No secret lies in the repository: keys of ours are told by their checksum, others by form."""

import re
import subprocess
from pathlib import Path

import pytest

from compliance_copilot.tenancy.keys import is_well_formed, make_secret

ROOT = Path(__file__).resolve().parents[1]
OURS = re.compile(r"cc_live_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")
OTHERS = {
    "an OpenAI key": re.compile(r"sk-(?:proj-)?[A-Za-z0-9_-]{32,}"),
    "an Anthropic key": re.compile(r"sk-ant-[A-Za-z0-9_-]{32,}"),
    "a Pinecone key": re.compile(r"pcsk_[A-Za-z0-9_]{32,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    "a private key": re.compile("-----BEGIN (?:[A-Z]+ )?PRIVATE " + "KEY-----"),
    "a password in an address": re.compile(
        r"postgres(?:ql)?://[^\s:@/'\"{}<>.]+:(?!password@|x@|wrong@|\.\.\.@)[^\s@/'\"{}<>]{12,}@"
    ),
}


def secrets_in(text: str) -> list[str]:
    """Return what a text gives away."""
    found = ["a key of ours" for key in OURS.findall(text) if is_well_formed(key)]
    return found + [name for name, form in OTHERS.items() if form.search(text)]


def test_no_file_of_the_repository_holds_a_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")[:-1]
    assert len(names) > 100
    given_away = {}
    for name in names:
        path = ROOT / name
        if path.is_file():
            found = secrets_in(path.read_text(encoding="utf-8", errors="replace"))
            if found:
                given_away[name] = found
    assert given_away == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"key = '{make_secret()}'", "a key of ours"),
        ("OPENAI_API_KEY=sk-" + "a1" * 20, "an OpenAI key"),
        ("sk-ant-" + "b2" * 20, "an Anthropic key"),
        ("AKIA" + "A1B2" * 4, "an AWS key"),
        ("-----BEGIN PRIVATE " + "KEY-----", "a private key"),
        ("postgresql://owner:" + "s3cret-s3cret@db/x", "a password in an address"),
    ],
    ids=["ours", "openai", "anthropic", "aws", "private", "address"],
)
def test_a_secret_of_each_kind_is_found(text: str, name: str) -> None:
    assert name in secrets_in(text)


def test_a_key_with_a_wrong_checksum_is_an_example_and_no_secret() -> None:
    assert secrets_in("cc_live_" + "0" * 43 + "_000000") == []
