"""The composition root: the only importer of adapters.

Everything is made when it is first needed, so that a function pays for nothing it does not use, and nothing
unique or connected exists before a snapshot of it is taken.
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sandkeeper.errors import NotConfigured
from sandkeeper.log_context import Threads
from sandkeeper.model import ApiKey, ChatKey, utc_now
from sandkeeper.ports import (
    ApiKeyStore,
    ArtifactCatalog,
    ArtifactContents,
    FileCatalog,
    FileContents,
    NotebookStore,
    PackageLists,
    ResultStore,
    RunLog,
    SandboxProvider,
    SessionStore,
    SweepStore,
    TokenVerifier,
)
from sandkeeper.settings import ApiSettings, CleanupSettings, IngestSettings, McpSettings, SandboxSettings, Settings

if TYPE_CHECKING:
    from sandkeeper.adapters.dynamodb import Table
    from sandkeeper.adapters.s3 import S3RunBodies
    from sandkeeper.services.artifacts import Artifacts
    from sandkeeper.services.auth import Authenticate
    from sandkeeper.services.cell_runs import CellRuns
    from sandkeeper.services.cleanup import Cleanup
    from sandkeeper.services.collect import Collect
    from sandkeeper.services.context import Context
    from sandkeeper.services.control import SessionControl
    from sandkeeper.services.ending import Ending
    from sandkeeper.services.execute import Execute
    from sandkeeper.services.executions import Executions
    from sandkeeper.services.files import Files
    from sandkeeper.services.history import History
    from sandkeeper.services.hydrate import Hydrate
    from sandkeeper.services.ingest import Ingest
    from sandkeeper.services.notebook_feed import NotebookFeed
    from sandkeeper.services.notebook_plans import NotebookPlans
    from sandkeeper.services.notebooks import Notebooks
    from sandkeeper.services.overflow import Overflow
    from sandkeeper.services.packages import Packages
    from sandkeeper.services.prompts import Prompts
    from sandkeeper.services.sessions import Sessions
    from sandkeeper.telemetry import LambdaJournal

THREADS = 32
"""For what runs beside a call: mostly waiting for other machines."""


def new_ulid() -> str:
    """Returns a fresh ULID: unique, and in the order of time."""
    from ulid import ULID  # noqa: PLC0415 - see the module's docstring

    return str(ULID())


def _client(service: str) -> Any:
    """Returns a client of an AWS service. See `adapters.aws`."""
    from sandkeeper.adapters.aws import client  # noqa: PLC0415

    return client(service, connections=THREADS, is_elsewhere=bool(os.environ.get("AWS_ENDPOINT_URL")))


class _Tables:
    """The stores on the one table."""

    settings: Settings

    @cached_property
    def journal(self) -> "LambdaJournal":
        """The function's log and metrics."""
        from sandkeeper.telemetry import LambdaJournal  # noqa: PLC0415

        return LambdaJournal()

    @cached_property
    def table(self) -> "Table":
        """The one table."""
        from sandkeeper.adapters.dynamodb import Table  # noqa: PLC0415

        return Table(_client("dynamodb"), self.settings.table_name)

    @cached_property
    def store(self) -> SessionStore:
        """The rows of sessions."""
        from sandkeeper.adapters.dynamodb import DynamoSessionStore  # noqa: PLC0415

        return DynamoSessionStore(self.table)

    @cached_property
    def catalog(self) -> FileCatalog:
        """The records of files."""
        from sandkeeper.adapters.dynamodb import DynamoFileCatalog  # noqa: PLC0415

        return DynamoFileCatalog(self.table)

    @cached_property
    def beside(self) -> Threads:
        """The threads for what runs beside a call."""
        return Threads(THREADS, thread_name_prefix="beside")


