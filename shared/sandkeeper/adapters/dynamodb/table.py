"""One DynamoDB table: its requests, its conditions, its errors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sandkeeper.adapters.dynamodb.items import Item, typed
from sandkeeper.errors import NotConfigured, SandkeeperError, StoreUnavailable
from sandkeeper.model import SessionState

EXISTS = "attribute_exists(pk)"
ABSENT = "attribute_not_exists(pk)"

RESERVED_WORDS = ("state", "status", "ttl")
"""Our attributes that DynamoDB's expressions cannot name outright."""

GET_MANY_TRIES = 4
"""DynamoDB may leave part of a batch undone, when it throttles or the items are large."""

NO_NAMES: Mapping[str, str] = MappingProxyType({})

_STATES = {f":{state.value}": state.value for state in SessionState}

FOREIGN_ERRORS: Mapping[str, type[SandkeeperError]] = {
    "ResourceNotFoundException": NotConfigured,
    "AccessDeniedException": NotConfigured,
    "UnrecognizedClientException": NotConfigured,
    "ValidationException": NotConfigured,
}
"""DynamoDB's error codes that a deployment has to mend. All others may pass: `StoreUnavailable`."""


@contextmanager
def our_errors(table: str) -> Iterator[None]:
    """Turns every error of the client into one of ours, in one place."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        kind = FOREIGN_ERRORS.get(code, StoreUnavailable)
        raise kind(f"the table {table!r} (TABLE_NAME) answers {code}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"the table {table!r} cannot be reached: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Table:
    """One table, and the few requests that all stores are made of."""

    client: Any
    name: str

    def get(self, key: Item) -> Item | None:
        """Returns the item as the last write left it."""
        with our_errors(self.name):
            reply = self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        found: Item | None = reply.get("Item")
        return found

    def put(
        self, item: Item, condition: str | None = None, values: Mapping[str, Any] | None = None
    ) -> tuple[bool, Item | None]:
        """Writes the item if the condition holds. Returns whether it did, and else the item in the way."""
        return self._conditional("put_item", Item=item, **_condition(condition, "", values or {}))

    def delete(
        self, key: Item, condition: str, values: Mapping[str, Any], names: Mapping[str, str] = NO_NAMES
    ) -> None:
        """Removes the item if the condition holds."""
        self._conditional("delete_item", Key=key, **_condition(condition, "", values, names))

    def update(
        self,
        key: Item,
        update: str,
        condition: str,
        values: Mapping[str, Any],
        names: Mapping[str, str] = NO_NAMES,
        *,
        returning: bool = True,
    ) -> tuple[bool, Item | None]:
        """Updates the item if the condition holds. Returns whether, and the item afterwards or in the way.

        With `returning` False the item afterwards is not asked for, which saves the time to read it.
        """
        return self._conditional(
            "update_item",
            Key=key,
            UpdateExpression=update,
            ReturnValues="ALL_NEW" if returning else "NONE",
            **_condition(condition, update, values, names),
        )

    def _conditional(self, operation: str, **request: Any) -> tuple[bool, Item | None]:
        with our_errors(self.name):
            try:
                reply = getattr(self.client, operation)(
                    TableName=self.name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request
                )
            except self.client.exceptions.ConditionalCheckFailedException as failed:
                return False, failed.response.get("Item") or None
        return True, reply.get("Attributes")

    def transact(
        self, *writes: dict[str, dict[str, Any]], lost: Sequence[str] = ("ConditionalCheckFailed",)
    ) -> bool:
        """Writes all or nothing, at most 100 items. Returns False when one of these reasons is in the way."""
        requests = [{kind: {"TableName": self.name, **each} for kind, each in write.items()} for write in writes]
        with our_errors(self.name):
            try:
                self.client.transact_write_items(TransactItems=requests)
            except self.client.exceptions.TransactionCanceledException as cancelled:
                codes = {reason["Code"] for reason in cancelled.response["CancellationReasons"]}
                if codes & {*lost}:
                    return False
                raise
        return True

    def get_many(self, keys: Sequence[Item]) -> Sequence[Item]:
        """Returns those of the items that are there, at most 100, as the last writes left them, in any order."""
        found: list[Item] = []
        wanted = [*keys]
        for _ in range(GET_MANY_TRIES):
            if not wanted:
                return found
            with our_errors(self.name):
                reply = self.client.batch_get_item(
                    RequestItems={self.name: {"Keys": wanted, "ConsistentRead": True}}
                )
            found += reply["Responses"].get(self.name, [])
            wanted = reply.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
        if wanted:
            raise StoreUnavailable(f"the table {self.name!r} (TABLE_NAME) throttles reads")
        return found

    def count(self, **request: Any) -> int:
        """Returns how much a query finds."""
        pages = self.client.get_paginator("query").paginate(TableName=self.name, Select="COUNT", **request)
        with our_errors(self.name):
            return sum(page["Count"] for page in pages)

    def query(self, **request: Any) -> Iterator[Item]:
        """Yields what a query finds, page by page."""
        return self._pages("query", request)

    def scan(self, **request: Any) -> Iterator[Item]:
        """Yields what a look at every item finds, page by page. It costs a read of the whole table."""
        return self._pages("scan", request)

    def _pages(self, operation: str, request: Mapping[str, Any]) -> Iterator[Item]:
        pages = self.client.get_paginator(operation).paginate(TableName=self.name, **request)
        with our_errors(self.name):
            for page in pages:
                yield from page["Items"]


def _condition(
    condition: str | None, update: str, values: Mapping[str, Any], names: Mapping[str, str] = NO_NAMES
) -> dict[str, Any]:
    """Returns the request's condition with the names and values that the expressions really use."""
    if condition is None:
        return {}
    expressions = f"{condition} {update} "
    known = {**_STATES, **values}
    used = {name: value for name, value in known.items() if _uses(expressions, name)}
    request: dict[str, Any] = {"ConditionExpression": condition}
    if used:
        request["ExpressionAttributeValues"] = typed(used)
    reserved = {f"#{word}": word for word in RESERVED_WORDS if f"#{word}" in expressions}
    if reserved or names:
        request["ExpressionAttributeNames"] = {**reserved, **names}
    return request


def _uses(expressions: str, name: str) -> bool:
    return any(name + end in expressions for end in " ,)")
