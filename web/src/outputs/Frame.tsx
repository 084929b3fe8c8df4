import { useEffect, useRef, useState } from "react";
import { useTheme } from "../state/theme";

const MOST_HEIGHT = 1_200;

type Message = { html: string } | { figure: unknown };
type Props = { src: string; message: Message; title: string };

/**
 * HTML that code has put out. The frame has an origin of its own (no `allow-same-origin`) and a policy under which it
 * loads nothing and sends nothing: its scripts run, and reach neither this page nor its key nor the API.
 */
export function Html({ html }: { html: string }) {
  return <Frame src="/frame.html" message={{ html }} title="HTML that the code has put out" />;
}

/** A figure of Plotly. */
export function Figure({ figure }: { figure: unknown }) {
  return <Frame src="/figure.html" message={{ figure }} title="Figure" />;
}

function Frame({ src, message, title }: Props) {
  const frame = useRef<HTMLIFrameElement>(null);
  const latest = useRef(message);
  latest.current = message;
  const [height, setHeight] = useState(40);
  const [isReady, setReady] = useState(false);
  const isDark = useTheme((state) => state.isDark);
  const content = "html" in message ? message.html : message.figure;

  useEffect(() => {
    const hear = ({ source, data }: MessageEvent<{ ready?: boolean; height?: number }>) => {
      if (source !== frame.current?.contentWindow) return;
      if (data.ready) setReady(true);
      if (typeof data.height === "number") setHeight(Math.max(20, Math.min(MOST_HEIGHT, Math.ceil(data.height))));
    };
    addEventListener("message", hear);
    return () => removeEventListener("message", hear);
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another message is one with another content
  useEffect(() => {
    if (isReady) frame.current?.contentWindow?.postMessage({ ...latest.current, dark: isDark }, "*");
  }, [content, isReady, isDark]);

  return (
    <iframe
      ref={frame}
      className="frame-of-html"
      title={title}
      src={src}
      sandbox="allow-scripts"
      referrerPolicy="no-referrer"
      style={{ height }}
    />
  );
}
