// The budgets of today: a bar for each project that has one, and when it starts anew.

import { byId, empty, fill, make, state } from "./dom.js";
import { count, duration, full, hour, money, percent } from "./format.js";

/**
 * @typedef {object} Project
 * @property {string} id
 * @property {string} name
 * @property {string} description
 * @property {number} daily_budget USD
 * @property {string} budget_action
 * @property {"ok" | "warning" | "exceeded"} budget_status
 * @property {number} today_spend USD
 * @property {number} today_requests
 * @property {string} reset_at ISO 8601
 */

const KINDS = /** @type {const} */ ({ ok: "good", warning: "warn", exceeded: "bad" });
/** What is said of a budget that is spent, by what the gateway does then. @type {Record<string, string>} */
const EXCEEDED = { warn: "exceeded", throttle: "throttled", block: "blocked" };

/** @param {Project[]} projects */
export function showBudgets(projects) {
  const limited = projects.filter((project) => project.daily_budget > 0);
  const free = projects.filter((project) => project.daily_budget <= 0 && project.today_requests > 0);
  if (!limited.length) {
    fill(
      byId("budgets"),
      empty(
        "No project has a budget. To create one that has:",
        'voicegw call create_project project_id=support-line name="Support line" daily_budget=10',
      ),
      ...free.map(row),
    );
    return;
  }
  limited.sort((one, other) => other.today_spend / other.daily_budget - one.today_spend / one.daily_budget);
  fill(byId("budgets"), ...[...limited, ...free].map(row));
}

/** @param {Project} project */
function row(project) {
  const limited = project.daily_budget > 0;
  return make(
    "div",
    { class: "budget", "data-project": project.id },
    make(
      "div",
      { class: "who" },
      make("strong", {}, project.name || project.id),
      project.description && make("div", { class: "faint" }, project.description),
    ),
    limited
      ? meter(project)
      : make(
          "div",
          { class: "faint without" },
          `no budget, ${project.today_requests === 1 ? "1 request" : `${count(project.today_requests)} requests`}`,
        ),
    make(
      "div",
      { class: "number" },
      money(project.today_spend),
      limited && make("span", { class: "faint" }, ` of ${money(project.daily_budget)}`),
    ),
    limited ? make("div", {}, state(said(project), KINDS[project.budget_status])) : make("div"),
    limited
      ? make("div", { class: "faint number reset", title: full(new Date(project.reset_at)) }, reset(project))
      : make("div"),
  );
}

/** @param {Project} project */
function said(project) {
  return project.budget_status === "exceeded" ? (EXCEEDED[project.budget_action] ?? "exceeded") : project.budget_status;
}

/** @param {Project} project */
function meter(project) {
  const share = project.today_spend / project.daily_budget;
  const bar = make("div");
  bar.style.width = `${Math.min(100, share * 100)}%`;
  return make(
    "div",
    {
      class: `meter meter-${project.budget_status}`,
      role: "meter",
      "aria-label": `Budget of ${project.name || project.id}`,
      "aria-valuemin": 0,
      "aria-valuemax": project.daily_budget,
      "aria-valuenow": Math.min(project.today_spend, project.daily_budget),
      "aria-valuetext": `${percent(project.today_spend, project.daily_budget)} spent`,
    },
    bar,
  );
}

/** @param {Project} project whose day may be one of another time zone than the rest of the page */
function reset(project) {
  const at = new Date(project.reset_at);
  return `resets at ${hour(at)}, in ${duration(at.getTime() - Date.now())}`;
}
