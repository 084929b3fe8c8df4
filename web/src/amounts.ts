// Amounts as people say them.

const inThreeFigures = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });

/** Returns a size in bytes. */
export function size(bytes: number): string {
  if (bytes < 1_000) return counted(bytes, "byte");
  return bytes < 1_000_000
    ? `${inThreeFigures.format(bytes / 1_000)} KB`
    : `${inThreeFigures.format(bytes / 1_000_000)} MB`;
}

/** Returns how many there are of what the noun calls one. */
export function counted(many: number, noun: string): string {
  return `${many.toLocaleString()} ${noun}${many === 1 ? "" : "s"}`;
}
