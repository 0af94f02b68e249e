// For each algorithm of proofs a bound token and two calls with it, by npm openid-client, which answers demands for nonces by itself.
// stdin: {issuer, client_id, private_jwk, alg, proof_algs, resource, scope, url}; stdout: the token response, then one line a call.
import { importJWK } from 'jose';
import * as client from 'openid-client';

import { grantParameters, printLibraryError, printLine, readConfig } from './json_stdio.mjs';

async function run(config, algorithm) {
  const key = await importJWK(config.private_jwk, config.alg);
  const authentication = client.PrivateKeyJwt({ key, kid: config.private_jwk.kid });
  const discovered = await client.discovery(new URL(config.issuer), config.client_id, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
  });
  const DPoP = client.getDPoPHandle(discovered, await client.randomDPoPKeyPair(algorithm));
  const parameters = new URLSearchParams(grantParameters(config));
  const token = await client.clientCredentialsGrant(discovered, parameters, { DPoP });
  printLine(token);
  for (let call = 0; call < 2; call += 1) {
    const url = new URL(config.url);
    const response = await client.fetchProtectedResource(
      discovered, token.access_token, url, 'GET', undefined, undefined, { DPoP });
    printLine({ status: response.status, body: await response.json() });
  }
}

const config = await readConfig();
for (const algorithm of config.proof_algs) await run(config, algorithm).catch(printLibraryError);
