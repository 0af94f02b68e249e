// An API that takes bound tokens alone, judged twice: by oauth4webapi's validateJwtAccessToken, and by jose step by step.
// usage: node bound_api.mjs ISSUER      the audience is the API's own origin
// stdout: one line, `ready <origin>`. Answers {oauth4webapi: CLIENT or CODE, jose: CLIENT or CODE}, 200 if both let the caller in, else 401.
// Not checked here: nonces, and whether a proof came before.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { calculateJwkThumbprint, createRemoteJWKSet, EmbeddedJWK, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';

const onLoopback = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(process.argv[2]);
const found = await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' });
const server = await oauth.processDiscoveryResponse(issuer, found);
const keys = createRemoteJWKSet(new URL(server.jwks_uri));

async function whole(request, origin) {
  const claims = await oauth.validateJwtAccessToken(server, request, origin, { ...onLoopback, requireDPoP: true });
  return claims.client_id;
}

function demand(condition, code) {
  if (!condition) throw Object.assign(new Error(code), { code });
}

async function stepwise(request, origin) {
  const [scheme, token] = (request.headers.get('authorization') ?? '').split(' ');
  demand(scheme.toLowerCase() === 'dpop', 'scheme');
  const { payload } = await jwtVerify(token, keys, { issuer: server.issuer, audience: origin, typ: 'at+jwt' });
  const proof = await jwtVerify(request.headers.get('dpop') ?? '', EmbeddedJWK, { typ: 'dpop+jwt', maxTokenAge: 60 });
  const { htm, htu, ath, jti } = proof.payload;
  demand(payload.cnf.jkt === await calculateJwkThumbprint(proof.protectedHeader.jwk), 'jkt');
  demand(htm === request.method, 'htm');
  demand(htu === request.url.split('?')[0], 'htu');
  demand(ath === createHash('sha256').update(token).digest('base64url'), 'ath');
  demand(typeof jti === 'string', 'jti');
  return payload.client_id;
}

async function judged(judge, request, origin) {
  try {
    return { client: await judge(request, origin) };
  } catch ({ code, name }) {
    return { refused: code ?? name };
  }
}

const listener = createServer();
await once(listener.listen(0, '127.0.0.1'), 'listening');
const origin = `http://127.0.0.1:${listener.address().port}`;
listener.on('request', async ({ method, url, headers }, response) => {
  const request = new Request(origin + url, { method, headers });
  const answer = { oauth4webapi: await judged(whole, request, origin), jose: await judged(stepwise, request, origin) };
  const status = Object.values(answer).every((one) => one.client) ? 200 : 401;
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
});
process.once('SIGTERM', () => process.exit(0));
process.stdout.write(`ready ${origin}\n`);
