// Who changed what in voicegw.yaml, newest first, each with its diff.

import { askPage } from "./api.js";
import { byId, empty, fill, make, state } from "./dom.js";
import { full, second, shortDay } from "./format.js";

const AT_ONCE = 25;
const KINDS = /** @type {const} */ ({ applied: "", pending: "warn", failed: "bad" });

/**
 * @typedef {object} Change
 * @property {string} id
 * @property {string} created ISO 8601
 * @property {"applied" | "pending" | "failed"} state
 * @property {string} [undone_by]
 * @property {string} [undoes]
 * @property {string} tool
 * @property {string} summary
 * @property {string} actor
 * @property {string} door
 * @property {string} file
 * @property {string} config_version
 * @property {string} [diff]
 */

export class Changes {
  /** @param {() => void} refresh loads the view anew */
  constructor(refresh) {
    this.shown = AT_ONCE;
    /** @type {Set<string>} */
    this.open = new Set();
    byId("changes-older").addEventListener("click", () => {
      this.shown += AT_ONCE;
      refresh();
    });
  }

  /** @param {AbortSignal} signal */
  async load(signal) {
    /** @type {Change[]} */
    const changes = [];
    /** @type {string | undefined} */
    let cursor;
    do {
      // A page has fewer changes than asked for when their diffs are long.
      const { body } = await askPage(
        "changes",
        { limit: Math.min(AT_ONCE, this.shown - changes.length), detail: "full", cursor },
        signal,
      );
      changes.push(...body.changes);
      cursor = body.next_cursor;
    } while (cursor && changes.length < this.shown);
    byId("changes-older").hidden = !cursor;
    if (changes.length) fill(byId("change-list"), ...changes.map((change) => this.entry(change)));
    else
      fill(
        byId("change-list"),
        empty(
          "Nothing was changed through the gateway yet. A change by a tool is listed here with its diff, such as:",
          'voicegw call create_project project_id=support-line name="Support line" daily_budget=10',
        ),
      );
  }

  /** @param {Change} change */
  entry(change) {
    const at = new Date(change.created);
    /** @type {HTMLDetailsElement} */
    const details = make(
      "details",
      {
        class: "change",
        open: this.open.has(change.id),
        toggle: () => (details.open ? this.open.add(change.id) : this.open.delete(change.id)),
      },
      make(
        "summary",
        {},
        make("span", { class: "faint", title: full(at) }, `${shortDay(at)} ${second(at)}`),
        make("span", { class: "what" }, change.summary),
        make("span", { class: "faint" }, `${change.actor || "someone"}, ${change.door}`),
        change.undone_by ? state("undone") : state(change.state, KINDS[change.state]),
      ),
      make(
        "p",
        { class: "facts faint" },
        `${change.tool} in ${change.file}, version ${change.config_version}. `,
        ...undoing(change),
      ),
      change.diff && showDiff(change.diff),
    );
    return details;
  }
}

/** @param {Change} change */
function undoing(change) {
  if (change.undone_by) return [`Undone by ${change.undone_by}.`];
  const told = change.undoes ? [`It undoes ${change.undoes}. `] : [];
  return change.state === "applied"
    ? [...told, "To take it back: ", make("code", {}, `voicegw undo ${change.id}`)]
    : told;
}

/** @param {string} diff unified */
function showDiff(diff) {
  const lines = diff
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => make("span", { class: kindOf(line) }, line || " "));
  return make("pre", { class: "diff", tabindex: "0", "aria-label": "Diff" }, ...lines);
}

/** @param {string} line */
function kindOf(line) {
  if (/^(@@|---|\+\+\+)/.test(line)) return "place";
  return line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : undefined;
}
