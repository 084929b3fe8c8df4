"""A whole service of the MCP function on memory adapters."""

from collections.abc import Iterator
from contextlib import contextmanager

from sandkeeper.http.request_context import RequestContext
from sandkeeper.mcp.app import create_app
from sandkeeper.settings import McpSettings
from sandkeeper.wiring import McpWiring
from tests.world import World

URL = "http://mcp.test/mcp"


@contextmanager
def mcp_world() -> Iterator[World]:
    """Returns a world, and ends its threads afterwards."""
    world = World(wiring=McpWiring())
    set_origins(world, "*")
    try:
        yield world
    finally:
        world.close()


def set_origins(world: World, allowed: str) -> None:
    """Deploys the function anew, for pages of these origins."""
    known = {"table_name": "table", "bucket_name": "bucket", "stack_name": "test", "e2b_api_key": "key"}
    vars(world.wiring)["settings"] = McpSettings.model_validate({**known, "allowed_origins": allowed})


def app_of(world: World) -> RequestContext:
    """Returns the application over the world."""
    assert isinstance(world.wiring, McpWiring)
    return create_app(world.wiring)
