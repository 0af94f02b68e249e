"""Character sets and rules of the standards: each once, under the name that its RFC gives it.

Strings are patterns to build others of; compiled ones are for `fullmatch` unless it is said otherwise.
"""

import re
from typing import Final

# RFC 9110 5.6.2, token = 1*tchar
TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 5.6.4, quoted-string: what is between its quotes
QUOTED: Final = r'(?:[^"\\]|\\.)*'
# RFC 9110 11.2, token68; RFC 6750 2.1 calls the same b64token
TOKEN68: Final = r"[A-Za-z0-9._~+/-]+=*"
# RFC 9110 7.2, Host = uri-host [ ":" port ]; RFC 3986 3.2.2, reg-name or IP-literal. May be empty.
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
# RFC 9111 5.2.2.1, max-age of Cache-Control, for `search`; quoted, too, as 5.2 asks of whoever reads it
MAX_AGE: Final = re.compile(r'(?:^|[,\s])max-age="?(\d{1,9})', re.IGNORECASE)
# RFC 3986 3.2.2, host of a URL that has one
URL_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)"

# RFC 3986 2.1, pct-encoded, for `search`: a % that begins none
BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 3.1, scheme
SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]*"

# RFC 4648 5, the alphabet without its padding (RFC 7515 2)
BASE64URL_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# RFC 3986 2.3, unreserved: what no form has to escape
UNRESERVED: Final = BASE64URL_ALPHABET + b".~"

# RFC 6749 App. A, NQCHAR and NQSCHAR: printable without quote and backslash, without and with the blank
_NQCHAR: Final = r"[\x21\x23-\x5B\x5D-\x7E]"
NQSCHARS: Final = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")
# RFC 6749 3.3, scope-token and scope
SCOPE_TOKEN: Final = re.compile(rf"{_NQCHAR}+")
SCOPE: Final = re.compile(rf"{_NQCHAR}+(?: {_NQCHAR}+)*")
# RFC 6749 App. A.1, client-id = *VSCHAR; ours are typed in shells and read in logs: no blank, quote or backslash.
CLIENT_ID: Final = re.compile(rf"{_NQCHAR}{{1,128}}")
# RFC 6749 App. A.12, access-token = 1*VSCHAR, less the blank. RFC 6750 2.1 is narrower, but servers are not.
ACCESS_TOKEN: Final = re.compile(r"[\x21-\x7E]+")
# RFC 3986 3.3, what may stand in a path without being escaped; for `quote`
PATH_CHARS: Final = "/-._~!$&'()*+,;=:@"
