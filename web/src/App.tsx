import { useEffect } from "react";
import { Connect } from "./Connect";
import { Shell } from "./Shell";
import { useConnection } from "./state/connection";

export function App() {
  const phase = useConnection((state) => state.phase);
  const start = useConnection((state) => state.start);
  useEffect(() => void start(), [start]);
  if (phase === "starting") return <p className="opening">Connecting …</p>;
  return phase === "asking" ? <Connect /> : <Shell />;
}
