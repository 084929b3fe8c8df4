"""`python -m bench roundtrips`: how often a call goes over the network, counted on the wire."""

import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from bench.chapters import Chapter, Table
from bench.delays import Delays, Heard, Service
from bench.wire import Wire, relayed
from local.project import SAMPLE
from local.settings import Settings
from local.stack import Stack

CODE = "1+1"
SERVICES: tuple[Service, ...] = get_args(Service)
WITHOUT = {
    "status": "0, from memory",
    "follow-up of a run that goes on": "–",
    "follow-up of a run that has ended": "–",
    "resumed unawares": "as resumed",
}
"""What the original has in the place of what it cannot do."""


def chapter() -> Chapter:
    """Counts."""
    with (
        tempfile.TemporaryDirectory() as logs,
        Stack(Settings().on_free_ports(), Path(logs)) as stack,
        relayed(stack, Path(logs), Delays()) as wire,
    ):
        ours, theirs = service(wire), original(wire)
    warm, first = count(ours["warm"]), count(ours["new, one file"])
    return Chapter(
        "Round trips",
        """
Requests of one call, counted on the wire by a relay between the API and everything that it asks; also those that no
answer waits for. Beside it the same work by the original's design: the bare SDK, its sandboxes in the memory of one
process. What the original asked its database for is not counted. Our caller is known already: once a minute, that
is one request to DynamoDB more. "Unawares": the sandbox paused before the deadline that its row has. Requests of
the second table are in the order of their beginning; which of them run side by side, the next chapter shows.
""",
        [
            Table(
                ("requests", *SERVICES, "in all", "original's design"),
                [
                    (
                        name,
                        *(str(count(heard)[service]) for service in SERVICES),
                        str(len(heard)),
                        str(len(theirs[name])) if name in theirs else WITHOUT[name],
                    )
                    for name, heard in ours.items()
                ],
            ),
            Table(
                ("which", "API", "original's design"),
                [(name, spelled(heard), spelled(theirs.get(name, []))) for name, heard in ours.items()],
            ),
        ],
        {
            f"a warm call: {warm['DynamoDB']} ≤ 3 requests to DynamoDB": warm["DynamoDB"] <= 3,
            f"a warm call: {warm.total() - warm['DynamoDB']} ≤ 1 other request: its run": (
                warm["sandbox"] == 1 and warm.total() - warm["DynamoDB"] == 1
            ),
            f"a first call: {first['control plane']} ≤ 1 request to the control plane": first["control plane"] <= 1,
        },
    )


def count(heard: list[Heard]) -> Counter[Service]:
    """Returns how many requests went to each service."""
    return Counter(each.service for each in heard)


def spelled(heard: list[Heard]) -> str:
    """Returns what was asked, in the order of its beginning."""
    return ", ".join(each.what for each in heard) or "–"


def service(wire: Wire) -> dict[str, list[Heard]]:
    """Returns what calls through the API ask, by the kind of call."""
    api, direct = wire.service, wire.direct
    chat = f"trips-{uuid.uuid4().hex[:8]}"
    direct.upload(chat, SAMPLE.name, SAMPLE.read_bytes())
    found: dict[str, list[Heard]] = {}

    def heard(name: str, work: Callable[[], object]) -> None:
        api.status("unknown")  # so that the caller is known
        wire.heard()
        work()
        found[name] = wire.heard()

    def run(status: str) -> dict[str, str]:
        answer = api.run(chat, CODE)
        assert answer["session"]["status"] == status, answer["session"]
        return answer

    heard("new, one file", lambda: run("new"))
    heard("warm", lambda: run("reused"))
    sandbox_id = run("reused")["sandboxId"]
    direct.pause(chat, sandbox_id)
    heard("resumed", lambda: run("resumed"))
    direct.pause(chat, sandbox_id, unawares=True)
    heard("resumed unawares", lambda: run("resumed"))
    direct.kill(sandbox_id)
    heard("recreated, one file", lambda: run("recreated"))
    heard("status", lambda: api.status(chat))
    accepted = api.http.post(
        "/api/jupyter/execute", json={"chatId": chat, "code": "import time; time.sleep(3)", "mode": "async"}
    ).json()
    heard("follow-up of a run that goes on", lambda: api.http.get(accepted["statusUrl"]).raise_for_status())
    api.http.get(accepted["statusUrl"], params={"waitMs": 10_000}).raise_for_status()
    heard("follow-up of a run that has ended", lambda: api.http.get(accepted["statusUrl"]).raise_for_status())
    direct.close(chat)
    return found


def original(wire: Wire) -> dict[str, list[Heard]]:
    """Returns what the same work asks by the original's design."""
    design = wire.original
    objects = design.store("trips", {SAMPLE.name: SAMPLE.read_bytes()})
    found: dict[str, list[Heard]] = {}

    def heard(name: str, work: Callable[[], object]) -> None:
        wire.heard()
        work()
        found[name] = wire.heard()

    heard("new, one file", lambda: design.run("trips", CODE, objects))
    heard("warm", lambda: design.run("trips", CODE))
    sandbox_id = design.sandboxes["trips"].sandbox_id
    design.sandboxes["trips"].pause()
    heard("resumed", lambda: design.resume("trips", CODE))
    wire.direct.kill(sandbox_id)
    heard("recreated, one file", lambda: design.recreate("trips", CODE, objects))
    design.close("trips")
    return found
