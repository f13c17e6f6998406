// The switch between light and dark, and the colours of theme.css as a canvas needs them.

const KEY = "voicegw.colours";
const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const probe = document.createElement("span");
/** @type {Set<() => void>} */
const listeners = new Set();

/** @returns {boolean} whether the page is dark now, by choice or by the system */
function isDark() {
  return root.dataset.colours ? root.dataset.colours === "dark" : dark.matches;
}

/**
 * @param {string} name of a custom property, such as "--line"
 * @returns {string} the colour as it is now; a property itself would give the text ``light-dark(...)``
 */
export function colour(name) {
  if (!probe.isConnected) {
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** @param {() => void} listener called when the colours change */
export function whenColoursChange(listener) {
  listeners.add(listener);
}

/** @param {HTMLButtonElement} button that switches */
export function startColours(button) {
  const tell = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
    for (const listener of listeners) listener();
  };
  button.addEventListener("click", () => {
    root.dataset.colours = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.colours);
    } catch {
      // Storage is switched off: the choice holds until the page is left.
    }
    tell();
  });
  dark.addEventListener("change", tell);
  tell();
}
