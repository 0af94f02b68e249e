"""JWT bearer: the token of a trusted issuer says who asks; what may be had is the client's own (RFC 7523 2.1).

Whoever presents it needs no authentication besides (RFC 7521 4.1): the rules of a trust make it a client.
"""

from typing import Final

from groat.protocol.grants import client_credentials

NAME: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PARAMETERS: Final = ("assertion", "scope")

decide = client_credentials.decide
