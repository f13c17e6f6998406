// The request log: a page of the past, new rows as they come in, filters, and older rows on demand.

import { ApiError, ask, askPage, openStream, unanswered } from "./api.js";
import { byId, empty, fill, make } from "./dom.js";
import { headings, rowsOf, spanDetails } from "./log-row.js";
import { backOff } from "./polling.js";
import { readEvents } from "./stream.js";

/** @typedef {import("./log-row.js").Entry} Entry */

const AT_ONCE = 100;
/** Rows that are kept in the page while new ones come in. */
const MOST_ROWS = 500;
const TYPING_MS = 300;

export class Log {
  /**
   * @param {() => void} succeeded called when the server has answered
   * @param {(error: unknown, waitMs: number) => void} failed told what is wrong, and in how many ms it is tried again
   */
  constructor(succeeded, failed) {
    this.succeeded = succeeded;
    this.failed = failed;
    this.abort = new AbortController();
    this.paused = false;
    this.opened = false;
    this.cursor = "";
    /** @type {Map<string, HTMLTableSectionElement>} */
    this.bodies = new Map();
    /** @type {Record<string, HTMLSelectElement | HTMLInputElement>} */
    this.filters = {};
    this.buildFilters();
    byId("log-pause").addEventListener("click", () => this.pause(!this.paused));
    byId("log-older").addEventListener("click", () => this.older());
    window.addEventListener("resize", spanDetails);
    document.addEventListener(
      "visibilitychange",
      () => this.opened && !this.paused && (document.hidden ? this.halt() : this.begin()),
    );
  }

  buildFilters() {
    const fixed = (/** @type {string} */ all, /** @type {string[]} */ ...values) => choose(all, values);
    this.filters = {
      project: choose("All", []),
      modality: fixed("All", "stt", "llm", "tts"),
      provider_id: choose("All", []),
      model_id: choose("All", []),
      status: fixed("All", "success", "error", "fallback", "cancelled"),
      search: make("input", { type: "search", maxlength: 200, placeholder: "Text in the error", autocomplete: "off" }),
    };
    const titles = {
      project: "Project",
      modality: "Modality",
      provider_id: "Provider",
      model_id: "Model",
      status: "Status",
      search: "Search",
    };
    const form = byId("log-filters");
    fill(
      form,
      ...Object.entries(titles).map(([name, title]) =>
        make("label", { class: name === "search" && "search" }, title, this.filters[name]),
      ),
    );
    let typing = 0;
    form.addEventListener("input", (/** @type {Event} */ event) => {
      clearTimeout(typing);
      typing = setTimeout(() => this.begin(), event.target === this.filters.search ? TYPING_MS : 0);
    });
    form.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  }

  /** @returns {Record<string, string>} */
  chosen() {
    return Object.fromEntries(Object.entries(this.filters).map(([name, field]) => [name, field.value.trim()]));
  }

  /** Begins to show the log; called when the view is opened. */
  open() {
    this.opened = true;
    this.pause(false);
  }

  close() {
    this.opened = false;
    this.halt();
  }

  halt() {
    this.abort.abort();
    this.abort = new AbortController();
  }

  /** @param {boolean} paused */
  pause(paused) {
    this.paused = paused;
    byId("log-pause").textContent = paused ? "Resume" : "Pause";
    if (paused) {
      this.halt();
      byId("log-state").textContent = "Paused";
    } else this.begin();
  }

  /** Loads the newest rows for the filters and follows from there, for as long as nobody halts it. */
  begin() {
    this.halt();
    void this.run(this.abort.signal);
  }

