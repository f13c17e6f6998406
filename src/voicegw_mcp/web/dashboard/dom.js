// Makes elements. Text from the server only ever becomes text nodes and attribute values: there is no way to markup here.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, unknown>} [attributes] a function is a listener of the event that its name tells; undefined and false are left out
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, /** @type {EventListener} */ (value));
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...present(children));
  return element;
}

/**
 * @param {Element} parent whose children are replaced
 * @param {...Child} children
 */
export function fill(parent, ...children) {
  parent.replaceChildren(...present(children));
}

/** @param {Child[]} children */
function present(children) {
  return children
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "number" ? String(child) : /** @type {Node | string} */ (child)));
}

/**
 * @param {string} id
 * @returns {any} the element of the page that has it
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found;
}

/** @typedef {{title: string, number?: boolean, class?: string}} Column */

/**
 * @param {Column[]} columns
 * @param {Child[][]} rows a cell for each column
 * @param {string} caption what the table shows, for who does not see it
 */
export function table(columns, rows, caption) {
  const classes = columns.map(
    (column) => [column.class, column.number && "number"].filter(Boolean).join(" ") || undefined,
  );
  return make(
    "table",
    {},
    make("caption", { class: "unseen" }, caption),
    make(
      "thead",
      {},
      make("tr", {}, ...columns.map((column, at) => make("th", { scope: "col", class: classes[at] }, column.title))),
    ),
    make(
      "tbody",
      {},
      ...rows.map((row) => make("tr", {}, ...row.map((cell, at) => make("td", { class: classes[at] }, cell)))),
    ),
  );
}

/**
 * One choice of a few, as native radio buttons.
 * @param {string} name of the group, unique in the page
 * @param {string} title for who does not see it
 * @param {[string, string][]} options value and label
 * @param {string} chosen
 * @param {(value: string) => void} changed
 */
export function choice(name, title, options, chosen, changed) {
  const labels = options.map(([value, label]) =>
    make(
      "label",
      {},
      make("input", { type: "radio", name, value, checked: value === chosen, change: () => changed(value) }),
      make("span", {}, label),
    ),
  );
  return make("fieldset", { class: "choice" }, make("legend", { class: "unseen" }, title), ...labels);
}

/**
 * What is shown where there is nothing yet.
 * @param {string} sentence
 * @param {string} [command] what to do next, in a terminal
 */
export function empty(sentence, command) {
  return make(
    "div",
    { class: "empty" },
    make("p", {}, sentence),
    command && make("pre", {}, make("code", {}, command)),
  );
}

/**
 * @param {string} text
 * @param {"good" | "warn" | "bad" | ""} [kind]
 */
export function state(text, kind = "") {
  return make("span", { class: kind ? `state state-${kind}` : "state" }, text);
}
