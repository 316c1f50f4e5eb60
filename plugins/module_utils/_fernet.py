# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Whether a key opens what Langflow has stored, with the standard library only.

Opening here means: the token's signature fits the key. Nothing is decrypted, so no plaintext can leak. A key that
signs is half
of the same 32 bytes whose other half decrypts, and a token of another key or a damaged one does not pass.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

VERSION = 0x80
SIGNATURE = 32
# Version, time, initial vector, one block, signature.
SHORTEST = 1 + 8 + 16 + 16 + SIGNATURE
# Shorter secrets are hashed by Langflow (1.10.1 and later), longer ones are the key itself.
LANGFLOW_MINIMUM = 32


def langflow_key(secret: str) -> bytes:
    """The 32 bytes that Langflow derives from its LANGFLOW_SECRET_KEY."""
    if len(secret) < LANGFLOW_MINIMUM:
        return hashlib.sha256(secret.encode()).digest()
    padded = secret + "=" * (-len(secret) % 4)
    try:
        raw = base64.urlsafe_b64decode(padded.encode())
    except (binascii.Error, ValueError):
        raise ValueError("the secret key is not URL-safe base64") from None
    if len(raw) != 32:
        raise ValueError("the secret key does not hold 32 bytes")
    return raw


def opens(secret: str, token: str) -> bool:
    """Whether I(token) was made with the key of I(secret) and is whole."""
    key = langflow_key(secret)
    try:
        raw = base64.urlsafe_b64decode(token.encode())
    except (binascii.Error, ValueError):
        return False
    if len(raw) < SHORTEST or raw[0] != VERSION:
        return False
    expected = hmac.new(key[:16], raw[:-SIGNATURE], hashlib.sha256).digest()
    return hmac.compare_digest(expected, raw[-SIGNATURE:])