class _Sandboxes(_Tables):
    """What also talks to E2B."""

    settings: SandboxSettings

    @cached_property
    def sandboxes(self) -> SandboxProvider:
        """E2B's sandboxes."""
        from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider  # noqa: PLC0415

        settings = self.settings
        return E2BSandboxProvider(
            lambda: E2BAccount(
                api_key=self.e2b_api_key,
                template=settings.e2b_template,
                api_url=settings.e2b_api_url,
                sandbox_url=settings.e2b_sandbox_url,
            )
        )

    @cached_property
    def e2b_api_key(self) -> str:
        """The key to E2B: given directly, or read once from its secret."""
        settings = self.settings
        if settings.e2b_api_key:
            return settings.e2b_api_key
        if settings.e2b_api_key_secret_id:
            return _secret(settings.e2b_api_key_secret_id, "E2B_API_KEY_SECRET_ID")
        raise NotConfigured(
            "there is no key to E2B: set E2B_API_KEY, or E2B_API_KEY_SECRET_ID to the secret that holds it"
        )

    @cached_property
    def runs(self) -> RunLog:
        """The log of runs."""
        from sandkeeper.adapters.dynamodb import DynamoRunLog  # noqa: PLC0415

        return DynamoRunLog(self.table, self.bodies)

    @cached_property
    def bodies(self) -> "S3RunBodies":
        """Outputs too large for the log's rows."""
        from sandkeeper.adapters.s3 import S3RunBodies  # noqa: PLC0415

        return S3RunBodies(lambda: self.s3, self.settings.bucket_name)

    @cached_property
    def s3(self) -> Any:
        """The client of S3."""
        return _client("s3")

    @cached_property
    def collect(self) -> "Collect":
        """See runs to their end."""
        from sandkeeper.services.collect import Collect  # noqa: PLC0415

        return Collect(
            store=self.store,
            sandboxes=self.sandboxes,
            runs=self.runs,
            artifacts=self.artifacts,
            lifetimes=self.settings.lifetimes,
            clock=utc_now,
            journal=self.journal,
        )

    @cached_property
    def artifact_catalog(self) -> ArtifactCatalog:
        """The records of artifacts."""
        from sandkeeper.adapters.dynamodb import DynamoArtifactCatalog  # noqa: PLC0415

        return DynamoArtifactCatalog(self.table)

    @cached_property
    def artifact_contents(self) -> ArtifactContents:
        """The bytes of artifacts."""
        from sandkeeper.adapters.s3 import S3ArtifactContents  # noqa: PLC0415

        return S3ArtifactContents(lambda: self.s3, self.settings.bucket_name, new_ulid)

    @cached_property
    def artifacts(self) -> "Artifacts":
        """Keep the files that runs leave behind."""
        from sandkeeper.services.artifacts import AT_ONCE, Artifacts  # noqa: PLC0415

        return Artifacts(
            catalog=self.artifact_catalog,
            contents=self.artifact_contents,
            sandboxes=self.sandboxes,
            copying=Threads(AT_ONCE, thread_name_prefix="copying"),
            journal=self.journal,
        )


