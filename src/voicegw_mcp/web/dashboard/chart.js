// Charts over time: uPlot draws them, this file gives them the page's colours, a line to read values from, and a table.

import { colour, whenColoursChange } from "./colours.js";
import { fill, make, table } from "./dom.js";
import { day, hour, shortDay, timezone } from "./format.js";

/** @typedef {import("./timeline.js").Unit} Unit */

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} marker the class that colours its marker, such as "marker-1"
 * @property {string} colour the custom property, such as "--series-1"
 * @property {(number | null)[]} values one for each start; null is a gap
 * @property {string} whole what is shown while nothing is pointed at
 */

/**
 * @typedef {object} Drawing
 * @property {"bars" | "lines"} kind bars are stacked
 * @property {Unit} unit
 * @property {number[]} starts UTC epoch seconds
 * @property {Series[]} series
 * @property {(value: number | null | undefined) => string} format
 * @property {string} title for who does not see it
 * @property {string} span what is shown while nothing is pointed at, such as "30 days"
 */

const HEIGHT = 220;

/** The names of the colours, in the order in which series get them; the last is for all others. */
export const MARKERS = ["1", "2", "3", "4", "5"];

export class Chart {
  /** @param {Element} parent whose content this is from now on */
  constructor(parent) {
    this.readout = make("div", { class: "readout" });
    this.plot = make("div", { class: "plot" });
    this.figures = make("div", { class: "scroll", tabindex: "0" });
    this.details = make(
      "details",
      { class: "figures", toggle: () => this.list() },
      make("summary", {}, "Figures as a table"),
      this.figures,
    );
    fill(parent, this.readout, this.plot, this.details);
    /** @type {Drawing | undefined} */
    this.drawing = undefined;
    /** @type {any} */
    this.uplot = undefined;
    this.shape = "";
    new ResizeObserver(() => this.fit()).observe(this.plot);
    whenColoursChange(() => this.redraw());
  }

  /** @param {Drawing} drawing */
  draw(drawing) {
    this.drawing = drawing;
    const shape = JSON.stringify([
      drawing.kind,
      drawing.unit,
      timezone(),
      ...drawing.series.map((series) => series.name),
    ]);
    if (this.uplot && shape === this.shape) this.uplot.setData(columns(drawing));
    else this.redraw();
    this.shape = shape;
    this.read(this.uplot?.cursor.idx);
    this.list();
  }

  redraw() {
    this.uplot?.destroy();
    this.uplot = undefined;
    if (!this.drawing || !this.plot.clientWidth) return;
    this.uplot = new globalThis.uPlot(this.options(this.drawing), columns(this.drawing), this.plot);
    this.uplot.root.setAttribute("role", "img");
    this.uplot.root.setAttribute("aria-label", `${this.drawing.title}; the figures are in the table below`);
  }

  fit() {
    if (!this.uplot) this.redraw();
    else if (this.plot.clientWidth) this.uplot.setSize({ width: this.plot.clientWidth, height: HEIGHT });
  }

  /** @param {Drawing} drawing */
  options(drawing) {
    const uPlot = globalThis.uPlot;
    const bars = drawing.kind === "bars";
    const axis = {
      stroke: colour("--faint"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const half = (drawing.unit === "hour" ? 3600 : 86_400) / 2;
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      tzDate: (/** @type {number} */ at) => uPlot.tzDate(new Date(at * 1000), timezone()),
      legend: { show: false },
      cursor: { y: false, points: { show: !bars }, drag: { x: false, y: false } },
      scales: {
        x: {
          range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) =>
            bars || low === high ? [low - half, high + half] : [low - (high - low) * 0.04, high],
        },
        y: {
          range: (/** @type {any} */ _, /** @type {number} */ _low, /** @type {number} */ high) => [
            0,
            high > 0 ? high * 1.08 : 1,
          ],
        },
      },
      padding: [8, 24, 0, 0],
      axes: [
        {
          ...axis,
          grid: { show: false },
          values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((moment) => label(moment, drawing.unit)),
          space: 64,
          size: 28,
        },
        {
          ...axis,
          size: 62,
          values: (/** @type {any} */ _, /** @type {number[]} */ at) =>
            // The steps of an empty chart are of nothing.
            at.map((value) => (drawing.series.length ? step(drawing.format(value)) : "")),
        },
      ],
      series: [
        {},
        ...order(drawing).map((series) => ({
          label: series.name,
          stroke: colour(series.colour),
          ...(bars
            ? {
                fill: colour(series.colour),
                width: 0,
                paths: uPlot.paths.bars({ size: [0.7, 36] }),
                points: { show: false },
              }
            : { width: 2, points: { show: drawing.starts.length < 40, size: 5, fill: colour(series.colour) } }),
        })),
      ],
      hooks: { setCursor: [(/** @type {any} */ plot) => this.read(plot.cursor.idx)] },
    };
  }

  /** @param {number | null | undefined} at the place that is pointed at */
  read(at) {
    const drawing = this.drawing;
    if (!drawing) return;
    const pointed = at !== null && at !== undefined && at < drawing.starts.length;
    fill(
      this.readout,
      make("span", { class: "when" }, pointed ? moment(drawing.starts[at], drawing.unit) : drawing.span),
      ...drawing.series.map((series) =>
        make(
          "span",
          {},
          make("span", { class: `marker ${series.marker}` }),
          `${series.name} `,
          make("strong", {}, pointed ? drawing.format(series.values[at]) : series.whole),
        ),
      ),
    );
  }

  /** Writes the table of figures, while it is open. */
  list() {
    const drawing = this.drawing;
    if (!drawing || !this.details.open) return;
    const head = [
      { title: drawing.unit === "hour" ? "Hour" : "Day" },
      ...drawing.series.map((series) => ({ title: series.name, number: true })),
    ];
    const rows = drawing.starts.map((start, at) => [
      moment(start, drawing.unit),
      ...drawing.series.map((series) => drawing.format(series.values[at])),
    ]);
    fill(this.figures, table(head, rows, drawing.title));
  }
}

/** @param {string} figure without the zeros that single figures have, and steps need not */
function step(figure) {
  return figure.replace(/\.0+$/, "").replace(/(\.\d\d)0+$/, "$1");
}

/** @param {Drawing} drawing the highest stack first, so that lower ones are drawn over it */
function order(drawing) {
  return drawing.kind === "bars" ? [...drawing.series].reverse() : drawing.series;
}

/**
 * @param {Drawing} drawing
 * @returns {(number | null)[][]} what uPlot draws: the starts, then each series; bars as the sums up to them
 */
function columns(drawing) {
  if (drawing.kind === "lines") return [drawing.starts, ...drawing.series.map((series) => series.values)];
  let below = drawing.starts.map(() => 0);
  const sums = drawing.series.map((series) => (below = below.map((sum, at) => sum + (series.values[at] ?? 0))));
  return [drawing.starts, ...sums.reverse()];
}

/**
 * @param {number} at UTC epoch seconds
 * @param {Unit} unit
 */
function label(at, unit) {
  const date = new Date(at * 1000);
  return unit === "hour" ? hour(date) : shortDay(date);
}

/**
 * @param {number} at UTC epoch seconds
 * @param {Unit} unit
 */
function moment(at, unit) {
  const date = new Date(at * 1000);
  return unit === "hour" ? `${shortDay(date)}, ${hour(date)}` : day(date);
}
