// npm @sd-jwt/jwt-status-list as the second opinion on Token Status Lists, behind signatures that jose has checked.
// stdin, each line: {jwks, token, list} (two JWTs) -> {"index":n,"uri":"...","status":n,"bits":n,"ttl":n,"length":n},
// or {statuses, bits} -> {"lst":"..."}: the same list as this library writes it.
import { createInterface } from 'node:readline';

import { getListFromStatusListJWT, getStatusListFromJWT, StatusList } from '@sd-jwt/jwt-status-list';
import { createLocalJWKSet, jwtVerify } from 'jose';

async function read({ jwks, token, list }) {
  const keys = createLocalJWKSet(jwks);
  await jwtVerify(token, keys, { typ: 'at+jwt' });
  const { idx: index, uri } = getStatusListFromJWT(token);
  const { payload } = await jwtVerify(list, keys, { typ: 'statuslist+jwt', subject: uri });
  const found = getListFromStatusListJWT(list);
  const bits = found.getBitsPerStatus();
  return { index, uri, status: found.getStatus(index), bits, ttl: payload.ttl, length: found.statusList.length };
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const answer = asked.list ? await read(asked) : { lst: new StatusList(asked.statuses, asked.bits).compressStatusList() };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
