import { Icon } from "../Icon";
import { Artifacts } from "./Artifacts";
import { Chats } from "./Chats";
import { Files } from "./Files";
import { Session } from "./Session";

/** What the chat has besides its cells. */
export function Rail({ onClose }: { onClose: () => void }) {
  return (
    <>
      <button
        type="button"
        className="rail-shade"
        aria-label="Close files and session"
        tabIndex={-1}
        onClick={onClose}
      />
      <aside id="rail" className="rail" aria-label="Session and files">
        <button type="button" className="quiet rail-close" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
        <Session />
        <Files />
        <Artifacts />
        <Chats />
      </aside>
    </>
  );
}
