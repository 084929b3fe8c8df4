const PATHS = {
  hourglass: "M6 3h12M6 21h12M8 3c0 5 8 6 8 9s-8 4-8 9M16 3c0 5-8 6-8 9s8 4 8 9",
  play: "M8 5l11 7-11 7z",
  stop: "M7 7h10v10H7z",
  all: "M4 5l8 7-8 7zM13 5l8 7-8 7z",
  plus: "M12 5v14M5 12h14",
  up: "M12 19V6M6 11l6-6 6 6",
  down: "M12 5v13M6 13l6 6 6-6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  moon: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  table: "M4 5h16v14H4zM4 10h16M10 5v14",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
  restart: "M5 12a7 7 0 1 0 2-5M5 4v4h4",
  keyboard: "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M8 14h8",
  pencil: "M5 19l1-4L16 5l3 3L9 18z",
  clear: "M4 19h16M7 15l8-9 4 4-7 8H9z",
  book: "M6 4h12v16H8a2 2 0 0 1-2-2zM6 18a2 2 0 0 1 2-2h10",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

export type IconName = keyof typeof PATHS;

/** Says nothing itself: a button with an icon has a label. */
export function Icon({ name }: { name: IconName }) {
  const isFilled = name === "play" || name === "stop" || name === "all";
  return (
    <svg className={`icon${isFilled ? " filled" : ""}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
