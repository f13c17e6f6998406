// The token of this tab: in sessionStorage, so that a reload keeps it; never in the URL, never in a cookie.

const KEY = "voicegw.token";

/** @type {string} */
let token = read();

function read() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is switched off: the token lives as long as the page
  }
}

/** @returns {string} the token, "" without one */
export function currentToken() {
  return token;
}

/** @param {string} value */
export function keepToken(value) {
  token = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // as above
  }
}

/** Lets go of the token. */
export function forgetToken() {
  token = "";
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
}
