// The first view: totals, spend, budgets, latency, and what is wrong.

import { ask } from "./api.js";
import { showBudgets } from "./budgets.js";
import { byId, empty, fill, make } from "./dom.js";
import { Latency } from "./latency.js";
import { Spend, loadTotals } from "./spend.js";

/** Warnings that do not take the place of the figures. */
const SHOWN = 2;

export class Overview {
  /** @param {() => void} refresh loads the view anew */
  constructor(refresh) {
    this.spend = new Spend(refresh);
    this.latency = new Latency(refresh);
  }

  /**
   * @param {AbortSignal} signal
   * @param {any} status the answer of /v1/status
   */
  async load(signal, status) {
    showWarnings(status);
    showFirstSteps(status);
    await Promise.all([
      loadTotals(signal),
      this.spend.load(signal),
      this.latency.load(signal),
      ask("projects", {}, signal).then(({ projects }) => showBudgets(projects)),
    ]);
  }
}

/** @param {any} status */
function showWarnings({ warnings, config, store }) {
  const { error } = config;
  const told = [error && `${error.file}, line ${error.line}: ${error.message}`, store.error, ...warnings].filter(
    Boolean,
  );
  const [summary, list] = byId("warnings").children;
  // Few are shown, many only counted, until somebody opens or closes them.
  if (byId("warnings").hidden) byId("warnings").open = told.length <= SHOWN;
  byId("warnings").hidden = !told.length;
  fill(summary, told.length === 1 ? "1 warning" : `${told.length} warnings`);
  fill(list, ...told.map((text) => make("li", {}, text)));
}

/** @param {any} status */
function showFirstSteps({ provider_count, model_count, store }) {
  const steps = [];
  if (!provider_count) {
    steps.push(
      empty(
        "No provider is configured yet. Add one, and its key:",
        "voicegw call add_provider provider_id=deepgram provider_type=deepgram\nvoicegw secrets set DEEPGRAM_API_KEY",
      ),
    );
  }
  if (!model_count) {
    steps.push(
      empty(
        "No model is registered yet:",
        "voicegw call register_model modality=stt provider_id=deepgram model_name=nova-3",
      ),
    );
  }
  if (store.rows === 0) {
    steps.push(
      empty(
        "No request was recorded yet. Agents record theirs with voicegw_mcp.inference; to take over a VoiceGateway store:",
        "voicegw import voicegw.db",
      ),
    );
  }
  byId("first-steps").hidden = !steps.length;
  fill(byId("first-steps"), make("h2", {}, "First steps"), make("div", { class: "steps" }, ...steps));
}
