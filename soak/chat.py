"""One chat's life: runs, files, closing, restarting, idling. Its `Truth` judges every answer."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from soak.asking import Asking, Manner, Meanwhile, Wish
from soak.program import snapshot_of
from soak.service import NO_HEADERS, Answer, Service, pause
from soak.tally import Tally
from soak.truth import Certainty, Told, Truth

LIMIT_MS = 15_000
"""Of a run, its nap included."""
LONGEST_NAP_S = 4.0
BEYOND_A_CALL_S, BEYOND_A_CALL_MS = 27.0, 60_000
"""Of a run for which no call waits to its end."""
MOST_FILES = 3
MOST_LINES = 120
"""A session that has seen so many runs is closed, so that what runs show stays small."""
FILE_READY_WITHIN_S = 60.0
HISTORY = 40
SETTLED_S = 5.0
UNHEARD_AFTER = 2
"""How often a sandbox has to be out of reach before a call that waits for nothing leaves open whether it was heard
there; others try for longer."""

FRESH = ("new", "recreated")
CUT_SHORT = "timeout, for little of the call's time was left"
ENDED_BY_CLOSE = {"ok", "cancelled", "sandbox_lost"}


@dataclass(slots=True)
class Owner:
    """Whose chats count against one cap."""

    cap: int
    live_until: dict[str, float] = field(default_factory=dict)
    """Chat → until when it may have a live session, at most."""

    def may_refuse(self, chat_id: str, sent_at: float) -> bool:
        """Returns whether the owner may have been at the cap with other chats than this one."""
        return sum(until >= sent_at for other, until in self.live_until.items() if other != chat_id) >= self.cap


class Chat:
    """A client that remembers what it was told. `stop` ends its life after the action under way."""

    def __init__(
        self,
        chat_id: str,
        owner: Owner,
        service: Service,
        tally: Tally,
        *,
        dice: Random,
        delay_s: float,
        think_s: float,
        session_timeout_s: float,
        stop: asyncio.Event,
    ) -> None:
        self.chat_id = chat_id
        self.truth = Truth(session_timeout_s)
        self.traps = 0
        """How often its sandbox may yet be out of reach."""
        self.struck_at = -1.0
        """When something was last done to its sandbox that may stop the clock of a run under way."""
        self._owner, self._service, self._tally = owner, service, tally
        self._dice, self._delay_s, self._think_s, self._stop = dice, delay_s, think_s, stop
        self._asking = Asking(self._call, self._complain)
        self._count = 0
        self._lines = 0
        self._history: deque[str] = deque(maxlen=HISTORY)

    async def live(self) -> None:
        """Returns when it has been told to stop, and its last action has ended."""
        habits: Sequence[tuple[float, Callable[[], Awaitable[None]]]] = [
            (60, self.run),
            (6, self._run_two_at_once),
            (1.5, self._run_beyond_a_call),
            (3, self._interrupt_a_run),
            (2, self._cancel_a_run),
            (3, self._run_over_the_limit),
            (3, self._restart),
            (1.5, self._restart_during_a_run),
            (3, self._close),
            (1.5, self._close_during_a_run),
            (5, self._upload),
            (4, self._look),
            (8, self._idle_until_paused),
            (4, self._idle_until_expired),
        ]
        weights, actions = zip(*habits, strict=True)
        await self._wait(self._delay_s)
        while not self._stop.is_set():
            await self._dice.choices(actions, weights)[0]()
            if self._lines > MOST_LINES:
                await self._close()
            await self._wait(self._dice.expovariate(1 / self._think_s))

    async def run(self, manner: Manner | None = None) -> None:
        """Runs once, and judges the answer; asks in some manner unless it is told in which."""
        run_id = self._new_id()
        self._judge(run_id, await self._send(run_id, manner=manner), ends={"ok"})

    # ── Runs ────────────────────────────────────────────────────────────────────────────────────────

    async def _run_two_at_once(self) -> None:
        ids = [self._new_id(), self._new_id()]
        answers = dict(zip(ids, await asyncio.gather(*map(self._send, ids)), strict=True))
        unseen = {run_id for run_id, answer in answers.items() if not _shows(answer) and not answer.is_refusal}
        for run_id in unseen:
            self.truth.unknown(run_id)
        for run_id in sorted(answers, key=lambda run_id: _order(answers[run_id])):
            self._judge(run_id, answers[run_id], ends={"ok"}, beside=frozenset(unseen - {run_id}))

    async def _run_beyond_a_call(self) -> None:
        run_id = self._new_id()
        answer = await self._send(run_id, nap_s=BEYOND_A_CALL_S, limit_ms=BEYOND_A_CALL_MS, manner=Manner())
        self._judge(run_id, answer, ends={"ok"})

    async def _interrupt_a_run(self) -> None:
        run_id = self._new_id()
        running = asyncio.create_task(self._send(run_id, nap_s=LONGEST_NAP_S))
        await asyncio.sleep(self._dice.uniform(0.1, 2))
        path = f"/api/chats/{self.chat_id}/session/interrupt"
        await self._call("interrupt", "POST", path, expected={200, 404})
        self._judge(run_id, await running, ends={"ok", "cancelled", "kernel_died"})
        self.truth.interrupted = True

    async def _cancel_a_run(self) -> None:
        """By its id, which stops no other."""
        run_id = self._new_id()

        async def cancel(accepted: Answer) -> None:
            await asyncio.sleep(self._dice.uniform(0.1, 2))
            path = f"{accepted.body['statusUrl']}/cancel"
            await self._call("cancel", "POST", path, expected={200})

        answer = await self._send(run_id, nap_s=LONGEST_NAP_S, manner=Manner("async"), meanwhile=cancel)
        self._judge(run_id, answer, ends={"ok", "cancelled", "kernel_died"})
        self.truth.interrupted = True

    async def _run_over_the_limit(self) -> None:
        run_id = self._new_id()
        self._judge(run_id, await self._send(run_id, nap_s=LONGEST_NAP_S, limit_ms=1_000), ends={"timeout"})
        self.truth.interrupted = True

    async def _restart(self) -> None:
        self.truth.restarted = _surer(self.truth.restarted, await self._send_restart())

    async def _restart_during_a_run(self) -> None:
        run_id = self._new_id()
        running = asyncio.create_task(self._send(run_id, nap_s=LONGEST_NAP_S))
        await asyncio.sleep(self._dice.uniform(0.1, 2))
        before, restarted = self.truth.restarted, await self._send_restart()
        answer = await running
        self.truth.restarted = _surer(before, "maybe" if restarted != "no" else "no")
        told = self._judge(run_id, answer, ends={"ok", "cancelled", "kernel_died"})
        if restarted != "no":
            # It may have come before this run, which then was told of it, or after it had shown what it found.
            self.truth.restarted = (
                "maybe" if told is None or told.state_reset or told.status in FRESH else restarted
            )

    async def _send_restart(self) -> Certainty:
        path = f"/api/chats/{self.chat_id}/session/restart"
        return _certainty(await self._call("restart", "POST", path, expected={204, 404}))

    async def _close(self) -> None:
        closed = await self._send_close()
        self.truth.closed = _surer(self.truth.closed, closed)
        self._lines = 0
        if closed == "yes":
            self._owner.live_until.pop(self.chat_id, None)

    async def _close_during_a_run(self) -> None:
        run_id = self._new_id()
        running = asyncio.create_task(self._send(run_id, nap_s=LONGEST_NAP_S))
        await asyncio.sleep(self._dice.uniform(0.1, 2))
        before, closed = self.truth.closed, await self._send_close()
        answer = await running
        self.truth.closed = _surer(before, "maybe" if closed != "no" else "no")
        self._judge(run_id, answer, ends=ENDED_BY_CLOSE)
        if closed != "no":
            self.truth.closed = "maybe"

    async def _send_close(self) -> Certainty:
        path = f"/api/jupyter/execute?chatId={self.chat_id}"
        return _certainty(await self._call("close", "DELETE", path, expected={204}))

    # ── Files, and doing nothing ────────────────────────────────────────────────────────────────────

    async def _upload(self) -> None:
        if len(self.truth.files) >= MOST_FILES:
            return await self.run()
        rows = self._dice.randint(10, 2_000)
        content = ("n\n" + "\n".join(str(self._dice.random()) for _ in range(rows)) + "\n").encode()
        files = f"/api/chats/{self.chat_id}/files"
        body = {"fileName": f"up-{self._new_id()}.csv", "size": len(content), "contentType": "text/csv"}
        registered = await self._call("register file", "POST", files, json=body, expected={201})
        if registered.status != 201:
            return None
        if not await self._service.upload(registered.body["upload"], content):
            return self._complain("a file could not be uploaded")
        if await self._is_read(f"{files}/{registered.body['fileId']}"):
            self.truth.files[registered.body["path"]] = sha256(content).hexdigest()
        return None

    async def _is_read(self, path: str) -> bool:
        deadline = time.monotonic() + FILE_READY_WITHIN_S
        while time.monotonic() < deadline:
            answer = await self._call("look at file", "GET", path, expected={200})
            if answer.body.get("status") == "ready":
                return True
            await asyncio.sleep(0.5)
        self._complain(f"an uploaded file was not ready after {FILE_READY_WITHIN_S:.0f} s")
        return False

    async def _look(self) -> None:
        await self._call("status", "GET", f"/api/jupyter/execute?chatId={self.chat_id}", expected={200})
        await self._call("list sessions", "GET", "/api/sessions", expected={200})

    async def _idle_until_paused(self) -> None:
        await self._wait(self._dice.uniform(18, 35))
        await self.run()

    async def _idle_until_expired(self) -> None:
        await self._wait(self.truth.session_timeout_s + self._dice.uniform(2, 30))
        await self.run()

    async def _wait(self, seconds: float) -> None:
        await pause(self._stop, seconds)

    # ── Calls, and what they say ────────────────────────────────────────────────────────────────────

    def _new_id(self) -> str:
        self._count += 1
        return f"{self.chat_id}-{self._count}"

    async def _call(
        self,
        name: str,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] = NO_HEADERS,
        expected: set[int],
    ) -> Answer:
        answer = await self._service.call(
            self._complain, name, method, path, json=json, headers=headers, expected=expected
        )
        self._history.append(f"{answer.sent_at:10.2f} {name} → {answer.shown}")
        if answer.broke == "refused":
            await self._service.back()
        return answer

    async def _send(
        self,
        run_id: str,
        *,
        nap_s: float = 0,
        limit_ms: int = LIMIT_MS,
        manner: Manner | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> Answer:
        wish = Wish(
            chat_id=self.chat_id,
            run_id=run_id,
            nap_s=nap_s,
            limit_ms=limit_ms,
            manner=manner or Manner.drawn(self._dice),
        )
        self.note(f"{run_id} in mode {wish.manner.mode}, sent again {wish.manner.repeat}")
        before = self._owner.live_until.get(self.chat_id, 0.0)
        self._owner.live_until[self.chat_id] = float("inf")
        answer = await self._asking.result(wish, meanwhile)
        refused = answer.broke == "refused" or answer.status == 429
        linger_s = self.truth.session_timeout_s + limit_ms / 1000 + SETTLED_S
        self._owner.live_until[self.chat_id] = before if refused else answer.at + linger_s
        if answer.status == 429 and not self._owner.may_refuse(self.chat_id, answer.sent_at):
            self._complain("refused for a quota that was not used up")
        return answer

    def _judge(
        self, run_id: str, answer: Answer, *, ends: set[str], beside: frozenset[str] = frozenset()
    ) -> Told | None:
        """Returns what an answered run told. Every contradiction has then been complained about."""
        if answer.status != 200:
            if not answer.is_refusal:
                self.truth.unknown(run_id)
            return None
        end = _end_of(answer)
        told = told_by(run_id, answer)
        self._lines = len(told.snapshot.lines) if told.snapshot else self._lines
        self._note(told, end, answer)
        if end == "sandbox_lost" and end not in ends:
            self._ask_for_a_cause(answer)
        elif end == "timeout" and self.struck_at >= answer.sent_at:
            pass
        elif end not in ends and end != CUT_SHORT:
            self._complain(f"{run_id} ended as {end}: {answer.body['error']!r}")
        for contradiction in self.truth.heard(told, beside=beside):
            self._complain(f"{run_id}: {contradiction}")
        return told

    def _ask_for_a_cause(self, answer: Answer) -> None:
        """Complains unless its sandbox is gone, or was out of reach for so long that it may not have heard."""
        if self.truth.lost_at >= answer.sent_at:
            return
        if self.traps < UNHEARD_AFTER:
            self._complain("a run was lost, and nobody had done anything to its sandbox")
        self.traps = max(0, self.traps - UNHEARD_AFTER)

    def _note(self, told: Told, end: str, answer: Answer) -> None:
        shown = told.snapshot
        found = f"variable {len(shown.variable)}, file {len(shown.lines)}" if shown else "nothing shown"
        session = f"{told.status}{f' ({told.reason})' if told.reason else ''}"
        self._history.append(
            f"{answer.sent_at:10.2f}   {told.run_id} {end}: {session}, generation {told.generation} in"
            f" {told.sandbox_id}, {found}"
        )
        self._tally.runs[session] += 1
        self._tally.told["later" if answer.is_late else "again" if answer.is_replay else "at once"] += 1
        self._tally.ends[end] += 1
        if not answer.is_late:
            self._tally.took_s.append(answer.at - answer.sent_at)

    def note(self, what: str) -> None:
        """Adds what was done to the chat to its history."""
        self._history.append(f"{time.monotonic():10.2f} {what}")

    def _complain(self, what: str) -> None:
        self._tally.violate(what, self.chat_id, self._history)


def told_by(run_id: str, answer: Answer) -> Told:
    """Returns what the answer of a run says of its session and its state."""
    session = answer.body["session"]
    return Told(
        run_id=run_id,
        status=session["status"],
        generation=session["generation"],
        state_reset=session["stateReset"],
        reason=session["reason"],
        sandbox_id=answer.body["sandboxId"],
        snapshot=snapshot_of(answer.body["results"]),
        was_interrupted=answer.body["errorDetail"] is not None,
        sent_at=answer.sent_at,
        at=answer.at,
        used_at=answer.sent_at if answer.is_late or answer.is_replay else answer.at,
    )


def _end_of(answer: Answer) -> str:
    """Returns how an answered run ended. One that must end within its call may get less time than it asked for."""
    detail = answer.body["errorDetail"] or {"kind": "ok"}
    kind: str = detail["kind"]
    return CUT_SHORT if kind == "timeout" and detail["retryable"] else kind


def _shows(answer: Answer) -> bool:
    return answer.status == 200 and snapshot_of(answer.body["results"]) is not None


def _order(answer: Answer) -> tuple[int, bool, int]:
    """Returns where the run of an answer stands among those that were under way at the same time."""
    if answer.status != 200:
        return (0, False, 0)
    told = told_by("", answer)
    return (told.generation, told.status not in FRESH, len(told.snapshot.lines) if told.snapshot else 0)


def _certainty(answer: Answer) -> Certainty:
    if answer.broke == "refused":
        return "no"
    return "yes" if answer.status == 204 else "maybe"


def _surer(one: Certainty, other: Certainty) -> Certainty:
    """Returns which of both says more surely that it has happened."""
    return max(one, other, key=("no", "maybe", "yes").index)
