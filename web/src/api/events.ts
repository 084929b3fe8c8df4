// Server-sent events with credentials, which EventSource does not send. Connections end every 25 seconds by design:
// the next one begins behind the last event.
import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import { authorized, Refused, refusal } from "./client";

const RETRY_MS = 200;
const LONGEST_RETRY_MS = 5_000;

/** Yields events until the signal aborts. Raises `Refused` where the API has a reason that will not pass. */
export async function* events(path: string, signal: AbortSignal): AsyncGenerator<EventSourceMessage> {
  let lastId: string | undefined;
  let pauseMs = RETRY_MS;
  while (!signal.aborted) {
    try {
      for await (const event of connection(path, lastId, signal)) {
        lastId = event.id ?? lastId;
        pauseMs = RETRY_MS;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status >= 400 && error.status < 500) throw error;
      pauseMs = Math.min(2 * pauseMs, LONGEST_RETRY_MS);
    }
    await pause(pauseMs, signal);
  }
}

async function* connection(
  path: string,
  lastId: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<EventSourceMessage> {
  const resumed: Record<string, string> = lastId === undefined ? {} : { "Last-Event-ID": lastId };
  const response = await fetch(path, { headers: authorized(resumed), signal });
  if (!response.ok || !response.body) throw refusal(response.status, await response.json().catch(() => null));
  const reader = response.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
    .getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
