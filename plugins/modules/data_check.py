#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: data_check
short_description: Measure PostgreSQL, Redis and an object store from the host that is to use them
version_added: 1.0.0
description:
  - Logs in as Langflow would, over TLS, and measures what Langflow needs. M(flowfleet.langflow.preflight) compares the
    result, registered as C(__preflight_data), with what is needed.
  - Needs no program on the host but Python, so that it works before anything is installed.
  - In the database nothing is written. In Redis a key C(langflow:preflight:*) is written and removed, in the bucket an
    object C(flowfleet-preflight-*).
author:
  - The flowfleet.langflow contributors (@flowfleet)
extends_documentation_fragment:
  - flowfleet.langflow.attributes
attributes:
  check_mode:
    support: full
    details:
      - Neither key nor object is written.
  diff_mode:
    support: none
options:
  probe:
    description:
      - With V(measure) everything is measured, and a service that cannot be asked is part of the result.
      - With V(reach) one statement is sent to O(database), again and again until it is answered or O(wait) is over.
    type: str
    choices: [measure, reach]
    default: measure
  wait:
    description: Seconds in which the database has to answer, with O(probe=reach).
    type: float
    default: 0
  rounds:
    description: Round trips of which the median is taken.
    type: int
    default: 9
  timeout:
    description: Seconds for each connection and each answer.
    type: float
    default: 5
  database:
    description: The PostgreSQL database.
    type: dict
    suboptions:
      host:
        description: Name or address, which the certificate has to bear.
        type: str
        required: true
      port:
        description: Port.
        type: int
        default: 5432
      name:
        description: Name of the database.
        type: str
        required: true
      user:
        description: Role that logs in.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
      sslmode:
        description: How the server is verified, in the words of libpq.
        type: str
        choices: [verify-full, verify-ca, require]
        default: verify-full
      ca_file:
        description: Authorities on the host.
        type: path
      ca_text:
        description: Authorities that O(database.ca_file) will have when the run is over.
        type: str
        default: ""
  redis:
    description: Instances of Redis.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name in the result, such as C(cache) or C(queue).
        type: str
        required: true
      host:
        description: Name or address, which the certificate has to bear.
        type: str
        required: true
      port:
        description: TLS port.
        type: int
        default: 6379
      user:
        description: User that logs in.
        type: str
        default: default
      password:
        description: Its password.
        type: str
        required: true
      ca_file:
        description: Authorities on the host.
        type: path
      ca_text:
        description: Authorities that O(redis[].ca_file) will have when the run is over.
        type: str
        default: ""
  object_store:
    description: The bucket for uploads.
    type: dict
    suboptions:
      bucket:
        description: Its name.
        type: str
        required: true
      endpoint:
        description: Address of the store. Empty means AWS, in O(object_store.region).
        type: str
        default: ""
      region:
        description: Region that requests are signed for.
        type: str
        default: us-east-1
      prefix:
        description: Beginning of the names of objects.
        type: str
        default: ""
      access_key:
        description: Name of the key.
        type: str
        required: true
      secret_key:
        description: The key.
        type: str
        required: true
      ca_file:
        description: Authorities on the host.
        type: path
      ca_text:
        description: Authorities that O(object_store.ca_file) will have when the run is over.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Measure a database server
  flowfleet.langflow.data_check:
    database:
      host: db.example.com
      name: langflow
      user: langflow
      password: "{{ lookup('flowfleet.langflow.secret', 'database_password') }}"
      ca_file: /etc/ssl/certs/ca-certificates.crt
  register: __preflight_data
"""

RETURN = r"""
state:
  description: What was measured, for each service that was given. What could not be measured is null.
  returned: success
  type: dict
  sample:
    database:
      can_create: true
      error: null
      kind: ""
      latency_ms: 0.61
      login: scram-sha-256
      max_connections: 200
      others: 3
      own_limit: null
      read_only: false
      reserved: 3
      superuser: false
      tls: TLSv1.3
      vector: 0.8.0
      vector_available: 0.8.0
      version: 17
    object_store: {error: null, kind: "", tls: true, written: true}
    redis:
      cache:
        append_only: false
        error: null
        kind: ""
        latency_ms: 0.18
        maxmemory: 268435456
        maxmemory_policy: allkeys-lru
        role: master
        run_id: 5c8f0f0c3a9d4f5f8d4b0d2f7a1e6b9c3d2e1f00
        save: null
        version: 8.0.2
        write_error: ""
"""

import time
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _data_check
from ansible_collections.flowfleet.langflow.plugins.module_utils._quiet_module import QuietModule

CA: dict[str, dict[str, Any]] = {"ca_file": {"type": "path"}, "ca_text": {"type": "str", "default": ""}}
SPEC: dict[str, dict[str, Any]] = {
    "probe": {"type": "str", "choices": ["measure", "reach"], "default": "measure"},
    "wait": {"type": "float", "default": 0.0},
    "rounds": {"type": "int", "default": 9},
    "timeout": {"type": "float", "default": 5.0},
    "database": {
        "type": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "name": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "sslmode": {"type": "str", "choices": ["verify-full", "verify-ca", "require"], "default": "verify-full"},
            **CA,
        },
    },
    "redis": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 6379},
            "user": {"type": "str", "default": "default"},
            "password": {"type": "str", "required": True, "no_log": True},
            **CA,
        },
    },
    "object_store": {
        "type": "dict",
        "options": {
            "bucket": {"type": "str", "required": True},
            "endpoint": {"type": "str", "default": ""},
            "region": {"type": "str", "default": "us-east-1"},
            "prefix": {"type": "str", "default": ""},
            "access_key": {"type": "str", "required": True, "no_log": True},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            **CA,
        },
    },
}
PAUSE = 0.5


def main() -> None:
    """Measure and report."""
    module = QuietModule(
        argument_spec=SPEC,
        required_if=[("probe", "reach", ["database"])],
        supports_check_mode=True,
    )
    params = module.params
    rounds, timeout, write = max(params["rounds"], 1), params["timeout"], not module.check_mode
    if params["probe"] == "reach":
        deadline = time.monotonic() + params["wait"]
        found = _data_check.reach_database(params["database"], timeout)
        while found["error"] and time.monotonic() < deadline:
            time.sleep(PAUSE)
            found = _data_check.reach_database(params["database"], timeout)
        if found["error"]:
            place = f"{params['database']['host']}:{params['database']['port']}"
            module.fail_json(msg=f"PostgreSQL at {place} did not answer a statement: {found['error']}")
        module.exit_json(changed=False, state={"database": found})
    state: dict[str, Any] = {}
    if params["database"]:
        state["database"] = _data_check.measure_database(params["database"], rounds, timeout)
    if params["redis"]:
        state["redis"] = {
            wanted["name"]: _data_check.measure_redis(wanted, rounds, timeout, write) for wanted in params["redis"]
        }
    if params["object_store"]:
        state["object_store"] = _data_check.measure_store(params["object_store"], timeout, write)
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
