// Providers with whether they could be called and how they did today, and the models that are registered.

import { ask } from "./api.js";
import { byId, empty, fill, make, state, table } from "./dom.js";
import { count, milliseconds, percent } from "./format.js";

export class Providers {
  /**
   * @param {AbortSignal} signal
   * @param {any} status the answer of /v1/status
   */
  async load(signal, status) {
    const [{ providers }, { models }, latency] = await Promise.all([
      ask("providers", {}, signal),
      ask("models", {}, signal),
      ask("latency", { period: "today", group_by: "provider" }, signal),
    ]);
    const today = new Map(latency.groups.map((/** @type {any} */ group) => [group.key, group]));
    showProviders(providers, status.providers, today);
    showModels(Object.values(models), latency.by_model);
  }
}

/**
 * @param {any[]} providers
 * @param {Record<string, {configured: boolean, reason?: string}>} statuses
 * @param {Map<string, any>} today
 */
function showProviders(providers, statuses, today) {
  if (!providers.length) {
    fill(
      byId("provider-table"),
      empty("No provider is configured yet:", "voicegw call add_provider provider_id=deepgram provider_type=deepgram"),
    );
    return;
  }
  const columns = [
    { title: "Provider", class: "name" },
    { title: "Status" },
    { title: "Type", class: "spare whole" },
    { title: "Key", class: "spare" },
    { title: "Models", number: true, class: "spare" },
    { title: "Today", number: true },
    { title: "Failed", number: true },
  ];
  const rows = providers.map((provider) => {
    const done = today.get(provider.provider_id);
    return [
      make(
        "span",
        {},
        make("strong", {}, provider.provider_id),
        provider.base_url && make("div", { class: "faint" }, provider.base_url),
        reason(provider, statuses),
      ),
      ready(provider, statuses[provider.provider_id]),
      `${provider.provider_type}, ${provider.type}`,
      provider.api_key_masked ? make("code", {}, provider.api_key_masked) : "–",
      count(provider.model_count),
      count(done?.request_count ?? 0),
      failed(done),
    ];
  });
  fill(byId("provider-table"), table(columns, rows, "Providers"));
}

/**
 * @param {any} provider
 * @param {{configured: boolean} | undefined} status
 */
function ready(provider, status) {
  if (!provider.enabled) return state("disabled");
  return status?.configured ? state("ready", "good") : state("no key", "warn");
}

/**
 * @param {any} provider
 * @param {Record<string, {reason?: string}>} statuses
 */
function reason(provider, statuses) {
  const told = statuses[provider.provider_id]?.reason;
  return told && make("div", { class: "faint" }, told);
}

/**
 * @param {any[]} models
 * @param {Record<string, any>} today by model id
 */
function showModels(models, today) {
  if (!models.length) {
    fill(
      byId("model-table"),
      empty(
        "No model is registered yet:",
        "voicegw call register_model modality=stt provider_id=deepgram model_name=nova-3",
      ),
    );
    return;
  }
  const columns = [
    { title: "Model", class: "name" },
    { title: "Modality" },
    { title: "Status", class: "spare" },
    { title: "Voice or language", class: "spare" },
    { title: "Today", number: true },
    { title: "First byte p50", number: true, class: "spare" },
    { title: "Failed", number: true },
  ];
  const rows = models.map((model) => {
    const done = today[model.model_id];
    return [
      make("span", {}, model.model_id, model.display_name && make("div", { class: "faint" }, model.display_name)),
      model.modality.toUpperCase(),
      model.enabled ? state("enabled", "good") : state("disabled"),
      model.default_voice ?? model.default_language ?? "–",
      count(done?.request_count ?? 0),
      milliseconds(done?.ttfb_percentiles?.p50),
      failed(done),
    ];
  });
  fill(byId("model-table"), table(columns, rows, "Models"));
}

/** @param {{request_count: number, error_count: number} | undefined} done */
function failed(done) {
  return done?.request_count ? percent(done.error_count, done.request_count) : "–";
}
