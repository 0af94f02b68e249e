// npm oidc-provider as a foreign authorization server: client_credentials, private_key_jwt, JWT access tokens.
// usage: node oidc_provider.mjs CONFIG.json      (NODE_ENV=production when its speed is measured)
// CONFIG: {port, clients: [{client_id, jwks, alg, scopes}], resource, scopes, signing_jwk, alg, lifetime, nonces?}; port 0 takes a free one.
// `tls` ({pem, callers}: files with its certificate and key, and with whose certificates it takes): https, and tokens are bound to
// certificates. A client's `method` is private_key_jwt unless it says else; `dns`: the name in its certificates.
// `nonces` (32 bytes in base64url): tokens are bound, and each proof of possession must have a nonce of that secret.
// stdout: exactly one line, `ready <issuer>`, once it listens. SIGTERM ends it. Everything else goes to stderr.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';

// The library prints its notices with console.info, that is on stdout, and while it is being imported: first this, then the import.
console.info = console.error;
const { Provider, errors } = await import('oidc-provider');

// The library's own memory store keeps about 1000 entries and so forgets used assertions after as many requests.
// This one forgets nothing: single use holds for as long as the process lives, which is minutes here.
class MemoryAdapter {
  #entries = new Map();

  async find(id) { return this.#entries.get(id); }

  async upsert(id, payload) { this.#entries.set(id, payload); }

  async destroy(id) { this.#entries.delete(id); }
}

const METHODS = ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'];

function clientMetadata({ client_id, jwks, alg, scopes, method = 'private_key_jwt', dns }, { nonces, tls }) {
  const asserts = method === 'private_key_jwt';
  return {
    dpop_bound_access_tokens: Boolean(nonces),
    ...(tls && { tls_client_certificate_bound_access_tokens: true }),
    ...(dns && { tls_client_auth_san_dns: dns }),
    client_id,
    jwks,
    scope: scopes.join(' '),
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: method,
    ...(asserts && { token_endpoint_auth_signing_alg: alg }),
    id_token_signed_response_alg: alg, // never used, but its default RS256 must have a key
  };
}

function resourceServer({ resource, scopes, alg, lifetime }) {
  const info = {
    scope: scopes.join(' '),
    audience: resource,
    accessTokenFormat: 'jwt',
    accessTokenTTL: lifetime,
    jwt: { sign: { alg } },
  };
  return (_ctx, indicator) => {
    if (indicator !== resource) throw new errors.InvalidTarget();
    return info;
  };
}

function proofs({ nonces }) {
  if (!nonces) return { enabled: false };
  return { enabled: true, nonceSecret: Buffer.from(nonces, 'base64url'), requireNonce: () => true };
}

function certificate(ctx) {
  const peer = ctx.socket.getPeerX509Certificate?.();
  return peer?.toString();
}

function mutualTls({ tls }) {
  if (!tls) return { enabled: false };
  return {
    enabled: true,
    certificateBoundAccessTokens: true,
    tlsClientAuth: true,
    selfSignedTlsClientAuth: true,
    getCertificate: certificate,
    certificateAuthorized: (ctx) => ctx.socket.authorized,
    certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
      && ctx.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`,
  };
}

function configuration(config) {
  return {
    adapter: MemoryAdapter,
    clients: config.clients.map((client) => clientMetadata(client, config)),
    jwks: { keys: [config.signing_jwk] },
    scopes: config.scopes,
    clientAuthMethods: config.tls ? METHODS : METHODS.slice(0, 1),
    clientDefaults: { id_token_signed_response_alg: config.alg },
    responseTypes: [],
    ttl: { ClientCredentials: config.lifetime },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      dPoP: proofs(config),
      mTLS: mutualTls(config),
      resourceIndicators: {
        enabled: true,
        defaultResource: () => config.resource,
        getResourceServerInfo: resourceServer(config),
      },
    },
  };
}

async function listening({ tls, port }) {
  if (!tls) return createServer().listen(port, '127.0.0.1');
  const [pem, ca] = await Promise.all([readFile(tls.pem), readFile(tls.callers)]);
  return createSecureServer({ key: pem, cert: pem, ca, requestCert: true, rejectUnauthorized: false }).listen(port, '127.0.0.1');
}

// Listens first and answers second: with port 0 the issuer is not known earlier.
async function main() {
  const config = JSON.parse(await readFile(process.argv[2], 'utf8'));
  const server = await listening(config);
  await once(server, 'listening');
  const issuer = `http${config.tls ? 's' : ''}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(config));
  provider.on('server_error', (_ctx, error) => console.error(error));
  server.on('request', provider.callback());
  process.once('SIGTERM', () => process.exit(0));
  process.stdout.write(`ready ${issuer}\n`);
}

await main();
