// npm oauth4webapi as a protected resource: its validateJwtAccessToken (RFC 9068 4) on the real metadata and JWKS.
// stdin: {issuer, audience, tokens: ["..."]}; stdout, one line a token: {"ok":true,"claims":{...}} or {"ok":false,"code":"..."}.
// Not checked here: scope, revocation; the clock is the machine's own.
import * as oauth from 'oauth4webapi';

import { printLine, readConfig } from './json_stdio.mjs';

// Plain http is a per-call option in this library; the issuers of the tests are on loopback.
const onLoopback = { [oauth.allowInsecureRequests]: true };

async function discover(issuer) {
  const response = await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' });
  return oauth.processDiscoveryResponse(issuer, response);
}

async function judge(server, audience, token) {
  const request = new Request(audience, { headers: { authorization: `Bearer ${token}` } });
  try {
    return { ok: true, claims: await oauth.validateJwtAccessToken(server, request, audience, onLoopback) };
  } catch ({ code, name }) {
    return { ok: false, code: code ?? name };
  }
}

const { issuer, audience, tokens } = await readConfig();
const server = await discover(new URL(issuer));
for (const token of tokens) printLine(await judge(server, audience, token));
