import { Icon } from "./Icon";
import { useNotices } from "./state/notices";

/** What the page has to say, read out as it comes. */
export function Notices() {
  const { notices, whisper, dismiss } = useNotices();
  return (
    <div className="notices" role="status" aria-live="polite">
      <span className="hidden">{whisper}</span>
      {notices.map(({ id, text, tone }) => (
        <div key={id} className={`notice ${tone}`}>
          <span>{text}</span>
          <button type="button" className="quiet" aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
