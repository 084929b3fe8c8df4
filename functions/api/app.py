"""The HTTP API as a Lambda function."""

from mangum import Mangum
from snapshot_restore_py import register_before_snapshot

from sandkeeper.http.app import create_app
from sandkeeper.snapshot import import_ahead
from sandkeeper.wiring import ApiWiring

TEXT = ["application/json", "application/problem+json", "text/event-stream"]

app = create_app(ApiWiring())
handler = Mangum(app, lifespan="off", text_mime_types=TEXT)
register_before_snapshot(import_ahead)