  /** @param {AbortSignal} signal */
  async run(signal) {
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.past(signal);
        if (this.paused) return;
        await this.follow(signal, () => {
          failures = 0;
          this.succeeded();
        });
      } catch (error) {
        if (signal.aborted) return;
        byId("log-state").textContent = "";
        const passing = error instanceof ApiError && error.passing;
        const waitMs = passing ? backOff(++failures, error) : 0;
        this.failed(error, waitMs);
        if (!passing) return;
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    }
  }

  /** @param {AbortSignal} signal */
  async past(signal) {
    const { body, cursor } = await askPage("logs", { ...this.chosen(), limit: AT_ONCE }, signal);
    this.bodies.clear();
    fill(byId("log"), headings());
    this.add(body, { older: true });
    this.more(cursor);
    void this.offer(signal);
  }

  /**
   * @param {AbortSignal} signal
   * @param {() => void} began called when the server has answered
   */
  async follow(signal, began) {
    // The newest rows once more: what came in since the page was read is among them.
    const body = await openStream("logs", { ...this.chosen(), limit: AT_ONCE }, signal);
    began();
    byId("log-state").textContent = "Live";
    try {
      for await (const { event, data } of readEvents(body)) {
        if (signal.aborted) return;
        if (event === "log") this.add([JSON.parse(data)], { older: false });
        else if (event === "error") throw told(JSON.parse(data).error);
      }
    } catch (error) {
      throw error instanceof ApiError ? error : unanswered(error, signal);
    }
    if (!signal.aborted) throw new ApiError("The stream of new rows has ended.", { hint: "This page opens it again." });
  }

  /** Puts what is configured, and what the rows name besides, into the lists of the filters. @param {AbortSignal} signal */
  async offer(signal) {
    try {
      const [{ projects }, { providers }, { models }] = await Promise.all([
        ask("projects", {}, signal),
        ask("providers", {}, signal),
        ask("models", {}, signal),
      ]);
      extend(
        this.filters.project,
        projects.map((/** @type {any} */ project) => project.id),
      );
      extend(
        this.filters.provider_id,
        providers.map((/** @type {any} */ provider) => provider.provider_id),
      );
      extend(this.filters.model_id, Object.keys(models));
    } catch {
      // The rows are what matters; the next start of the log offers them again.
    }
  }

  /**
   * @param {Entry[]} entries
   * @param {{older: boolean}} where older ones are below, newest first; others above, oldest first
   */
  add(entries, { older }) {
    const log = byId("log");
    for (const entry of entries) {
      if (this.bodies.has(entry.id)) continue;
      const body = rowsOf(entry, !older);
      this.bodies.set(entry.id, body);
      if (older) log.append(body);
      else log.tHead.after(body);
    }
    if (!older) this.drop();
    for (const [name, key] of /** @type {const} */ ([
      ["project", "project"],
      ["provider_id", "provider"],
      ["model_id", "model_id"],
    ])) {
      extend(
        this.filters[name],
        entries.map((entry) => entry[key]),
      );
    }
    this.tellWhenEmpty();
  }

  /** Takes the oldest rows out of the page when there are too many. */
  drop() {
    const log = byId("log");
    while (log.tBodies.length > MOST_ROWS) {
      const last = log.tBodies[log.tBodies.length - 1];
      this.bodies.delete(last.dataset.id ?? "");
      last.remove();
      this.more(""); // the cursor leads behind rows that are gone
    }
  }

  tellWhenEmpty() {
    const filtered = Object.values(this.chosen()).some(Boolean);
    const sentence = filtered
      ? "No request fits these filters."
      : "No request was recorded yet. What agents record appears here as it comes in; see what they need:";
    fill(byId("log-empty"), this.bodies.size === 0 && (filtered ? empty(sentence) : empty(sentence, "voicegw status")));
    byId("log").hidden = this.bodies.size === 0;
  }

  /** @param {string} cursor */
  more(cursor) {
    this.cursor = cursor;
    byId("log-older").hidden = !cursor;
  }

  async older() {
    const { signal } = this.abort;
    try {
      const { body, cursor } = await askPage("logs", { ...this.chosen(), limit: AT_ONCE, cursor: this.cursor }, signal);
      this.add(body, { older: true });
      this.more(cursor);
    } catch (error) {
      if (!signal.aborted) this.failed(error, 0);
    }
  }
}

/** @param {{message: string, hint?: string}} error of an event */
function told(error) {
  return new ApiError(error.message, { hint: error.hint });
}

/**
 * @param {string} all the label of no choice
 * @param {string[]} values
 */
function choose(all, values) {
  const select = make("select", {}, make("option", { value: "" }, all));
  extend(select, values);
  return select;
}

/**
 * @param {HTMLSelectElement | HTMLInputElement} select
 * @param {string[]} values those that are not offered yet are added
 */
function extend(select, values) {
  if (!(select instanceof HTMLSelectElement)) return;
  const known = new Set([...select.options].map((option) => option.value));
  for (const value of new Set(values)) {
    if (!known.has(value)) select.append(make("option", { value }, value));
  }
}
