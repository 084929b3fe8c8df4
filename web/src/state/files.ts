// The chat's files on their way up, and as they have been read; and the files that runs have made.
import { create } from "zustand";
import { api, told } from "../api/client";
import type { FileSchema, ListedArtifact } from "../api/schema";
import { upload } from "../api/upload";
import { attempt } from "./notices";

export type Upload = { id: number; name: string; share: number };

type Files = {
  chatId: string;
  files: FileSchema[];
  uploads: Upload[];
  artifacts: ListedArtifact[];
  open(chatId: string): void;
  refresh(): Promise<void>;
  refreshArtifacts(): Promise<void>;
  send(files: Iterable<File>): Promise<void>;
  remove(fileId: string): Promise<void>;
};

const POLL_MS = 400;
let count = 0;

export const useFiles = create<Files>((set, get) => ({
  chatId: "",
  files: [],
  uploads: [],
  artifacts: [],

  open(chatId) {
    set({ chatId, files: [], uploads: [], artifacts: [] });
    void attempt(get().refresh);
    void attempt(get().refreshArtifacts);
  },

  async refresh() {
    const { chatId } = get();
    const { files } = await told(api.GET("/api/chats/{chatId}/files", { params: { path: { chatId } } }));
    if (get().chatId === chatId) set({ files: [...files].reverse() });
  },

  /** Latest versions of the files that runs have made. */
  async refreshArtifacts() {
    const { chatId } = get();
    const { artifacts } = await told(
      api.GET("/api/chats/{chatId}/artifacts", { params: { path: { chatId }, query: { limit: 100 } } }),
    );
    if (get().chatId !== chatId) return;
    const latest = new Map<string, ListedArtifact>();
    for (const artifact of artifacts) {
      const known = latest.get(artifact.path);
      if (!known || known.version < artifact.version) latest.set(artifact.path, artifact);
    }
    set({ artifacts: [...latest.values()] });
  },

  async send(files) {
    await Promise.all([...files].map((file) => attempt(() => sendOne(file))));
  },

  async remove(fileId) {
    const { chatId } = get();
    await told(api.DELETE("/api/chats/{chatId}/files/{fileId}", { params: { path: { chatId, fileId } } }));
    await get().refresh();
  },
}));

/** Registers the file, sends it to S3, and returns when it has been read. */
async function sendOne(file: File): Promise<void> {
  if (file.size === 0) throw new Error(`${file.name} is empty`);
  const { chatId } = useFiles.getState();
  const id = ++count;
  const change = (share: number) =>
    useFiles.setState(({ uploads }) => ({
      uploads: uploads.map((each) => (each.id === id ? { ...each, share } : each)),
    }));
  useFiles.setState(({ uploads }) => ({ uploads: [...uploads, { id, name: file.name, share: 0 }] }));
  try {
    const contentType = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(file.type) ? file.type : "application/octet-stream";
    const body = { fileName: file.name, size: file.size, contentType };
    const registered = await told(api.POST("/api/chats/{chatId}/files", { params: { path: { chatId } }, body }));
    await upload(registered.upload, file, change);
    await read(chatId, registered.fileId);
  } finally {
    useFiles.setState(({ uploads }) => ({ uploads: uploads.filter((each) => each.id !== id) }));
    await useFiles.getState().refresh();
  }
}

async function read(chatId: string, fileId: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const path = { chatId, fileId };
    const file = await told(api.GET("/api/chats/{chatId}/files/{fileId}", { params: { path } }));
    if (file.status !== "pending") return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
