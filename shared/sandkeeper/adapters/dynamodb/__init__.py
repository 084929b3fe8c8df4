"""The stores on one DynamoDB table, a module for each kind of row."""

from sandkeeper.adapters.dynamodb.artifacts import DynamoArtifactCatalog
from sandkeeper.adapters.dynamodb.files import DynamoFileCatalog
from sandkeeper.adapters.dynamodb.keys import DynamoApiKeyStore
from sandkeeper.adapters.dynamodb.notebooks import DynamoNotebookStore
from sandkeeper.adapters.dynamodb.packages import DynamoPackageLists
from sandkeeper.adapters.dynamodb.runs import DynamoRunLog
from sandkeeper.adapters.dynamodb.sessions import DynamoSessionStore
from sandkeeper.adapters.dynamodb.sweeps import DynamoSweepStore
from sandkeeper.adapters.dynamodb.table import Table

__all__ = [
    "DynamoApiKeyStore",
    "DynamoArtifactCatalog",
    "DynamoFileCatalog",
    "DynamoNotebookStore",
    "DynamoPackageLists",
    "DynamoRunLog",
    "DynamoSessionStore",
    "DynamoSweepStore",
    "Table",
]
