// What was spent: three totals, and the spend over time by provider, model or project.

import { ApiError, ask } from "./api.js";
import { Chart, MARKERS } from "./chart.js";
import { byId, choice, empty, fill, make, table } from "./dom.js";
import { count, money, percent } from "./format.js";
import { PERIODS, along, choosePeriod, starts } from "./timeline.js";

/** @typedef {{cost: number, requests: number}} Entry */
/** @typedef {{key: string, cost: number, requests: number}} Group */
/** @typedef {{name: string, groups: Group[], entry: Entry}} Part */

/** What spend is split by: the title, the key of the report, the parameter that limits a report to one. */
const SPLITS = {
  provider: { label: "Provider", entries: "by_provider", parameter: "provider_id" },
  model: { label: "Model", entries: "by_model", parameter: "model_id" },
  project: { label: "Project", entries: "by_project", parameter: "project" },
};
const TOTALS = [
  { period: "today", title: "Today", before: "than yesterday by now" },
  { period: "week", title: "Last 7 days", before: "than the 7 days before" },
  { period: "this_month", title: "This month", before: "than last month by now" },
];
const ROWS = 9;
/** What a report calls the entries for which it had no room. */
const OTHER = "(other)";

export class Spend {
  /** @param {() => void} changed called when something else is to be shown */
  constructor(changed) {
    this.period = "week";
    /** @type {keyof typeof SPLITS} */
    this.split = "provider";
    this.chart = new Chart(byId("spend-chart"));
    fill(
      byId("spend-controls"),
      choice(
        "spend-split",
        "Split by",
        Object.entries(SPLITS).map(([value, { label }]) => [value, label]),
        this.split,
        (value) => {
          this.split = /** @type {keyof typeof SPLITS} */ (value);
          changed();
        },
      ),
      choosePeriod("spend-period", this, changed),
    );
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    const { unit } = PERIODS[this.period];
    const split = SPLITS[this.split];
    const asked = { period: this.period, group_by: unit, include_pricing_source: false };
    const report = await ask("costs", asked, signal);
    /** @type {[string, Entry][]} */
    const ranked = Object.entries(report[split.entries]);
    const first = ranked.filter(([name, entry]) => name !== OTHER && entry.cost > 0).slice(0, MARKERS.length);
    const parts = await Promise.all(
      first.map(([name, entry]) => this.part(name, entry, { ...asked, [split.parameter]: name }, signal)),
    );
    this.show(
      report,
      ranked,
      parts.filter((part) => part !== null),
    );
  }

  /**
   * @param {string} name
   * @param {Entry} entry
   * @param {import("./api.js").Parameters} asked
   * @param {AbortSignal} signal
   * @returns {Promise<Part | null>} null for a name that cannot be asked for: one that the report shows with escapes or cut
   */
  async part(name, entry, asked, signal) {
    try {
      return { name, entry, groups: (await ask("costs", asked, signal)).groups };
    } catch (error) {
      if (error instanceof ApiError && (error.status === 404 || error.status === 400)) return null;
      throw error;
    }
  }

  /**
   * @param {any} report
   * @param {[string, Entry][]} ranked all entries, the costliest first
   * @param {Part[]} parts those with a series of their own
   */
  show(report, ranked, parts) {
    const { unit, label } = PERIODS[this.period];
    const split = SPLITS[this.split];
    const line = starts(report, unit);
    const series = parts.map((part, at) => ({
      name: part.name,
      marker: `marker-${MARKERS[at]}`,
      colour: `--series-${MARKERS[at]}`,
      values: along(line, part.groups, (group) => group.cost, 0),
      whole: money(part.entry.cost),
    }));
    const all = along(line, /** @type {Group[]} */ (report.groups), (group) => group.cost, 0);
    const others = all.map((cost, at) =>
      Math.max(0, (cost ?? 0) - series.reduce((sum, one) => sum + (one.values[at] ?? 0), 0)),
    );
    const rest = report.total_usd - parts.reduce((sum, part) => sum + part.entry.cost, 0);
    if (rest > 1e-9) {
      series.push({
        name: series.length ? "others" : "all",
        marker: "",
        colour: "--series-other",
        values: others,
        whole: money(rest),
      });
    }
    this.chart.draw({
      kind: "bars",
      unit,
      starts: line,
      series,
      format: (value) => money(value ?? undefined),
      title: `Spend by ${this.split}, ${label}`,
      span: label,
    });
    this.breakdown(report, ranked, parts, split.label);
  }

  /**
   * @param {any} report
   * @param {[string, Entry][]} ranked
   * @param {Part[]} parts
   * @param {string} title of the first column
   */
  breakdown(report, ranked, parts, title) {
    if (!ranked.length) {
      fill(byId("spend-table"), empty("Nothing was recorded in this period."));
      return;
    }
    const rows = ranked.slice(0, ROWS).map(([name, entry]) => {
      const at = parts.findIndex((part) => part.name === name);
      return [
        make("span", {}, make("span", { class: at < 0 ? "marker" : `marker marker-${MARKERS[at]}` }), name),
        money(entry.cost),
        percent(entry.cost, report.total_usd),
        count(entry.requests),
      ];
    });
    const columns = [
      { title, class: "name" },
      { title: "Cost", number: true },
      { title: "Share", number: true },
      { title: "Requests", number: true },
    ];
    fill(
      byId("spend-table"),
      table(columns, rows, `Spend by ${title.toLowerCase()}`),
      ...remarks(report, ranked.length - rows.length),
    );
  }
}

/**
 * @param {any} report
 * @param {number} more entries that are not in the table
 */
function remarks(report, more) {
  const told = [];
  if (more > 0) told.push(`${count(more)} more`);
  if (report.unpriced_requests)
    told.push(`${count(report.unpriced_requests)} requests have no known price and are not in the sums`);
  return told.map((sentence) => make("p", { class: "faint" }, sentence));
}

/**
 * Shows the totals at the top.
 * @param {AbortSignal} signal
 */
export async function loadTotals(signal) {
  const reports = await Promise.all(
    TOTALS.map(({ period }) =>
      ask("costs", { period, compare_to: "previous", per_modality: false, include_pricing_source: false }, signal),
    ),
  );
  const { overall } = await ask("latency", { period: "today" }, signal);
  fill(
    byId("totals"),
    ...TOTALS.map(({ title, before }, at) =>
      total(title, money(reports[at].total_usd), comparison(reports[at].previous, before), reports[at].total_usd),
    ),
    total(
      "Requests today",
      count(overall.request_count),
      `${percent(overall.error_count, overall.request_count)} failed`,
    ),
  );
}

/**
 * @param {string} title
 * @param {string} figure
 * @param {string} remark
 * @param {number} [exact] in USD
 */
function total(title, figure, remark, exact) {
  const figures = make("dd", { class: "figure", title: exact === undefined ? undefined : `${exact} USD` }, figure);
  return make("dl", { class: "total" }, make("dt", {}, title), figures, make("dd", { class: "faint" }, remark));
}

/**
 * @param {{total_usd: number, change_pct?: number}} previous
 * @param {string} before
 */
function comparison(previous, before) {
  if (previous.change_pct === undefined) return "nothing to compare with";
  const change = Math.abs(previous.change_pct);
  if (change < 0.5) return `as much as ${before.replace(/^than /, "")}`;
  return `${change.toFixed(0)} % ${previous.change_pct > 0 ? "more" : "less"} ${before}`;
}
