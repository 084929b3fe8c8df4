// Draws Plotly's figures, in a frame of their own: Plotly writes styles that the page's content policy forbids there,
// and is larger than all the rest of the page.
import Plotly from "plotly.js-strict-dist-min";
import "./figure.css";

type Figure = { data?: object[]; layout?: Record<string, unknown>; frames?: object[]; config?: object };
type Message = { figure?: Figure; dark?: boolean };

const HEIGHT = 420;
const CLEAR = "rgba(0,0,0,0)";
const host = document.getElementById("figure") as HTMLDivElement;

addEventListener("message", async ({ source, data }: MessageEvent<Message>) => {
  if (source !== parent || !data.figure) return;
  const { figure, dark } = data;
  const layout = {
    height: HEIGHT,
    ...figure.layout,
    ...(dark ? inTheDark(figure.layout) : { paper_bgcolor: CLEAR }),
  };
  const config = { displaylogo: false, responsive: true, ...figure.config };
  await Plotly.react(host, figure.data ?? [], layout, config);
  if (figure.frames?.length) await Plotly.addFrames(host, figure.frames);
  parent.postMessage({ height: host.scrollHeight + 4 }, "*");
});

function inTheDark(layout: Figure["layout"] = {}): Record<string, unknown> {
  const line = { gridcolor: "#3a332d", zerolinecolor: "#4a423b", linecolor: "#3a332d" };
  const axis = (name: string) => ({ [name]: { ...line, ...(layout[name] as object | undefined) } });
  return {
    paper_bgcolor: CLEAR,
    plot_bgcolor: CLEAR,
    font: { color: "#ece4da", ...(layout.font as object | undefined) },
    ...axis("xaxis"),
    ...axis("yaxis"),
  };
}

parent.postMessage({ ready: true }, "*");
