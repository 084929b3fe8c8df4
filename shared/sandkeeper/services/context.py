"""What a model has to know to write code that works in a chat's sandbox.

Asking for it never makes or wakes a sandbox.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from sandkeeper.errors import SandkeeperError
from sandkeeper.model import ChatKey, Clock, EndReason, FileRecord, SessionState
from sandkeeper.ports import FileCatalog, PackageList, PackageLists, SandboxGone, SandboxProvider
from sandkeeper.runs import MAX_OUTPUT_BYTES
from sandkeeper.services.control import Activity, SessionControl, SessionInfo
from sandkeeper.services.requests import MAX_LIMIT, REPLY_BYTES

FRESH = timedelta(days=7)
"""A list of packages that is older gives way to one of a sandbox that has run more code."""

ASSUMED = (
    *("aiohttp", "beautifulsoup4", "bokeh", "gensim", "imageio", "joblib", "librosa", "matplotlib", "nltk"),
    *("numpy", "opencv-python", "openpyxl", "pandas", "pillow", "plotly", "pytest", "python-docx", "pytz"),
    *("requests", "scikit-image", "scikit-learn", "scipy", "seaborn", "soundfile", "spacy", "sympy", "textblob"),
    *("urllib3", "xarray", "xlrd"),
)
"""What E2B's code-interpreter image is made with.

Source: template/requirements.txt of github.com/e2b-dev/code-interpreter.
"""

PackageSource = Literal["sandbox", "template", "assumed"]
"""Who says so: the chat's sandbox just now; another one of its template, lately; or nobody."""

Prospect = Literal[Activity, "ended", "none"]
"""What the session is doing; `ended`: there was one; `none`: no code has run in the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the next run will find."""

    session: Prospect
    has_variables: bool
    """Variables of earlier runs are there, for all that is known."""
    reason: EndReason | None = None
    """Why they are gone, where they are."""
    run_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The Python packages that code can import: name → version, None where that is not known."""

    source: PackageSource
    versions: Mapping[str, str | None]
    added: Sequence[str] = ()
    """Which of them this sandbox has beside its template's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLimits:
    """What a run may use."""

    default_ms: int
    max_ms: int
    text_bytes: int
    reply_bytes: int

    @classmethod
    def of(cls, default_ms: int) -> "CodeLimits":
        """Returns the limits of a service whose runs have this one by default."""
        return cls(
            default_ms=default_ms,
            max_ms=round(MAX_LIMIT / timedelta(milliseconds=1)),
            text_bytes=MAX_OUTPUT_BYTES,
            reply_bytes=REPLY_BYTES,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatContext:
    """All of it, for one chat."""

    key: ChatKey
    outlook: Outlook
    files: Sequence[FileRecord]
    installed: Installed
    limits: CodeLimits = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Gathers what is known of chats' sandboxes."""

    control: SessionControl
    catalog: FileCatalog
    sandboxes: SandboxProvider
    lists: PackageLists
    template: str
    limits: CodeLimits
    beside: Executor
    clock: Clock

    def of(self, key: ChatKey) -> ChatContext:
        """Returns the chat's context. A chat that nobody has heard of has one too."""
        files = self.beside.submit(self.catalog.of_chat, key)
        known = self.beside.submit(self.lists.recall, self.template)
        info = self.control.find(key)
        return ChatContext(
            key=key,
            outlook=self._without_session(key) if info is None else _outlook(info),
            installed=self._installed(info, known.result()),
            files=files.result(),
            limits=self.limits,
        )

    def _without_session(self, key: ChatKey) -> Outlook:
        row = self.control.sessions.store.read(key)
        if row is None:
            return Outlook(session="none", has_variables=False)
        has_ended = row.state in (SessionState.CLOSING, SessionState.CLOSED)
        reason = row.end_reason if has_ended else EndReason.EXPIRED
        return Outlook(session="ended", has_variables=False, reason=reason)

    def _installed(self, info: SessionInfo | None, known: PackageList | None) -> Installed:
        told = None if info is None else self._told(info)
        if info is not None and told is not None:
            self._keep(PackageList(packages=told, run_count=info.session.run_count, told_at=self.clock()), known)
            added = () if known is None else tuple(name for name in told if name not in known.packages)
            return Installed(source="sandbox", versions=told, added=added)
        if known is not None:
            return Installed(source="template", versions=known.packages)
        return Installed(source="assumed", versions=dict.fromkeys(ASSUMED))

    def _told(self, info: SessionInfo) -> Mapping[str, str] | None:
        """Returns what the session's sandbox has; None where it cannot be asked: then others tell."""
        if info.awake is None:
            return None
        try:
            return self.sandboxes.packages(info.awake)
        except (SandboxGone, SandkeeperError):
            return None

    def _keep(self, told: PackageList, known: PackageList | None) -> None:
        """Keeps the list for chats without a sandbox.

        The known one stays for some days where its sandbox had run less code, which may have installed something.
        """
        is_stale = known is None or known.told_at < told.told_at - FRESH
        is_better = known is None or (told.run_count <= known.run_count and told.packages != known.packages)
        if is_stale or is_better:
            with suppress(SandkeeperError):  # the next who asks tries again
                self.lists.keep(self.template, told)


def _outlook(info: SessionInfo) -> Outlook:
    session = info.session
    reason = session.reset_reason
    has_variables = session.run_count > 0 and reason is None
    return Outlook(session=info.activity, has_variables=has_variables, reason=reason, run_count=session.run_count)
