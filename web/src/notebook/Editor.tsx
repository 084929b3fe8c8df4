import { completionStatus } from "@codemirror/autocomplete";
import { Compartment, Prec } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { useEffect, useRef } from "react";
import { type Language, setup } from "./editorSetup";

export type EditorKeys = {
  run(): void;
  runAndStay(): void;
  runAndInsert(): void;
  save(): void;
  leave(): void;
  above(): void;
  below(): void;
};

type Props = {
  cellId: string;
  value: string;
  language: Language;
  label: string;
  keys: EditorKeys;
  onChange(text: string): void;
};

const shown = new Map<string, EditorView>();

/** Puts the caret into a cell's editor, where it has one. */
export function focusEditor(cellId: string, where: "start" | "end" | "as it was" = "as it was"): boolean {
  const view = shown.get(cellId);
  if (!view) return false;
  if (where !== "as it was")
    view.dispatch({ selection: { anchor: where === "start" ? 0 : view.state.doc.length } });
  view.focus();
  return true;
}

/**
 * A code editor. It lives in a shadow root: there CodeMirror's styles are constructed ones, which the page's content
 * policy lets be; in the page itself it would write `style` elements, for which the policy would have to allow any.
 */
export function Editor({ cellId, value, language, label, keys, onChange }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(null);
  const latest = useRef({ keys, onChange });
  latest.current = { keys, onChange };
  const named = useRef(new Compartment());

  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is the editor's own; below it is told of others'
  useEffect(() => {
    const root = host.current!.shadowRoot ?? host.current!.attachShadow({ mode: "open", delegatesFocus: true });
    const act = (key: keyof EditorKeys) => () => {
      latest.current.keys[key]();
      return true;
    };
    const atEdge = (key: "above" | "below") => (editor: EditorView) => {
      const { head, empty } = editor.state.selection.main;
      const line = editor.state.doc.lineAt(head);
      const isAtEdge = key === "above" ? line.number === 1 : line.number === editor.state.doc.lines;
      if (!isAtEdge || !empty || completionStatus(editor.state)) return false;
      return act(key)();
    };
    const made = new EditorView({
      doc: value,
      root,
      parent: root,
      extensions: [
        Prec.highest(
          keymap.of([
            { key: "Shift-Enter", run: act("run") },
            { key: "Mod-Enter", run: act("runAndStay") },
            { key: "Alt-Enter", run: act("runAndInsert") },
            { key: "Mod-s", run: act("save") },
          ]),
        ),
        named.current.of(setup(language, label)),
        Prec.lowest(keymap.of([{ key: "Escape", run: act("leave") }])),
        Prec.high(
          keymap.of([
            { key: "ArrowUp", run: atEdge("above") },
            { key: "ArrowDown", run: atEdge("below") },
          ]),
        ),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) latest.current.onChange(update.state.doc.toString());
        }),
      ],
    });
    view.current = made;
    shown.set(cellId, made);
    return () => {
      if (shown.get(cellId) === made) shown.delete(cellId);
      made.destroy();
    };
  }, [cellId]);

  useEffect(() => {
    view.current?.dispatch({ effects: named.current.reconfigure(setup(language, label)) });
  }, [language, label]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || editor.state.doc.toString() === value) return;
    const at = Math.min(editor.state.selection.main.head, value.length);
    const changes = { from: 0, to: editor.state.doc.length, insert: value };
    editor.dispatch({ changes, selection: { anchor: at } });
  }, [value]);

  return <div ref={host} className="editor" />;
}
