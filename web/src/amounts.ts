/** Returns a size as people say it. */
export function size(bytes: number): string {
  if (bytes < 1_000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${(bytes / 1_000).toPrecision(3)} KB` : `${(bytes / 1_000_000).toPrecision(3)} MB`;
}
