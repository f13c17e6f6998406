// Puts the hours or days of a report on one line of time: what the store has no rows of is zero, or a gap.

import { choice } from "./dom.js";

/** @typedef {"hour" | "day"} Unit */
/** @typedef {{start: string, end: string, groups?: {key: string}[]}} TimedReport */

/** The periods of the charts, with the unit of each. @type {Record<string, {label: string, unit: Unit}>} */
export const PERIODS = {
  today: { label: "Today", unit: "hour" },
  week: { label: "7 days", unit: "day" },
  month: { label: "30 days", unit: "day" },
};

/**
 * @param {string} name of the buttons
 * @param {{period: string}} panel what shows the period that is chosen
 * @param {() => void} changed called when it is another one
 */
export function choosePeriod(name, panel, changed) {
  return choice(
    name,
    "Period",
    Object.entries(PERIODS).map(([value, { label }]) => [value, label]),
    panel.period,
    (value) => {
      panel.period = value;
      changed();
    },
  );
}

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

/** @param {string} moment ISO 8601 */
export function seconds(moment) {
  return Date.parse(moment) / 1000;
}

/**
 * @param {TimedReport} report whose groups are hours or days
 * @param {Unit} unit
 * @returns {number[]} the starts of all hours or days, UTC epoch seconds, in order
 */
export function starts(report, unit) {
  const known = new Set((report.groups ?? []).map((group) => seconds(group.key)));
  const end = seconds(report.end);
  const step = unit === "hour" ? HOUR_S : DAY_S;
  // A day may have 23 to 25 hours: what lies within two hours of a start that is known is that one.
  const tolerance = unit === "hour" ? 0 : 2 * HOUR_S;
  const found = new Set(known);
  let at = seconds(report.start);
  while (at < end) {
    const near = tolerance ? [...known].find((start) => Math.abs(start - at) <= tolerance) : at;
    at = near ?? at;
    found.add(at);
    at += step;
  }
  return [...found].sort((one, other) => one - other);
}

/**
 * @template {{key: string}} Group
 * @param {number[]} line of ``starts``
 * @param {Group[]} groups
 * @param {(group: Group) => number | undefined} figure
 * @param {number | null} missing stands where there is no group
 * @returns {(number | null)[]} a figure for each start
 */
export function along(line, groups, figure, missing) {
  const found = new Map(groups.map((group) => [seconds(group.key), figure(group)]));
  return line.map((start) => found.get(start) ?? missing);
}
