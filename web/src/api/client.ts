// The API as its OpenAPI document describes it. Every call that fails raises a `Refused`, which says why.
import createClient from "openapi-fetch";
import type { paths } from "./schema";

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly slug: string,
    detail: string,
  ) {
    super(detail);
    this.name = "Refused";
  }
}

let token = "";
let refused: (() => void) | null = null;

/** From now on calls carry this. It is in memory alone here; who keeps it is `state/connection`. */
export function callWith(given: string): void {
  token = given;
}

/** From now on this is called whenever the API does not know the key any more. */
export function onUnknownKey(action: () => void): void {
  refused = action;
}

export function authorized(headers: Record<string, string> = {}): Record<string, string> {
  return { ...headers, Authorization: `Bearer ${token}` };
}

export const api = createClient<paths>({ baseUrl: "/" });

api.use({
  onRequest({ request }) {
    request.headers.set("Authorization", `Bearer ${token}`);
    return request;
  },
  onResponse({ response }) {
    if (response.status === 401) refused?.();
  },
});

type Reply<T> = { data?: T; error?: unknown; response: Response };

/** Returns what a call answers with. Raises `Refused`. */
export async function told<T>(reply: Promise<Reply<T>>): Promise<T> {
  const { data, error, response } = await reachable(reply);
  if (!response.ok) throw refusal(response.status, error);
  return data as T;
}

/** Returns the answer, or null where the API knows nothing of what was asked for. */
export async function found<T>(reply: Promise<Reply<T>>): Promise<T | null> {
  try {
    return await told(reply);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

/** Returns what the body of a refused call says: `application/problem+json`. */
export function refusal(status: number, body: unknown): Refused {
  const problem = (typeof body === "object" && body !== null ? body : {}) as { type?: string; detail?: string };
  const slug = problem.type?.split(/[/#]/).pop() ?? "unknown";
  return new Refused(status, slug, problem.detail ?? `the API answered with status ${status}`);
}

async function reachable<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch {
    throw new Refused(0, "unreachable", "the API cannot be reached; is it running?");
  }
}

/** Returns where a file can be downloaded without credentials, for a while. */
export async function downloadUrl(chatId: string, artifactId: string): Promise<string> {
  const aborting = new AbortController();
  const path = `/api/chats/${encodeURIComponent(chatId)}/artifacts/${artifactId}`;
  const response = await reachable(fetch(path, { headers: authorized(), signal: aborting.signal }));
  if (!response.ok) throw refusal(response.status, await response.json().catch(() => null));
  aborting.abort(); // where it leads to is enough; the browser's own download takes it from there
  return response.url;
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
