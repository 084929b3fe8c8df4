"""The Model Context Protocol as a Lambda function."""

from mangum import Mangum

from sandkeeper.mcp.app import create_app
from sandkeeper.wiring import McpWiring

TEXT = ["application/json", "application/problem+json", "text/event-stream"]

app = create_app(McpWiring())
handler = Mangum(app, lifespan="off", text_mime_types=TEXT)
