// The one change made to what oauth4webapi and openid-client send of their own accord.
// Both (oauth4webapi 3.8, openid-client 6.9) already put `aud` = the issuer, as a string, so the audience needs nothing.
// They write no `typ` (so an authorization server must accept an untyped assertion), and name every Ed25519 key `Ed25519`.
// `assertion_typ` in the config adds the explicit type; alg `EdDSA` restores the older name of the same algorithm.
export function headerModifier({ alg, assertion_typ }) {
  return (header) => {
    if (alg === 'EdDSA') header.alg = alg;
    if (assertion_typ) header.typ = assertion_typ;
  };
}
