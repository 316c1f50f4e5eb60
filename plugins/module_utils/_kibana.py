# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""A space of Kibana and the objects that are kept in it."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import json
import re
import secrets
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils._probe import describe
from ansible_collections.flowfleet.langflow.plugins.module_utils._rest import Access, Answer, RestError, basic_login

BODY_LIMIT = 64 * 1024 * 1024
SUM = re.compile(r"sum: ([0-9a-f]{64})")
# All objects of one import are written at once; whatever is younger was changed by hand.
TOGETHER = datetime.timedelta(seconds=30)


class KibanaError(Exception):
    """Kibana did not do what was asked; the message says why."""


def read_objects(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Read files with an object a line."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in texts:
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError:
                raise KibanaError(f"line {number} is no JSON") from None
            if not isinstance(item, dict):
                raise KibanaError(f"line {number} is no saved object")
            if "exportedCount" in item:
                continue
            if not all(isinstance(item.get(key), str) and item[key] for key in ("type", "id")):
                raise KibanaError(f"line {number} is no saved object: it has no type or no id")
            key = (item["type"], item["id"])
            if key in found:
                raise KibanaError(f"{key[0]} {key[1]} is there twice")
            found[key] = item
    return list(found.values())


def total(objects: Iterable[Mapping[str, Any]]) -> str:
    """One sum over all objects, whatever their order and that of their keys."""
    rows = sorted(json.dumps(item, sort_keys=True) for item in objects)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def moment(text: Any) -> datetime.datetime | None:
    """A time as Kibana writes it."""
    try:
        return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None


class Kibana:
    """Speaks to one Kibana."""

    def __init__(self, url: str, access: Access, space: str) -> None:
        self.parts = urllib.parse.urlsplit(url)
        if self.parts.scheme != "https" or not self.parts.hostname:
            raise KibanaError(f"an address starts with https:// and names a host, got {url!r}")
        self.access = access
        self.space = space

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Answer:
        """One request. Kibana takes changes only with a header that no form of a browser can send."""
        headers = {"Accept": "application/json", "Connection": "close", "kbn-xsrf": "flowfleet"}
        login = basic_login(self.access.username, self.access.password)
        if login:
            headers["Authorization"] = login
        if body is not None:
            headers["Content-Type"] = kind
        client = http.client.HTTPSConnection(
            str(self.parts.hostname),
            self.parts.port or 443,
            timeout=self.access.timeout,
            context=self.access.context(),
        )
        try:
            client.request(method, self.parts.path.rstrip("/") + path, body, headers)
            response = client.getresponse()
            return Answer(response.status, response.read(BODY_LIMIT).decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException) as exc:
            raise RestError(f"{self.parts.hostname}:{self.parts.port or 443}: {describe(exc)}") from exc
        finally:
            client.close()

    def asked(self, method: str, path: str, data: Any = None, missing: bool = False) -> Any:
        """The answer as JSON; nothing for what is not there, where that may be."""
        body = None if data is None else json.dumps(data).encode()
        answer = self.call(method, path, body)
        if answer.status == 404 and missing:
            return None
        if answer.status in (401, 403):
            raise KibanaError(f"{method} {path}: status {answer.status}; the user or its password is not taken")
        if not answer.good:
            raise KibanaError(f"{method} {path}: status {answer.status}: {answer.shown()}")
        return answer.json()

    # --- the space ----------------------------------------------------------------------------------------------------

    def keep_space(self, wanted: Mapping[str, Any], check: bool) -> list[str]:
        """Make the space, or bring what is named of it to the wanted state. What else is set there stays."""
        present = self.asked("GET", f"/api/spaces/space/{self.space}", missing=True)
        if present is None:
            if not check:
                self.asked("POST", "/api/spaces/space", {"id": self.space, **wanted})
            return [f"make space {self.space}"]
        other = sorted(key for key, value in wanted.items() if present.get(key) != value)
        if other and not check:
            self.asked("PUT", f"/api/spaces/space/{self.space}", {**present, **wanted})
        return [f"change {', '.join(other)} of space {self.space}"] if other else []

    # --- the objects --------------------------------------------------------------------------------------------------

    def present(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """Those of the objects that are there. An export fails as a whole, and says which are missing."""
        left = list(keys)
        while left:
            body = {
                "objects": [{"type": kind, "id": name} for kind, name in left],
                "excludeExportDetails": True,
                "includeReferencesDeep": False,
            }
            path = f"/s/{self.space}/api/saved_objects/_export"
            answer = self.call("POST", path, json.dumps(body).encode())
            if answer.good:
                items = [json.loads(line) for line in answer.text.splitlines() if line.strip()]
                return {(item["type"], item["id"]): item for item in items if "type" in item}
            absent = self._absent(answer, path)
            left = [key for key in left if key not in absent]
        return {}

    @staticmethod
    def _absent(answer: Answer, path: str) -> set[tuple[str, str]]:
        """Names of what an export did not find; any other failure is one."""
        failed = KibanaError(f"POST {path}: status {answer.status}: {answer.shown()}")
        if answer.status != 400:
            raise failed
        data = answer.json()
        rows = (data.get("attributes") or {}).get("objects") or [] if isinstance(data, dict) else []
        absent = {(row.get("type"), row.get("id")) for row in rows if (row.get("error") or {}).get("statusCode") == 404}
        if not absent or len(absent) != len(rows):
            raise failed
        return absent

    def differences(self, objects: list[dict[str, Any]], marker: str) -> list[str]:
        """What is missing, was imported from other files, or was changed by hand since."""
        keys = [(item["type"], item["id"]) for item in objects]
        found = self.present([*keys, ("tag", marker)])
        gone = [f"{kind} {name} is not there" for kind, name in keys if (kind, name) not in found]
        if gone:
            return gone
        mark = found.get(("tag", marker))
        said = SUM.search(str((mark or {}).get("attributes", {}).get("description", "")))
        if mark is None or said is None or said.group(1) != total(objects):
            return ["they are of another version"]
        since = moment(mark.get("updated_at"))
        changed = []
        for kind, name in keys:
            then = moment(found[kind, name].get("updated_at"))
            if since is not None and then is not None and then - since > TOGETHER:
                changed.append(f"{kind} {name} was changed by hand")
        return changed

    def load(self, objects: list[dict[str, Any]], marker: str) -> None:
        """Write all objects over what is there, and with them the mark that says what was written."""
        mark = {
            "type": "tag",
            "id": marker,
            "attributes": {
                "name": marker,
                "color": "#3f7fd1",
                "description": f"Kept by Ansible; copy it to change it. sum: {total(objects)}",
            },
            "references": [],
            "coreMigrationVersion": "8.8.0",
            "typeMigrationVersion": "8.0.0",
        }
        text = "".join(json.dumps(item) + "\n" for item in [mark, *objects])
        border = secrets.token_hex(16)
        body = (
            f"--{border}\r\n"
            'Content-Disposition: form-data; name="file"; filename="objects.ndjson"\r\n'
            "Content-Type: application/ndjson\r\n\r\n"
            f"{text}\r\n--{border}--\r\n"
        )
        path = f"/s/{self.space}/api/saved_objects/_import?overwrite=true"
        answer = self.call("POST", path, body.encode(), f"multipart/form-data; boundary={border}")
        if not answer.good:
            raise KibanaError(f"POST {path}: status {answer.status}: {answer.shown()}")
        result = answer.json()
        if not result.get("success") or result.get("successCount") != len(objects) + 1:
            problems = [
                f"{row.get('type')} {row.get('id')}: {(row.get('error') or {}).get('type')}"
                for row in result.get("errors") or []
            ]
            raise KibanaError(f"not all objects were taken: {'; '.join(problems[:5]) or answer.shown()}")
