# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""As much of an S3 client as judging a bucket needs: signed requests (version 4) over verified TLS."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import re
import ssl
import urllib.parse
from dataclasses import dataclass

from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import describe

ALGORITHM = "AWS4-HMAC-SHA256"
BODY_LIMIT = 1024 * 1024


class StoreError(Exception):
    """There is no answer; the message says why."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        """The store's own name of an error, such as C(NoSuchBucket)."""
        found = re.search(rb"<Code>([A-Za-z]{1,60})</Code>", self.body)
        return found[1].decode() if found else ""


@dataclass(frozen=True)
class Bucket:
    """One bucket and the keys that open it."""

    endpoint: str
    name: str
    region: str
    access_key: str
    secret_key: str
    context: ssl.SSLContext | None = None
    timeout: float = 10.0

    def place(self) -> urllib.parse.SplitResult:
        """Where it is; without an endpoint that of the region."""
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return urllib.parse.urlsplit(self.endpoint or f"https://s3.{self.region}.{suffix}")

    def request(self, method: str, key: str = "", body: bytes = b"") -> Reply:
        """Send one signed request, and read the whole answer."""
        place = self.place()
        host = place.hostname or ""
        if place.scheme not in ("http", "https") or not host:
            raise StoreError("the endpoint has to be an address that begins with https://", "endpoint")
        path = f"{place.path.rstrip('/')}/{self.name}" + (f"/{key}" if key else "")
        target = urllib.parse.quote(path, safe="/-_.~")
        headers = self.signed(method, place.netloc, target, body, datetime.datetime.now(datetime.UTC))
        connection: http.client.HTTPConnection
        if place.scheme == "https":
            connection = http.client.HTTPSConnection(host, place.port, timeout=self.timeout, context=self.context)
        else:
            connection = http.client.HTTPConnection(host, place.port, timeout=self.timeout)
        try:
            connection.request(method, target, body=body or None, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(BODY_LIMIT))
        except (OSError, http.client.HTTPException) as exc:
            raise StoreError(describe(exc), "tls" if isinstance(exc, ssl.SSLError) else "") from exc
        finally:
            connection.close()

    def signed(self, method: str, host: str, target: str, body: bytes, now: datetime.datetime) -> dict[str, str]:
        """The headers of a request, signed."""
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join((method, target, "", lines, names, digest))
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{ALGORITHM} Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**headers, "Authorization": credential}
