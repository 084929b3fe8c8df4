import { Icon } from "./Icon";
import { useNotices } from "./state/notices";

/** What the page has to say, read out as it comes. */
export function Notices() {
  const { notices, whisper, dismiss } = useNotices();
  return (
    <div className="notices" role="status" aria-live="polite">
      <span className="hidden">{whisper}</span>
      {notices.map(({ id, text, tone, offer }) => (
        <div key={id} className={`notice ${tone}`}>
          <span>{text}</span>
          {offer && (
            <button
              type="button"
              onClick={() => {
                dismiss(id);
                offer.act();
              }}
            >
              {offer.label}
            </button>
          )}
          <button type="button" className="quiet" aria-label="Dismiss" onClick={() => dismiss(id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
