// Runs before the first paint, so that the page never flashes in colours that were not chosen.
"use strict";
try {
  const chosen = localStorage.getItem("voicegw.colours");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.colours = chosen;
} catch {
  // Storage is switched off: the system's colours.
}
