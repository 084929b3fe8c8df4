"""Texts that must not get into any log: one for each thing that callers give us, and whoever calls."""

from tests.tour import Choices

WORD = "canary"
"""Is in each of them, and in nothing else."""

CHOICES = Choices(
    chat="canary-chat",
    code="print('canary of the code')",
    file_name="canary-name.csv",
    content_type="text/x-canary-type",
    package="canary-package",
    idempotency_key="canary-once",
    title="Canary of a title",
)
OWNER = "canary-owner@example.com"
TOKEN = "sk_canary_token"
CONTENT = b"canary,of\na,file\n"
OUTPUT = "canary of the output"
"""What code shows, raises, and names a file after."""

BAD_TOKENS = ("sk_canary_unknown", "eyJhbGciOiJIUzI1NiJ9.canary.canary", "canary")


def quoted_in(log: str) -> list[str]:
    """Returns the lines that tell what they must not: written out, or with their characters escaped or encoded."""
    return [line[:500] for line in log.splitlines() if WORD in line.lower()]
