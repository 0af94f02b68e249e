// A token by npm openid-client: discovery, private_key_jwt, client_credentials.
// stdin: {issuer, client_id, private_jwk, alg, resource?, scope?, assertion_typ?, discovery?, show_metadata?}; stdout: what was
// discovered, if that is to be shown, then the token response or the refusal.
import { importJWK } from 'jose';
import * as client from 'openid-client';

import { headerModifier } from './assertion_header.mjs';
import { grantParameters, printLibraryError, printLine, readConfig } from './json_stdio.mjs';

async function getToken(config) {
  const key = await importJWK(config.private_jwk, config.alg);
  const authentication = client.PrivateKeyJwt(
    { key, kid: config.private_jwk.kid },
    { [client.modifyAssertion]: headerModifier(config) },
  );
  const discovered = await client.discovery(new URL(config.issuer), config.client_id, undefined, authentication, {
    algorithm: config.discovery ?? 'oauth2', // the RFC 8414 document; the library's default, oidc, asks for the OpenID one
    execute: [client.allowInsecureRequests], // plain http: the issuers of the tests are on loopback
  });
  if (config.show_metadata) printLine(discovered.serverMetadata());
  return client.clientCredentialsGrant(discovered, new URLSearchParams(grantParameters(config)));
}

const config = await readConfig();
await getToken(config).then(printLine, printLibraryError);