class ApiWiring(_Sandboxes):
    """What the API serves. The environment is read at the first request."""

    @cached_property
    def settings(self) -> ApiSettings:  # type: ignore[override]
        """The function's environment."""
        return ApiSettings.read(os.environ)

    @cached_property
    def sessions(self) -> "Sessions":
        """The session protocol."""
        from sandkeeper.services.quota import SessionQuota  # noqa: PLC0415
        from sandkeeper.services.sessions import Sessions  # noqa: PLC0415

        return Sessions(
            store=self.store,
            sandboxes=self.sandboxes,
            lifetimes=self.settings.lifetimes,
            quota=SessionQuota(self.store, self.settings.max_sessions_per_owner),
            collect=self.collect,
            stack=self.settings.stack_name,
            clock=utc_now,
            new_id=new_ulid,
        )

    @cached_property
    def contents(self) -> FileContents:
        """The bytes of files."""
        from sandkeeper.adapters.s3 import S3FileContents  # noqa: PLC0415

        return S3FileContents(self.s3, self.settings.bucket_name)

    @cached_property
    def keys(self) -> ApiKeyStore:
        """The API keys."""
        from sandkeeper.adapters.dynamodb import DynamoApiKeyStore  # noqa: PLC0415

        return DynamoApiKeyStore(self.table)

    @cached_property
    def authenticate(self) -> "Authenticate":
        """Bearer token → owner."""
        from sandkeeper.services.auth import Authenticate  # noqa: PLC0415

        return Authenticate(self.keys, self.tokens, utc_now)

    @cached_property
    def tokens(self) -> TokenVerifier | None:
        """The verifier of JSON Web Tokens, where the deployment takes them."""
        settings = self.settings
        if not (settings.jwt_jwks_url or settings.jwt_secret or settings.jwt_secret_id):
            return None
        from sandkeeper.adapters import jwt  # noqa: PLC0415

        if settings.jwt_jwks_url:
            return jwt.of_issuer(settings.jwt_jwks_url, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
        secret = settings.jwt_secret or _secret(settings.jwt_secret_id or "", "JWT_SECRET_ID")
        return jwt.of_secret(secret, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    @cached_property
    def hydrate(self) -> "Hydrate":
        """Files into sandboxes."""
        from sandkeeper.services.hydrate import Hydrate  # noqa: PLC0415

        return Hydrate(self.catalog, self.contents, self.sandboxes, self.beside)

    @cached_property
    def execute(self) -> "Execute":
        """Run code."""
        from sandkeeper.services.execute import Execute  # noqa: PLC0415

        self.e2b_api_key  # noqa: B018 - a missing key is told before anything is claimed
        return Execute(
            sessions=self.sessions,
            executions=self.executions,
            hydrate=self.hydrate,
            sandboxes=self.sandboxes,
            runs=self.runs,
            beside=self.beside,
            new_id=new_ulid,
            journal=self.journal,
        )

    @cached_property
    def executions(self) -> "Executions":
        """Look at runs, follow them, stop them."""
        from sandkeeper.services.executions import Executions  # noqa: PLC0415

        return Executions(self.sessions, self.collect, self.runs)

    @cached_property
    def results(self) -> ResultStore:
        """Results that are too large for a reply."""
        from sandkeeper.adapters.s3_results import S3ResultStore  # noqa: PLC0415

        return S3ResultStore(lambda: self.s3, self.settings.bucket_name)

    @cached_property
    def overflow(self) -> "Overflow":
        """Fit results into replies."""
        from sandkeeper.services.overflow import Overflow  # noqa: PLC0415

        return Overflow(self.results, self.beside, self.journal)

    @cached_property
    def control(self) -> "SessionControl":
        """Look at sessions, interrupt, restart."""
        from sandkeeper.services.control import SessionControl  # noqa: PLC0415

        return SessionControl(self.sessions)

    @cached_property
    def history(self) -> "History":
        """Look back at runs."""
        from sandkeeper.services.history import History  # noqa: PLC0415

        return History(self.runs, self.catalog, self.beside, utc_now)

    @cached_property
    def notebook_store(self) -> NotebookStore:
        """Heads, parts and changes of notebooks."""
        from sandkeeper.adapters.dynamodb import DynamoNotebookStore  # noqa: PLC0415
        from sandkeeper.adapters.s3 import S3PartBodies  # noqa: PLC0415

        bodies = S3PartBodies(lambda: self.s3, self.settings.bucket_name)
        return DynamoNotebookStore(self.table, bodies, self.beside)

    @cached_property
    def notebooks(self) -> "Notebooks":
        """Notebooks, as editors see them."""
        from sandkeeper.services.notebooks import Notebooks  # noqa: PLC0415

        return Notebooks(self.notebook_store, utc_now, new_ulid)

    @cached_property
    def cell_runs(self) -> "CellRuns":
        """Run cells of notebooks."""
        from sandkeeper.services.cell_runs import CellRuns  # noqa: PLC0415

        return CellRuns(
            notebooks=self.notebooks,
            execute=lambda request: self.execute(request),  # noqa: PLW0108 - reading needs no key to E2B
            executions=self.executions,
            runs=self.runs,
            journal=self.journal,
        )

    @cached_property
    def notebook_feed(self) -> "NotebookFeed":
        """Follow notebooks."""
        from sandkeeper.services.notebook_feed import NotebookFeed  # noqa: PLC0415

        return NotebookFeed(self.notebook_plans)

    @cached_property
    def notebook_plans(self) -> "NotebookPlans":
        """Run all cells of notebooks."""
        from sandkeeper.services.notebook_plans import NotebookPlans  # noqa: PLC0415

        return NotebookPlans(self.cell_runs)

    @cached_property
    def package_lists(self) -> PackageLists:
        """What is known of templates' packages."""
        from sandkeeper.adapters.dynamodb import DynamoPackageLists  # noqa: PLC0415

        return DynamoPackageLists(self.table)

    @cached_property
    def context(self) -> "Context":
        """Tell models what there is to work with."""
        from sandkeeper.services.context import CodeLimits, Context  # noqa: PLC0415

        return Context(
            control=self.control,
            catalog=self.catalog,
            sandboxes=self.sandboxes,
            lists=self.package_lists,
            template=self.settings.e2b_template,
            limits=CodeLimits.of(self.settings.e2b_sandbox_timeout),
            beside=self.beside,
            clock=utc_now,
        )

    @cached_property
    def prompts(self) -> "Prompts":
        """Tell models how to work with it."""
        from sandkeeper.services.prompts import Prompts  # noqa: PLC0415

        return Prompts(self.context, self.history, self.notebooks)

    @cached_property
    def packages(self) -> "Packages":
        """Install packages."""
        from sandkeeper.services.packages import Packages  # noqa: PLC0415

        return Packages(self.execute)

    @cached_property
    def files(self) -> "Files":
        """Register, describe, delete files."""
        from sandkeeper.services.files import FileLimits, Files  # noqa: PLC0415

        return Files(
            catalog=self.catalog,
            contents=self.contents,
            sessions=self.sessions,
            limits=FileLimits(max_bytes=self.settings.max_file_bytes, max_files=self.settings.max_files_per_chat),
            clock=utc_now,
            new_id=new_ulid,
            journal=self.journal,
        )


class McpWiring(ApiWiring):
    """What the MCP function serves: the same services."""

    @cached_property
    def settings(self) -> McpSettings:  # type: ignore[override]
        """The function's environment."""
        return McpSettings.read(os.environ)


class CleanupWiring(_Sandboxes):
    """What the cleanup function uses."""

    @cached_property
    def settings(self) -> CleanupSettings:  # type: ignore[override]
        """The function's environment."""
        return CleanupSettings.read(os.environ)

    @cached_property
    def cleanup(self) -> "Cleanup":
        """End what has expired."""
        from sandkeeper.services.cleanup import Cleanup  # noqa: PLC0415
        from sandkeeper.services.reconcile import Reconcile  # noqa: PLC0415

        reconcile = Reconcile(self.ending, self.settings.stack_name, self.sweeps, self.beside, self.journal)
        return Cleanup(self.ending, reconcile, self.beside, self.journal)

    @cached_property
    def ending(self) -> "Ending":
        """How sessions end."""
        from sandkeeper.services.ending import Ending  # noqa: PLC0415

        return Ending(self.store, self.sandboxes, self.collect, self.settings.lifetimes, utc_now, new_ulid)

    @cached_property
    def sweeps(self) -> SweepStore:
        """How far the sweep through all sandboxes has come."""
        from sandkeeper.adapters.dynamodb import DynamoSweepStore  # noqa: PLC0415

        return DynamoSweepStore(self.table)


class IngestWiring(_Tables):
    """What the file-ingest function uses: neither E2B nor FastAPI."""

    @cached_property
    def settings(self) -> IngestSettings:  # type: ignore[override]
        """The function's environment."""
        return IngestSettings.read(os.environ)

    @cached_property
    def ingest(self) -> "Ingest":
        """Read what a file holds."""
        from sandkeeper.adapters.reading.process import ProcessContentReader  # noqa: PLC0415
        from sandkeeper.adapters.s3 import S3FileContents  # noqa: PLC0415
        from sandkeeper.services.ingest import Ingest  # noqa: PLC0415

        contents = S3FileContents(_client("s3"), self.settings.bucket_name)
        # Lambda's Python finds its own library by this.
        libraries = {name: path for name in ("LD_LIBRARY_PATH",) if (path := os.environ.get(name))}
        return Ingest(self.catalog, contents, self.store, ProcessContentReader(libraries), self.journal)

    def file_at(self, object_key: str) -> tuple[ChatKey, str] | None:
        """Returns whose file the object is, None for one that is not a chat's file."""
        from sandkeeper.adapters.s3 import file_at  # noqa: PLC0415

        return file_at(object_key)


def register_api_key(token: str, owner: str, name: str) -> None:
    """Lets `token` speak for `owner`. Only its hash is kept; the same token again replaces its entry."""
    from sandkeeper.services.auth import hash_token  # noqa: PLC0415

    ApiWiring().keys.put(ApiKey(token_hash=hash_token(token), owner=owner, name=name, created_at=utc_now()))


def _secret(secret_id: str, setting: str) -> str:
    """Returns a secret's text. Raises `NotConfigured`, naming the setting that led to it."""
    from sandkeeper.adapters.aws import secret  # noqa: PLC0415

    return secret(_client("secretsmanager"), secret_id, setting)
