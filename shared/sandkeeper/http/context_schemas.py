"""What goes over the wire of a chat's context for models."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from sandkeeper.http import tools
from sandkeeper.http.schemas import ChatId, FileId, Wire
from sandkeeper.model import HOME, ColumnType, EndReason, FileKind, FileRecord, FileStatus, Table
from sandkeeper.prompts import Argument, Filled, Prompt, PromptName
from sandkeeper.services.briefing import briefing
from sandkeeper.services.context import ChatContext, CodeLimits, Installed, Outlook, PackageSource, Prospect

MOST_COLUMNS = 3_000
"""How many columns are told in all: a reply has 4 MB."""
TABLE_COLUMNS = 200
FILE_TABLES = 20
NAME_CHARS = 200


class ColumnInContext(Wire):
    """A column of a table."""

    name: str = Field(description=f"Cut at {NAME_CHARS} characters.")
    type: ColumnType = Field(description="`json`: lists or records; `empty`: no value in any row.")


class TableInContext(Wire):
    """A table in a file."""

    name: str | None = Field(description="A sheet's name; null where the file is one table.")
    columns: list[ColumnInContext] = Field(description=f"The first {TABLE_COLUMNS}, or fewer where there are many.")
    column_count: int = Field(description="How many there are in all.")
    row_count: int = Field(description="Without the header.")

    @classmethod
    def of(cls, table: Table, most: int) -> "TableInContext":
        """Returns the table with at most so many of its columns."""
        shown = table.columns[: min(most, TABLE_COLUMNS)]
        return cls(
            name=None if table.name is None else table.name[:NAME_CHARS],
            columns=[ColumnInContext(name=column.name[:NAME_CHARS], type=column.type) for column in shown],
            column_count=len(table.columns),
            row_count=table.row_count,
        )


class FileInContext(Wire):
    """A file of the chat."""

    file_id: FileId
    path: str = Field(description="Where it is in the sandbox once code runs.")
    name: str = Field(description="As it was uploaded.")
    status: FileStatus = Field(description="Only what is `ready` is in the sandbox once code runs.")
    kind: FileKind | None = Field(description="What it is by its content; null until that has been read.")
    size: int = Field(description="In bytes.")
    tables: list[TableInContext] = Field(description=f"The first {FILE_TABLES}.")
    table_count: int = Field(description="How many there are in all.")


class OutlookSchema(Wire):
    """What the next run will find."""

    state: Prospect = Field(description="`ended`: there was a session; `none`: no code has run in the chat.")
    has_variables: bool = Field(description="Variables of earlier runs are there, for all that is known.")
    reason: EndReason | None = Field(description="Why they are gone.")
    run_count: int = Field(description="How many runs the session has seen.")

    @classmethod
    def of(cls, outlook: Outlook) -> "OutlookSchema":
        """Returns the outlook as it goes over the wire."""
        return cls(
            state=outlook.session,
            has_variables=outlook.has_variables,
            reason=outlook.reason,
            run_count=outlook.run_count,
        )


class InstalledPackage(Wire):
    """A package that code can import."""

    name: str = Field(description="What pip calls it.")
    version: str | None = Field(description="Null where that is not known.")


class InstalledSchema(Wire):
    """The Python packages that code can import."""

    source: PackageSource = Field(
        description="Who says so: the chat's `sandbox` just now; another one of its `template`, lately; or nobody."
    )
    packages: list[InstalledPackage] = Field(description="In the order of their names.")

    @classmethod
    def of(cls, installed: Installed) -> "InstalledSchema":
        """Returns the packages as they go over the wire."""
        versions = sorted(installed.versions.items(), key=lambda item: item[0].lower())
        listed = [InstalledPackage(name=name, version=version) for name, version in versions]
        return cls(source=installed.source, packages=listed)


class LimitsSchema(Wire):
    """What a run may use."""

    default_timeout_ms: int = Field(description="Where a call names no `timeoutMs`.")
    max_timeout_ms: int = Field(description="The most that `timeoutMs` may be.")
    text_bytes: int = Field(description="How much a run may print.")
    reply_bytes: int = Field(description="How much a reply holds.")

    @classmethod
    def of(cls, limits: CodeLimits) -> "LimitsSchema":
        """Returns the limits as they go over the wire."""
        return cls(
            default_timeout_ms=limits.default_ms,
            max_timeout_ms=limits.max_ms,
            text_bytes=limits.text_bytes,
            reply_bytes=limits.reply_bytes,
        )


class ToolsSchema(Wire):
    """The execute call as a tool: a model fills in code and time limit, its caller adds `chatId`."""

    anthropic: list[dict[str, Any]] = Field(description="`tools` of Anthropic's Messages API.")
    openai: list[dict[str, Any]] = Field(description="`tools` of OpenAI's Chat Completions API.")
    openai_responses: list[dict[str, Any]] = Field(description="`tools` of OpenAI's Responses API.")
    bedrock: list[dict[str, Any]] = Field(description="`toolConfig.tools` of Bedrock's Converse API.")


class ContextReply(Wire):
    """What a model has to know to write code that works in this chat."""

    chat_id: ChatId
    text: str = Field(description="All of it but the tools, as text for a model: at most about 4,000 characters.")
    session: OutlookSchema
    working_directory: str = Field(description="Where code runs, and where the chat's files are.")
    files: list[FileInContext] = Field(description="Oldest first.")
    packages: InstalledSchema
    limits: LimitsSchema
    tools: ToolsSchema

    @classmethod
    def of(cls, context: ChatContext) -> "ContextReply":
        """Returns the context as it goes over the wire."""
        return cls(
            chat_id=context.key.chat_id,
            text=briefing(context),
            session=OutlookSchema.of(context.outlook),
            working_directory=HOME,
            files=_files(context.files),
            packages=InstalledSchema.of(context.installed),
            limits=LimitsSchema.of(context.limits),
            tools=ToolsSchema(
                anthropic=tools.anthropic(),
                openai=tools.openai_chat(),
                openai_responses=tools.openai_responses(),
                bedrock=tools.bedrock(),
            ),
        )


def _files(files: Sequence[FileRecord]) -> list[FileInContext]:
    """Returns the files with their tables, whose columns are cut where there are too many for a reply."""
    told, left = list[FileInContext](), MOST_COLUMNS
    for file in files:
        tables = list[TableInContext]()
        for table in file.tables[:FILE_TABLES]:
            tables.append(TableInContext.of(table, left))
            left -= len(tables[-1].columns)
        told.append(
            FileInContext(
                file_id=file.file_id,
                path=file.path,
                name=file.name,
                status=file.status,
                kind=file.kind,
                size=file.size_bytes,
                tables=tables,
                table_count=len(file.tables),
            )
        )
    return told


# ── Prompts ─────────────────────────────────────────────────────────────────────────────────────────


class PromptArgument(Wire):
    """What a caller may fill in, as a query parameter. None has to be."""

    name: str
    description: str

    @classmethod
    def of(cls, argument: Argument) -> "PromptArgument":
        """Returns the argument as it goes over the wire."""
        return cls(name=argument.name, description=argument.description)


class PromptSchema(Wire):
    """A prompt."""

    name: PromptName
    version: int = Field(description="Counts the changes of its text.")
    description: str
    arguments: list[PromptArgument]

    @classmethod
    def of(cls, prompt: Prompt) -> "PromptSchema":
        """Returns the prompt as it goes over the wire."""
        return cls(
            name=prompt.name,
            version=prompt.version,
            description=prompt.description,
            arguments=[PromptArgument.of(argument) for argument in prompt.arguments],
        )


class PromptList(Wire):
    """The prompts that there are."""

    prompts: list[PromptSchema]


class PromptMessage(Wire):
    """A message as the makers of models take it."""

    role: Literal["user"] = "user"
    content: str


class FilledPrompt(PromptSchema):
    """A prompt with the chat's context in it."""

    text: str = Field(description="What files and programs have written is quoted in it as data.")
    messages: list[PromptMessage] = Field(description="The same, as messages for a model.")

    @classmethod
    def of_filled(cls, filled: Filled) -> "FilledPrompt":
        """Returns the filled prompt as it goes over the wire."""
        about = PromptSchema.of(filled.prompt)
        return cls(**dict(about), text=filled.text, messages=[PromptMessage(content=filled.text)])
