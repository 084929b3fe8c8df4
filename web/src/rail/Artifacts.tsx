import { size } from "../amounts";
import { Icon } from "../Icon";
import { downloadArtifact } from "../state/exchange";
import { useFiles } from "../state/files";
import { attempt } from "../state/notices";

/** Files that runs have made. They stay when the sandbox is gone. */
export function Artifacts() {
  const artifacts = useFiles((state) => state.artifacts);
  return (
    <section aria-labelledby="artifacts-title">
      <h2 id="artifacts-title">Artifacts</h2>
      {artifacts.length === 0 && <p className="soft">What your code saves to a file comes here.</p>}
      <ul className="list" aria-live="polite">
        {artifacts.map((artifact) => {
          const name = artifact.path.replace(/^\/home\/user\//, "");
          return (
            <li key={artifact.artifactId} className="artifact">
              <button
                type="button"
                className="quiet wide"
                onClick={() =>
                  void attempt(() => downloadArtifact(artifact.artifactId, name.split("/").pop() ?? name))
                }
              >
                <Icon name="download" />
                <span className="hidden">Download </span>
                <span className="name">{name}</span>
                <span className="soft">
                  {size(artifact.size)}
                  {artifact.version > 1 && ` · v${artifact.version}`}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
