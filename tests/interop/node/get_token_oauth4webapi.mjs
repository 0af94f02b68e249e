// A token by npm oauth4webapi: discovery, private_key_jwt, client_credentials.
// stdin: {issuer, client_id, private_jwk, alg, resource?, scope?, assertion_typ?}; stdout: the token response or the refusal.
import { importJWK } from 'jose';
import * as oauth from 'oauth4webapi';

import { headerModifier } from './assertion_header.mjs';
import { grantParameters, printLibraryError, printLine, readConfig } from './json_stdio.mjs';

// Plain http is a per-call option in this library; the issuers of the tests are on loopback.
const onLoopback = { [oauth.allowInsecureRequests]: true };

async function discover(issuer) {
  const response = await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' });
  return oauth.processDiscoveryResponse(issuer, response);
}

async function getToken(config) {
  const client = { client_id: config.client_id };
  const key = await importJWK(config.private_jwk, config.alg);
  const authentication = oauth.PrivateKeyJwt(
    { key, kid: config.private_jwk.kid },
    { [oauth.modifyAssertion]: headerModifier(config) },
  );
  const server = await discover(new URL(config.issuer));
  const parameters = new URLSearchParams(grantParameters(config));
  const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, onLoopback);
  return oauth.processClientCredentialsResponse(server, client, response);
}

const config = await readConfig();
await getToken(config).then(printLine, printLibraryError);
