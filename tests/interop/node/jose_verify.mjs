// npm jose as the second opinion on access tokens (RFC 9068 4).
// stdin, line 1: {jwks | jwks_uri, issuer, audience, algorithms, typ?, required?, now?}; every further line: {"token": "..."}.
// stdout, one line a token, in the same order: {"ok":true,"claims":{...}} or {"ok":false,"code":"ERR_..."}.
// `now` (seconds) fixes the clock. Not checked here: scope, revocation, and duplicate JSON members (jose lets them pass).
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';

const REQUIRED_CLAIMS = ['exp', 'iat', 'sub', 'client_id', 'jti'];
const MAX_IN_FLIGHT = 512; // signatures are checked on a thread pool: some at once is fast, all at once is a memory bomb

function createCheck({ jwks, jwks_uri, issuer, audience, algorithms, typ = 'at+jwt', required = REQUIRED_CLAIMS, now }) {
  // jose leaves out the check of an option that is undefined: an oracle with a hole would agree with anything.
  if (!issuer || !audience || !algorithms?.length) throw new TypeError('issuer, audience and algorithms are required');
  const keys = jwks ? createLocalJWKSet(jwks) : createRemoteJWKSet(new URL(jwks_uri));
  const options = { issuer, audience, algorithms, typ, requiredClaims: required, clockTolerance: 0 };
  if (now !== undefined) options.currentDate = new Date(now * 1000);
  return (token) => jwtVerify(token, keys, options);
}

// jose's own refusals carry a string code; errors of the runtime (a key it cannot use) do not.
function refusal(thrown) {
  return { ok: false, code: typeof thrown.code === 'string' ? thrown.code : `ERR_${thrown.name}` };
}

async function answer(check, line) {
  try {
    const { payload } = await check(JSON.parse(line).token);
    return { ok: true, claims: payload };
  } catch (thrown) {
    return refusal(thrown);
  }
}

async function writeLine(value) {
  if (!process.stdout.write(`${JSON.stringify(value)}\n`)) await once(process.stdout, 'drain');
}

// A queue of promises keeps the order while several tokens are being checked; a lone line is answered at once.
async function main() {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const check = createCheck(JSON.parse((await lines.next()).value));
  let inFlight = 0;
  let tail = Promise.resolve();
  for await (const line of lines) {
    const answered = answer(check, line);
    inFlight += 1;
    tail = tail.then(() => answered).then(writeLine).finally(() => { inFlight -= 1; });
    if (inFlight >= MAX_IN_FLIGHT) await tail;
  }
  await tail;
}

await main();
