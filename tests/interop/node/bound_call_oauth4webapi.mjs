// For each algorithm of proofs a bound token and two calls with it, by npm oauth4webapi: DPoP handle, its own nonce errors, one retry each.
// stdin: {issuer, client_id, private_jwk, alg, proof_algs, resource, scope, url}; stdout: the token response, then one line a call.
import { importJWK } from 'jose';
import * as oauth from 'oauth4webapi';

import { grantParameters, printLibraryError, printLine, readConfig } from './json_stdio.mjs';

const onLoopback = { [oauth.allowInsecureRequests]: true };

// The library remembers a nonce by itself and leaves it to its caller to ask again.
async function again(send) {
  try {
    return await send();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    return send();
  }
}

async function run(config, algorithm) {
  const client = { client_id: config.client_id };
  const key = await importJWK(config.private_jwk, config.alg);
  const authentication = oauth.PrivateKeyJwt({ key, kid: config.private_jwk.kid });
  const issuer = new URL(config.issuer);
  const found = await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' });
  const server = await oauth.processDiscoveryResponse(issuer, found);
  const options = { ...onLoopback, DPoP: oauth.DPoP(client, await oauth.generateKeyPair(algorithm)) };
  const parameters = new URLSearchParams(grantParameters(config));
  const token = await again(async () => {
    const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, options);
    return oauth.processClientCredentialsResponse(server, client, response);
  });
  printLine(token);
  for (let call = 0; call < 2; call += 1) {
    const response = await again(() =>
      oauth.protectedResourceRequest(token.access_token, 'GET', new URL(config.url), undefined, undefined, options));
    printLine({ status: response.status, body: await response.json() });
  }
}

const config = await readConfig();
for (const algorithm of config.proof_algs) await run(config, algorithm).catch(printLibraryError);
