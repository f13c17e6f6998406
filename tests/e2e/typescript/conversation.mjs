// The eleven-step conversation by an official TypeScript client, over any transport.
// Usage: node conversation.mjs '{"library", "era", "transport", "command", "args", "env", "url", "token", "steps"}'
// library: "sdk" (1.x) or "client" (2.x); era: "legacy" or "auto" (2.x only); transport: "stdio", "http" or "sse";
// steps: pairs of a tool and its arguments.
// Prints one JSON object and exits with 0.

const order = JSON.parse(process.argv[2]);

async function load() {
  if (order.library === "client") {
    const [main, stdio] = await Promise.all([
      import("@modelcontextprotocol/client"),
      import("@modelcontextprotocol/client/stdio"),
    ]);
    return { ...main, ...stdio };
  }
  const modules = await Promise.all([
    import("@modelcontextprotocol/sdk/client/index.js"),
    import("@modelcontextprotocol/sdk/client/stdio.js"),
    import("@modelcontextprotocol/sdk/client/streamableHttp.js"),
    import("@modelcontextprotocol/sdk/client/sse.js"),
  ]);
  return Object.assign({}, ...modules);
}

const { Client, StdioClientTransport, StreamableHTTPClientTransport, SSEClientTransport } = await load();

function transport() {
  if (order.transport === "stdio") {
    const { command, args, env } = order;
    return new StdioClientTransport({ command, args, env, stderr: "inherit" });
  }
  const headers = order.token ? { Authorization: `Bearer ${order.token}` } : {};
  const kind = order.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new kind(new URL(order.url), { requestInit: { headers } });
}

const options = order.library === "client" ? { versionNegotiation: { mode: order.era } } : {};
const client = new Client({ name: "typescript-conversation", version: "1.0.0" }, options);
await client.connect(transport());

const { tools } = await client.listTools();
const steps = [];

// callTool checks structuredContent against the tool's output schema, which listTools has given it.
async function call(name, parameters) {
  const { isError = false, structuredContent, content } = await client.callTool({ name, arguments: parameters });
  const same = JSON.stringify(JSON.parse(content[0].text)) === JSON.stringify(structuredContent);
  steps.push({ name, isError, same, answer: structuredContent });
}

for (const [name, parameters] of order.steps) await call(name, parameters);

const server = client.getServerVersion();
const protocol = client.getNegotiatedProtocolVersion?.() ?? null;
await client.close();
console.log(JSON.stringify({ server, protocol, tools: tools.map((tool) => tool.name), steps }));
