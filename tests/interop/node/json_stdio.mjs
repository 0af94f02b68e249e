// One JSON document in on stdin, one JSON line out on stdout: how every token client here is driven.
// Keys travel on stdin and never in argv, where any user of the machine could read them.
import { text } from 'node:stream/consumers';

export async function readConfig() {
  return JSON.parse(await text(process.stdin));
}

export function printLine(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

// RFC 6749 5.2 as one object. `status` is null when no HTTP answer was judged, and then the exit code is 1:
// the library refused locally (no network, unacceptable metadata, ...) and the server said nothing.
export function printRefusal({ error, error_description, status }) {
  if (status === undefined) process.exitCode = 1;
  printLine({ error, error_description, status: status ?? null });
}

// What oauth4webapi and openid-client throw: an OAuth error body has `error`; everything else only has a code.
export function printLibraryError(thrown) {
  const { error, error_description, status, code, name, message } = thrown;
  printRefusal({ error: error ?? code ?? name, error_description: error_description ?? message, status });
}

// scope and resource are optional in the request (RFC 6749 4.4.2, RFC 8707 2); absent is not the same as empty.
export function grantParameters({ scope, resource }) {
  return Object.entries({ scope, resource }).filter(([, value]) => value !== undefined && value !== null);
}
