import { Icon } from "../Icon";
import { attempt } from "../state/notices";
import { runAll } from "../state/running";
import { reasonOf, useSession } from "../state/session";

/** Tells that variables are gone, and offers what helps. */
export function Loss() {
  const { loss, accept } = useSession();
  if (!loss) return null;
  return (
    <div className="loss" role="alert">
      <Icon name="warning" />
      <p>
        <strong>Variables were lost:</strong> {reasonOf(loss)}. Files are back in place; what earlier cells had
        computed is not.
      </p>
      <div className="row">
        <button type="button" className="primary" onClick={() => void attempt(runAll)}>
          Re-run all
        </button>
        <button type="button" onClick={accept}>
          Go on without
        </button>
      </div>
    </div>
  );
}
