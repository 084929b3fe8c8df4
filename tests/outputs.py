"""Outputs that a sandbox could send, also one whose runner was tampered with."""

from typing import Any

from hypothesis import strategies as st

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs import CHART, DATA

TEXT = st.text(st.characters(), max_size=40)
"""Also with halves of characters, which JSON can spell."""

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
"""What `json.loads` can return."""

MIME_TYPES = (
    st.sampled_from(
        [
            "text/plain",
            "text/html",
            "text/markdown",
            "text/latex",
            "text/javascript",
            "image/png",
            "image/jpeg",
            "image/svg+xml",
            "application/pdf",
            "application/json",
            "application/json\n",
            "application/vnd.plotly.v1+json",
            CHART,
            DATA,
        ]
    )
    | TEXT
)

OUTPUTS: st.SearchStrategy[Output] = (
    st.builds(Stream, st.sampled_from(["stdout", "stderr"]), TEXT)
    | st.builds(Display, st.dictionaries(MIME_TYPES, VALUES, max_size=5), st.booleans())
    | st.builds(Raised, TEXT, TEXT, TEXT)
)
