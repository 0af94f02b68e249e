"""What the OpenID conformance plans for FAPI 2.0 with client credentials look at, rebuilt: the other side is foreign code.

One file for each group of modules. Keys, assertions, proofs and the servers that our client meets are made with joserfc
and the standard library alone, over https.
"""
