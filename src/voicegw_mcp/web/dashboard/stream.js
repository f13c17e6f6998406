// Reads server-sent events from the body of an answer (WHATWG HTML, 9.2.6), as far as this server sends them.

/**
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<{event: string, data: string}>} events in their order, until the stream ends
 */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const found = parse(block);
        if (found.data) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}

/** @param {string} block the lines of one event */
function parse(block) {
  let event = "message";
  /** @type {string[]} */
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return { event, data: data.join("\n") };
}
