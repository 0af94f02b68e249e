// A call of one tool of an MCP server by npm @modelcontextprotocol/sdk: discovery from its 401, private_key_jwt.
// stdin: {url, issuer, client_id, private_jwk, alg, scope?, tool, arguments}; stdout: {tools, text, failed} or the refusal.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { PrivateKeyJwtProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { printLine, readConfig } from './json_stdio.mjs';

async function call(config) {
  const authProvider = new PrivateKeyJwtProvider({
    clientId: config.client_id,
    privateKey: config.private_jwk,
    algorithm: config.alg,
    scope: config.scope,
    expectedIssuer: config.issuer,
  });
  const client = new Client({ name: 'groat-interop', version: '1.0.0' });
  try {
    await client.connect(new StreamableHTTPClientTransport(new URL(config.url), { authProvider }));
    const { tools } = await client.listTools();
    const { content, isError } = await client.callTool({ name: config.tool, arguments: config.arguments });
    return { tools: tools.map(({ name }) => name), text: content[0].text, failed: isError === true };
  } finally {
    await client.close();
  }
}

await call(await readConfig()).then(printLine, ({ name, message }) => printLine({ error: name, message }));
