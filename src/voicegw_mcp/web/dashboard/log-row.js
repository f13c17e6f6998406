// One row of the request log, with its details behind a button.

import { make, state } from "./dom.js";
import { full, milliseconds, money, second, shortDay } from "./format.js";

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {string} timestamp ISO 8601
 * @property {string} project
 * @property {string} modality
 * @property {string} model_id
 * @property {string} provider
 * @property {string} status
 * @property {number} [cost_usd]
 * @property {number} [ttfb_ms]
 * @property {number} [total_latency_ms]
 * @property {string} [session_id]
 * @property {string} [error_message]
 * @property {string} [error_kind]
 * @property {string} [fallback_from]
 * @property {Record<string, number>} [units]
 * @property {string} [price_source]
 * @property {string} [price_date]
 * @property {string} [unit_price]
 * @property {boolean} [estimated]
 */

const COLUMNS = [
  ["Time", "when"],
  ["Project", "project"],
  ["Kind", "modality"],
  ["Model", "model"],
  ["Status", "status"],
  ["First byte", "number time"],
  ["Total", "number time"],
  ["Cost", "number cost"],
  ["Error", "error"],
];
const KINDS = /** @type {const} */ ({ success: "", error: "bad", fallback: "warn", cancelled: "" });

/** @returns {HTMLTableSectionElement} */
export function headings() {
  return make(
    "thead",
    {},
    make("tr", {}, ...COLUMNS.map(([title, name]) => make("th", { scope: "col", class: name }, title))),
  );
}

/**
 * @param {Entry} entry
 * @param {boolean} fresh whether it has just come in
 * @returns {HTMLTableSectionElement} a body of its own: the row, and its details once they are asked for
 */
export function rowsOf(entry, fresh) {
  const at = new Date(entry.timestamp);
  const body = make("tbody", { "data-id": entry.id });
  const button = make(
    "button",
    { type: "button", "aria-expanded": "false", title: full(at), click: () => toggle(body, button, entry) },
    make("span", { class: "date" }, `${shortDay(at)} `),
    second(at),
  );
  const cells = [
    button,
    entry.project,
    entry.modality.toUpperCase(),
    make("span", {}, entry.model_id, brief(entry)),
    state(entry.status, KINDS[/** @type {keyof typeof KINDS} */ (entry.status)]),
    milliseconds(entry.ttfb_ms),
    milliseconds(entry.total_latency_ms),
    entry.cost_usd === undefined ? "unpriced" : money(entry.cost_usd),
    entry.error_message ?? "",
  ];
  body.append(
    make(
      "tr",
      { class: fresh && "fresh" },
      ...cells.map((cell, column) => make("td", { class: COLUMNS[column][1] }, cell)),
    ),
  );
  return body;
}

/** The columns for which a phone has no room, in one line. @param {Entry} entry */
function brief(entry) {
  const cost = entry.cost_usd === undefined ? "unpriced" : money(entry.cost_usd);
  const facts = [entry.project, milliseconds(entry.total_latency_ms), cost].flatMap((fact) => [
    make("span", { class: "whole" }, fact),
    " ",
  ]);
  return make(
    "span",
    { class: "brief" },
    ...facts,
    entry.error_message && make("span", { class: "failure" }, entry.error_message),
  );
}

/**
 * @param {HTMLTableSectionElement} body
 * @param {HTMLButtonElement} button
 * @param {Entry} entry
 */
function toggle(body, button, entry) {
  const open = body.rows.length === 1;
  button.setAttribute("aria-expanded", String(open));
  if (open) body.append(make("tr", { class: "detail" }, make("td", {}, details(entry))));
  else body.rows[1].remove();
  spanDetails();
}

/** Makes details as wide as the columns that there are room for: one column more takes its width from the others. */
export function spanDetails() {
  for (const cell of /** @type {NodeListOf<HTMLTableCellElement>} */ (document.querySelectorAll(".log .detail td"))) {
    const titles = cell.closest("table")?.tHead?.rows[0].cells ?? [];
    cell.colSpan = [...titles].filter((title) => title.offsetWidth > 0).length;
  }
}

/** @param {Entry} entry */
function details(entry) {
  const units = Object.entries(entry.units ?? {}).map(([name, amount]) => `${amount} ${name.replaceAll("_", " ")}`);
  const price = [entry.price_source, entry.price_date, entry.unit_price].filter(Boolean).join(", ");
  /** @type {[string, string | undefined][]} */
  const facts = [
    ["Time", full(new Date(entry.timestamp))],
    ["Project", entry.project],
    ["Model", entry.model_id],
    ["First byte", entry.ttfb_ms === undefined ? undefined : milliseconds(entry.ttfb_ms)],
    ["Total", entry.total_latency_ms === undefined ? undefined : milliseconds(entry.total_latency_ms)],
    [
      "Cost",
      entry.cost_usd === undefined ? "unpriced" : `${entry.cost_usd} USD${entry.estimated ? ", units estimated" : ""}`,
    ],
    ["Units", units.join(", ")],
    ["Price", price],
    ["Error", [entry.error_kind, entry.error_message].filter(Boolean).join(": ")],
    ["Instead of", entry.fallback_from],
    ["Session", entry.session_id],
    ["Id", entry.id],
  ];
  return make(
    "dl",
    {},
    ...facts.filter(([, value]) => value).flatMap(([title, value]) => [make("dt", {}, title), make("dd", {}, value)]),
  );
}
