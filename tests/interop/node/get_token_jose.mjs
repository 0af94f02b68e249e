// A token without any OAuth library: npm jose signs the assertion, fetch sends the form.
// stdin: {issuer, client_id, private_jwk, alg, resource?, scope?, assertion_typ?}; stdout: the token response or the refusal.
import { randomUUID } from 'node:crypto';

import { importJWK, SignJWT } from 'jose';

import { grantParameters, printLibraryError, printLine, printRefusal, readConfig } from './json_stdio.mjs';

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

// RFC 8414 3.1: the well-known part goes between the host and the issuer's path.
async function tokenEndpoint(issuer) {
  const { origin, pathname } = new URL(issuer);
  const path = pathname === '/' ? '' : pathname;
  const response = await fetch(`${origin}/.well-known/oauth-authorization-server${path}`);
  const metadata = await response.json();
  if (metadata.issuer !== issuer) throw new Error(`metadata names the issuer ${metadata.issuer}`);
  return metadata.token_endpoint;
}

async function signAssertion({ issuer, client_id, private_jwk, alg, assertion_typ }) {
  const typ = assertion_typ ?? 'client-authentication+jwt';
  return new SignJWT()
    .setProtectedHeader({ alg, kid: private_jwk.kid, typ })
    .setIssuer(client_id)
    .setSubject(client_id)
    .setAudience(issuer)
    .setIssuedAt()
    .setExpirationTime('60s')
    .setJti(randomUUID())
    .sign(await importJWK(private_jwk, alg));
}

async function getToken(config) {
  const body = new URLSearchParams([
    ['grant_type', 'client_credentials'],
    ['client_assertion_type', ASSERTION_TYPE],
    ['client_assertion', await signAssertion(config)],
    ...grantParameters(config),
  ]);
  const response = await fetch(await tokenEndpoint(config.issuer), { method: 'POST', body, redirect: 'error' });
  const answer = await response.json();
  if (response.ok) printLine(answer);
  else printRefusal({ ...answer, status: response.status });
}

await getToken(await readConfig()).catch(printLibraryError);
