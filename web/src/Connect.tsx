import { type FormEvent, useState } from "react";
import { Icon } from "./Icon";
import { useConnection } from "./state/connection";

/** Asks for the API key. */
export function Connect() {
  const { connect, problem } = useConnection();
  const [key, setKey] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void connect(key.trim());
  };
  return (
    <main className="connect">
      <form onSubmit={submit}>
        <h1>
          <Icon name="hourglass" /> Sandkeeper
        </h1>
        <p>A Python notebook whose variables stay warm. It needs an API key, and keeps it in this tab alone.</p>
        <label htmlFor="key">API key or token</label>
        <input
          id="key"
          type="password"
          autoComplete="off"
          required
          value={key}
          onChange={(event) => setKey(event.target.value)}
          aria-describedby={problem ? "key-problem" : undefined}
        />
        {problem && (
          <p id="key-problem" className="bad" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" className="primary">
          Open the notebook
        </button>
      </form>
    </main>
  );
}
