import { useMemo, useState } from "react";
import { counted } from "../amounts";
import type { Columns } from "./shown";
import { clicked, isMissing, type Order, sorted } from "./sorting";

const PAGE = 50;

/** A table that is sorted by its headers. */
export function Table({ columns }: { columns: Columns }) {
  const names = useMemo(() => Object.keys(columns), [columns]);
  const count = Math.max(0, ...names.map((name) => columns[name]!.length));
  const [order, setOrder] = useState<Order>(null);
  const [most, setMost] = useState(PAGE);
  const rows = useMemo(
    () =>
      order ? sorted(columns[order.column] ?? [], order.direction) : Array.from({ length: count }, (_, row) => row),
    [columns, order, count],
  );
  const kinds = useMemo(
    () => Object.fromEntries(names.map((name) => [name, kindOf(columns[name]!)])),
    [columns, names],
  );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be scrollable by keys
    <section className="table" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {names.map((name) => (
              <th
                key={name}
                scope="col"
                className={kinds[name]}
                aria-sort={order?.column === name ? order.direction : "none"}
              >
                <button type="button" onClick={() => setOrder(clicked(order, name))}>
                  {name}
                  <span aria-hidden="true">
                    {order?.column !== name ? "" : order.direction === "ascending" ? " ↑" : " ↓"}
                  </span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, most).map((row) => (
            <tr key={row}>
              {names.map((name) => (
                <Value key={name} value={columns[name]![row]} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <p className="soft">
        {counted(count, "row")} × {counted(names.length, "column")}{" "}
        {most < rows.length && (
          <button type="button" className="quiet" onClick={() => setMost(most + 10 * PAGE)}>
            Show more
          </button>
        )}
      </p>
    </section>
  );
}

function kindOf(values: unknown[]): string | undefined {
  const first = values.find((value) => !isMissing(value));
  return typeof first === "number" ? "number" : undefined;
}

function Value({ value }: { value: unknown }) {
  if (isMissing(value)) return <td className="missing">–</td>;
  if (typeof value === "number") {
    return (
      <td className="number">{Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(8)))}</td>
    );
  }
  return <td>{typeof value === "string" ? value : JSON.stringify(value)}</td>;
}
