import { useEffect, useRef, useState } from "react";
import { useTheme } from "../state/theme";

const MOST_HEIGHT = 1_200;

/**
 * HTML that code has put out. The frame has an origin of its own (no `allow-same-origin`) and a policy under which it
 * loads nothing and sends nothing: its scripts run, and reach neither this page nor its key nor the API.
 */
export function Frame({ html }: { html: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  const [height, setHeight] = useState(40);
  const isDark = useTheme((state) => state.isDark);
  const [isReady, setReady] = useState(false);

  useEffect(() => {
    const hear = ({ source, data }: MessageEvent<{ ready?: boolean; height?: number }>) => {
      if (source !== frame.current?.contentWindow) return;
      if (data.ready) setReady(true);
      if (typeof data.height === "number") setHeight(Math.max(20, Math.min(MOST_HEIGHT, Math.ceil(data.height))));
    };
    addEventListener("message", hear);
    return () => removeEventListener("message", hear);
  }, []);

  useEffect(() => {
    if (isReady) frame.current?.contentWindow?.postMessage({ html, isDark, dark: isDark }, "*");
  }, [html, isReady, isDark]);

  return (
    <iframe
      ref={frame}
      className="frame-of-html"
      title="HTML that the code has put out"
      src="/frame.html"
      sandbox="allow-scripts"
      referrerPolicy="no-referrer"
      style={{ height }}
    />
  );
}
