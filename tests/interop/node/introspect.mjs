// What an API hears of tokens by npm oauth4webapi and by openid-client: discovery, private_key_jwt, RFC 7662. Not the signed form
// (RFC 9701): the library takes the client_id for its aud, where ours has the identifier of the API.
// stdin: {issuer, client_id, private_jwk, alg, tokens}; stdout: for each token {oauth4webapi, openid_client}.
import { importJWK } from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

import { printLibraryError, printLine, readConfig } from './json_stdio.mjs';

const onLoopback = { [oauth.allowInsecureRequests]: true };

async function ask(config) {
  const key = await importJWK(config.private_jwk, config.alg);
  const signer = { key, kid: config.private_jwk.kid };
  const issuer = new URL(config.issuer);
  const found = await oauth.discoveryRequest(issuer, { ...onLoopback, algorithm: 'oauth2' });
  const server = await oauth.processDiscoveryResponse(issuer, found);
  const client = { client_id: config.client_id };
  const byHand = async (token) => {
    const response = await oauth.introspectionRequest(server, client, oauth.PrivateKeyJwt(signer), token, onLoopback);
    return oauth.processIntrospectionResponse(server, client, response);
  };
  const discovered = await openid.discovery(issuer, config.client_id, undefined, openid.PrivateKeyJwt(signer), {
    algorithm: 'oauth2',
    execute: [openid.allowInsecureRequests],
  });
  for (const token of config.tokens) {
    printLine({
      oauth4webapi: await byHand(token),
      openid_client: await openid.tokenIntrospection(discovered, token),
    });
  }
}

await ask(await readConfig()).catch(printLibraryError);
