// The notebook's events: what others do to it, and what its cells put out while they run.
import { events } from "../api/events";
import type { CellSchema, PlanSchema } from "../api/schema";
import type { Result } from "../outputs/shown";

/** What an event tells. The API's document has no schema for events; `http/notebook_events.py` has these. */
export type Told = {
  version?: number;
  etag?: string;
  title?: string;
  cells?: { cellId: string; etag: string }[];
  plan?: PlanSchema | null;
  cellId?: string;
  cell?: CellSchema | null;
  executionId?: string;
  results?: Result[];
};

/** Hands each event to `hear`, until the signal aborts. */
export async function follow(
  path: string,
  after: number,
  signal: AbortSignal,
  hear: (name: string, told: Told) => void,
): Promise<void> {
  for await (const event of events(`${path}/events?after=${after}`, signal)) {
    hear(event.event ?? "message", JSON.parse(event.data) as Told);
  }
}
