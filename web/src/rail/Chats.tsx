import { counted } from "../amounts";
import { Icon } from "../Icon";
import { make, refreshShelf, useNotebook } from "../state/notebook";
import { attempt } from "../state/notices";
import { newChatId, usePlace } from "../state/place";

/** Other notebooks of the chat, and other chats. */
export function Chats() {
  const { shelf, notebookId, title, cells, phase } = useNotebook();
  const { chatId, recent, open } = usePlace();
  // What the shelf says of the open notebook is as old as the shelf.
  const live = phase === "open" ? { title, cellCount: cells.length } : {};
  const books = shelf.map((each) => (each.notebookId === notebookId ? { ...each, ...live } : each));
  const create = async () => {
    const made = await make(chatId, `Untitled ${shelf.length + 1}`);
    await refreshShelf();
    open(chatId, made.notebookId);
  };
  return (
    <section aria-labelledby="notebooks-title">
      <h2 id="notebooks-title">Notebooks</h2>
      <ul className="list">
        {books.map((each) => (
          <li key={each.notebookId}>
            <button
              type="button"
              className="quiet wide"
              aria-current={each.notebookId === notebookId ? "page" : undefined}
              onClick={() => open(chatId, each.notebookId)}
            >
              <Icon name="book" />
              <span className="name">{each.title}</span>
              <span className="soft">{counted(each.cellCount, "cell")}</span>
            </button>
          </li>
        ))}
      </ul>
      <div className="row">
        <button type="button" onClick={() => void attempt(create)}>
          <Icon name="plus" /> New notebook
        </button>
        <button type="button" onClick={() => open(newChatId())}>
          <Icon name="plus" /> New chat
        </button>
      </div>
      <label className="field">
        <span>Chat</span>
        <select value={chatId} onChange={(event) => open(event.target.value)}>
          {[...new Set([chatId, ...recent])].map((id) => (
            <option key={id} value={id}>
              {id}
            </option>
          ))}
        </select>
      </label>
    </section>
  );
}
