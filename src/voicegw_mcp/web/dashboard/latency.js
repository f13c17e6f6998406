// How fast requests are: percentiles over time, and by model.

import { ask } from "./api.js";
import { Chart, MARKERS } from "./chart.js";
import { byId, choice, empty, fill, make, table } from "./dom.js";
import { count, milliseconds, percent } from "./format.js";
import { PERIODS, along, choosePeriod, starts } from "./timeline.js";

/** @typedef {{request_count: number, error_count: number, ttfb_percentiles?: Record<string, number>, latency_percentiles?: Record<string, number>}} Stats */

const FIGURES = /** @type {const} */ ({
  ttfb: ["First byte", "ttfb_percentiles"],
  total: ["Total", "latency_percentiles"],
});
const MODALITIES = { "": "All", stt: "STT", llm: "LLM", tts: "TTS" };
const ROWS = 9;

export class Latency {
  /** @param {() => void} changed called when something else is to be shown */
  constructor(changed) {
    this.period = "week";
    /** @type {keyof typeof FIGURES} */
    this.figure = "ttfb";
    this.modality = "";
    this.chart = new Chart(byId("latency-chart"));
    fill(
      byId("latency-controls"),
      choice(
        "latency-figure",
        "Figure",
        Object.entries(FIGURES).map(([value, [label]]) => [value, label]),
        this.figure,
        (value) => {
          this.figure = /** @type {keyof typeof FIGURES} */ (value);
          changed();
        },
      ),
      choice("latency-modality", "Modality", Object.entries(MODALITIES), this.modality, (value) => {
        this.modality = value;
        changed();
      }),
      choosePeriod("latency-period", this, changed),
    );
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    const { unit, label } = PERIODS[this.period];
    const report = await ask("latency", { period: this.period, group_by: unit, modality: this.modality }, signal);
    const [title, key] = FIGURES[this.figure];
    const line = starts(report, unit);
    /** @type {Record<string, number>} */
    const overall = report.overall[key] ?? {};
    const series = Object.keys(overall)
      .slice(0, MARKERS.length)
      .map((name, at) => ({
        name,
        marker: `marker-${MARKERS[at]}`,
        colour: `--series-${MARKERS[at]}`,
        values: along(
          line,
          /** @type {(Stats & {key: string})[]} */ (report.groups),
          (group) => group[key]?.[name],
          null,
        ),
        whole: milliseconds(overall[name]),
      }));
    this.chart.draw({
      kind: "lines",
      unit,
      starts: line,
      series,
      format: (value) => milliseconds(value ?? undefined),
      title: `${title} by percentile, ${label}`,
      span: label,
    });
    this.models(report.by_model, key, Object.keys(overall));
  }

  /**
   * @param {Record<string, Stats>} byModel most requests first
   * @param {"ttfb_percentiles" | "latency_percentiles"} key
   * @param {string[]} names of the percentiles
   */
  models(byModel, key, names) {
    const all = Object.entries(byModel);
    if (!all.length) {
      fill(byId("latency-table"), empty("Nothing was recorded in this period."));
      return;
    }
    const columns = [
      { title: "Model", class: "name" },
      ...names.map((name) => ({ title: name, number: true })),
      { title: "Requests", number: true, class: "spare" },
      { title: "Failed", number: true, class: "spare" },
    ];
    const rows = all
      .slice(0, ROWS)
      .map(([model, stats]) => [
        model,
        ...names.map((name) => milliseconds(stats[key]?.[name])),
        count(stats.request_count),
        percent(stats.error_count, stats.request_count),
      ]);
    const shown = table(columns, rows, "Latency by model");
    fill(
      byId("latency-table"),
      shown,
      all.length > ROWS && make("p", { class: "faint" }, `${count(all.length - ROWS)} more`),
    );
  }
}
