"""Exit code 0 if the URL answers 200; SSL_CERT_FILE says whom to trust."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=3) as answer:  # noqa: S310
    sys.exit(answer.status != 200)
