"""The HTTP API as a Lambda function."""

from mangum import Mangum

from sandkeeper.http.app import create_app
from sandkeeper.wiring import ApiWiring

app = create_app(ApiWiring())
handler = Mangum(app, lifespan="off", text_mime_types=["application/json", "application/problem+json"])
