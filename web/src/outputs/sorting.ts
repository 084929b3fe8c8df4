// A table's rows in the order that its reader wants.
export type Direction = "ascending" | "descending";
export type Order = { column: string; direction: Direction } | null;

/** Returns the order after one more click on a column: up, down, and as it was. */
export function clicked(order: Order, column: string): Order {
  if (order?.column !== column) return { column, direction: "ascending" };
  return order.direction === "ascending" ? { column, direction: "descending" } : null;
}

/** Returns the numbers of the rows, in order. Rows without a value come last, whichever way. */
export function sorted(values: unknown[], direction: Direction): number[] {
  const sign = direction === "ascending" ? 1 : -1;
  return values
    .map((_, index) => index)
    .sort((one, other) => {
      const [a, b] = [values[one], values[other]];
      const [aIsMissing, bIsMissing] = [isMissing(a), isMissing(b)];
      if (aIsMissing || bIsMissing) return Number(aIsMissing) - Number(bIsMissing) || one - other;
      return sign * compared(a, b) || one - other;
    });
}

export function isMissing(value: unknown): boolean {
  return value === null || value === undefined || (typeof value === "number" && Number.isNaN(value));
}

function compared(a: unknown, b: unknown): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
