// The notebook's events: what others do to it, and what its cells put out while they run.
import { events } from "../api/events";
import type { NotebookEvents } from "../api/schema";

/** An event, as the API's document has it: its name decides what it tells. */
export type Told = {
  [Name in keyof NotebookEvents]: { name: Name; data: NotebookEvents[Name] };
}[keyof NotebookEvents];

/** Hands each event to `hear`, until the signal aborts. */
export async function follow(
  path: string,
  after: number,
  signal: AbortSignal,
  hear: (told: Told) => void,
): Promise<void> {
  for await (const event of events(`${path}/events?after=${after}`, signal)) {
    hear({ name: event.event, data: JSON.parse(event.data) } as Told);
  }
}
