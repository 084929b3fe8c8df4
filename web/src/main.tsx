import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/rail.css";
import "./styles/cells.css";
import "./styles/outputs.css";
import { useTheme } from "./state/theme";

useTheme.getState().apply();
createRoot(document.getElementById("page")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
