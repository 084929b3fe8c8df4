// Its own types are for another package, and say more than is used here.
declare module "plotly.js-strict-dist-min" {
  const Plotly: {
    react(host: HTMLElement, data: object[], layout: object, config: object): Promise<unknown>;
    addFrames(host: HTMLElement, frames: object[]): Promise<unknown>;
  };
  export default Plotly;
}
