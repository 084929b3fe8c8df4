// Notebooks as files: `.ipynb`, in and out; and the files that runs have made, out.
import { api, downloadUrl, told } from "../api/client";
import { save as saveCell } from "./editing";
import { refreshShelf, useNotebook } from "./notebook";
import { usePlace } from "./place";

/** Makes a notebook of an `.ipynb` file, and opens it. */
export async function importFile(file: File): Promise<void> {
  const { chatId } = useNotebook.getState();
  const params = {
    path: { chatId },
    query: { title: file.name.replace(/\.ipynb$/, "").slice(0, 200) || undefined },
  };
  const body = parsed(file.name, await file.text());
  const made = await told(api.POST("/api/chats/{chatId}/notebooks/import", { params, body: body as never }));
  await refreshShelf();
  usePlace.getState().open(chatId, made.notebookId);
}

/** Downloads the open notebook. */
export async function exportFile(): Promise<void> {
  const { chatId, notebookId, title, cells } = useNotebook.getState();
  await Promise.all(cells.map(({ cellId }) => saveCell(cellId)));
  const params = { path: { chatId, notebookId } };
  const content = await told(
    api.GET("/api/chats/{chatId}/notebooks/{notebookId}/ipynb", { params, parseAs: "blob" }),
  );
  const url = URL.createObjectURL(content as unknown as Blob);
  click(url, `${title.replace(/[^\p{L}\p{N} ._-]/gu, "_")}.ipynb`);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Downloads a file that a run has made, from S3. */
export async function downloadArtifact(artifactId: string, name: string): Promise<void> {
  click(await downloadUrl(useNotebook.getState().chatId, artifactId), name);
}

function click(href: string, name: string): void {
  const link = Object.assign(document.createElement("a"), { href, download: name, rel: "noopener" });
  link.click();
}

function parsed(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is no notebook: it is not JSON`);
  }
}
