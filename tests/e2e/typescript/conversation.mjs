// The eleven-step conversation by the official TypeScript client, over stdio.
// Usage: node conversation.mjs '{"command", "args", "env", "provider_url"}'; prints one JSON object and exits with 0.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const { command, args, env, provider_url } = JSON.parse(process.argv[2]);
const client = new Client({ name: "typescript-conversation", version: "1.0.0" });
await client.connect(new StdioClientTransport({ command, args, env, stderr: "inherit" }));

const { tools } = await client.listTools();
const steps = [];

// callTool checks structuredContent against the tool's output schema, which listTools has given it.
async function call(name, parameters) {
  const { isError = false, structuredContent, content } = await client.callTool({ name, arguments: parameters });
  const same = JSON.stringify(JSON.parse(content[0].text)) === JSON.stringify(structuredContent);
  steps.push({ name, isError, same, answer: structuredContent });
}

const provider = { provider_id: "loop" };
const project = { project_id: "clinic" };
await call("add_provider", {
  ...provider,
  provider_type: "deepgram",
  api_key: "${DEEPGRAM_API_KEY}",
  base_url: provider_url,
});
await call("test_provider", provider);
await call("register_model", { ...provider, modality: "stt", model_name: "nova-3" });
await call("create_project", { ...project, name: "Clinic", daily_budget: 2.5, stt_model: "loop/nova-3" });
await call("get_project", project);
await call("get_logs", { project: "clinic" });
await call("get_costs", { project: "clinic" });
await call("delete_project", project);
await call("delete_provider", { ...provider, cascade: true });
await call("delete_project", { ...project, confirm: true });
await call("delete_provider", { ...provider, cascade: true, confirm: true });

const server = client.getServerVersion();
await client.close();
console.log(JSON.stringify({ server, tools: tools.map((tool) => tool.name), steps }));
