import { useRef } from "react";
import { counted, size } from "../amounts";
import type { FileSchema } from "../api/schema";
import { Icon, type IconName } from "../Icon";
import { useFiles } from "../state/files";
import { attempt } from "../state/notices";

/** The chat's files: dropped or chosen, sent straight to S3, and told with their columns. */
export function Files() {
  const { files, uploads, send } = useFiles();
  const chosen = useRef<HTMLInputElement>(null);
  return (
    <section aria-labelledby="files-title">
      <h2 id="files-title">Files</h2>
      <button type="button" className="dropzone" onClick={() => chosen.current?.click()}>
        <Icon name="upload" />
        <span>Drop or choose files</span>
      </button>
      <input
        ref={chosen}
        type="file"
        multiple
        hidden
        aria-label="Files to upload"
        onChange={(event) => {
          void send([...(event.target.files ?? [])]);
          event.target.value = "";
        }}
      />
      <ul className="list" aria-live="polite">
        {uploads.map(({ id, name, share }) => (
          <li key={`upload-${id}`} className="upload">
            <span className="name">{name}</span>
            <progress aria-label={`Upload of ${name}`} max={1} value={share} />
            <span className="soft">{share < 1 ? `${Math.round(share * 100)} %` : "being read …"}</span>
          </li>
        ))}
        {files.map((file) => (
          <File key={file.fileId} file={file} />
        ))}
      </ul>
    </section>
  );
}

function File({ file }: { file: FileSchema }) {
  const remove = useFiles((state) => state.remove);
  const table = file.tables[0];
  const icon: IconName = table ? "table" : file.kind === "image" ? "image" : "file";
  return (
    <li>
      <details className="file">
        <summary>
          <Icon name={icon} />
          <span className="name">{file.name}</span>
          <span className="soft">{told(file)}</span>
        </summary>
        {file.reason && <p className="bad">{file.reason}</p>}
        {file.tables.map((each, index) => (
          <Columns key={each.name ?? index} name={each.name} columns={each.columns} sample={each.sample} />
        ))}
        <div className="row">
          <code className="path">{file.path}</code>
          <button type="button" className="quiet" onClick={() => void attempt(() => remove(file.fileId))}>
            <Icon name="trash" />
            <span className="hidden">Delete {file.name}</span>
          </button>
        </div>
      </details>
    </li>
  );
}

type ColumnsProps = Pick<FileSchema["tables"][number], "name" | "columns" | "sample">;

function Columns({ name, columns, sample }: ColumnsProps) {
  return (
    <table className="columns">
      {name && <caption>{name}</caption>}
      <thead>
        <tr>
          <th scope="col">Column</th>
          <th scope="col">Type</th>
          <th scope="col">For example</th>
        </tr>
      </thead>
      <tbody>
        {columns.map((column, index) => (
          <tr key={column.name}>
            <th scope="row" title={column.name}>
              {column.name}
            </th>
            <td>
              {column.type}
              {column.nulls > 0 && <span className="soft"> · {column.nulls} missing</span>}
            </td>
            <td>{String(sample[0]?.[index] ?? "–")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function told(file: FileSchema): string {
  if (file.status === "pending") return "being read …";
  if (file.status === "failed") return "cannot be used";
  const [table] = file.tables;
  return table ? `${counted(table.rowCount, "row")} × ${table.columns.length}` : size(file.size);
}
