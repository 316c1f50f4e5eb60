#!/usr/bin/python
# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare new instances with old ones before the rest is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: canary_gate
short_description: Compare new instances with old ones under real traffic
version_added: 1.0.0
author: The flowfleet.langflow contributors (@flowfleet)
description:
  - Watches for a while what new and old instances do with the requests that they get at the same time, from the access
    log of a load balancer or from Prometheus. The verdict is V(pass), V(fail) or V(insufficient).
  - An instance is worse if a difference is both beyond chance and beyond what is tolerated.
    That is asked for the share of errors, the median, and the slowest 5 % and 1 % of the answers.
  - Errors are compared by the one-sided exact test of Fisher (1935). The smallest difference that counts is
    O(error_floor). Without O(old) instances, the exact binomial test (Clopper and Pearson 1934) asks whether the share
    is above O(error_floor). Times are not judged then.
  - Medians are compared by the one-sided rank test of Mann and Whitney (1947), with correction for ties.
  - P95 and p99 are compared by the quantile test (Johnson, Verrill and Moore, Biometrics 43, 1987). It asks whether
    more of the slowest 5 % or 1 % of all answers come from the new instances than their number explains, by the same
    exact test as for errors. It needs no assumption about the distribution.
  - For times, a difference counts from O(latency_floor_ms) and O(latency_ratio) on.
  - The chance that an equal release fails is O(alpha) at most, for all metrics and looks together (Bonferroni), as long
    as requests are independent of each other. A pause that hits many requests at once breaks that, which is what the
    smallest differences are for.
  - Requests that are needed on each side to find a share of errors with a power of 80 % at the last look, with
    O(alpha=0.01), four metrics, four looks and V(hold), which is 0.0005 for each test. To tell 5 % from 1 % takes 670,
    10 % from 1 % takes 240, and 20 % from 1 % takes 100. With twice as many old requests as new ones it takes 440, 155
    and 65 new ones. RV(detectable_error_ratio) tells what the present numbers are enough for.
    The formula is that of Casagrande, Pike and Smith (Biometrics 34, 1978).
extends_documentation_fragment:
  - flowfleet.langflow.attributes
  - flowfleet.langflow.nginx_log
attributes:
  check_mode:
    support: full
    details:
      - Nothing is read and nothing is waited for, because nothing was changed that could be compared.
  diff_mode:
    support: none
    details:
      - Nothing is changed.
options:
  source:
    description:
      - V(nginx_log) reads the JSON access log that role P(flowfleet.langflow.nginx#role) writes.
        Run it on the load balancer.
        Each attempt of a request counts for the instance that it went to, so a retry hides nothing.
      - V(prometheus) asks O(prometheus).
      - V(observations) judges the sum of O(observations), such as those of several load balancers, at once.
    type: str
    choices: [nginx_log, prometheus, observations]
    default: nginx_log
  new:
    description:
      - Changed instances, each as V(address) or V(address:port).
        Names are resolved on the host that the module runs on.
      - Required for O(source=nginx_log).
    type: list
    elements: str
    default: []
  old:
    description: Unchanged instances. If none is left, only errors are judged, without comparison.
    type: list
    elements: str
    default: []
  baseline:
    description:
      - Whether there is something to compare with. If not given, that follows from O(old) or O(prometheus.old).
        For O(source=observations) it is V(true).
    type: bool
  log_path:
    description: The access log. Its rotated predecessors are read where the window reaches back to them.
    type: path
    default: /var/log/nginx/access.json
  latency:
    description: What counts as time. V(header) is until the answer begins, V(response) until it ends.
    type: str
    choices: [header, response]
    default: header
  prometheus:
    description: Where and what to ask.
    type: dict
    suboptions:
      url:
        description: Address without C(/api/v1).
        type: str
        required: true
      new:
        description:
          - Queries for the new instances. C($window) in a query stands for the span, such as V(60s).
        type: dict
        required: true
        suboptions:
          requests:
            description: Number of requests in the span.
            type: str
            required: true
          errors:
            description: Number of errors in the span.
            type: str
            required: true
          buckets:
            description:
              - Histogram of times in seconds by the label C(le), for example
                C(sum by (le) (increase(http_request_duration_seconds_bucket{instance="app1"}[$window]))).
              - Without it times are not judged.
            type: str
      old:
        description: Queries for the old instances.
        type: dict
        suboptions:
          requests:
            description: Number of requests in the span.
            type: str
            required: true
          errors:
            description: Number of errors in the span.
            type: str
            required: true
          buckets:
            description: Histogram of times, as for O(prometheus.new.buckets).
            type: str
      query_type:
        description: V(range) takes queries for rates per second, and adds them up over the span.
        type: str
        choices: [instant, range]
        default: instant
      step:
        description: Seconds between two values of a range.
        type: float
        default: 5.0
      ca_path:
        description: Certificates that the server is verified with, instead of those of the system.
        type: path
      token:
        description: Sent as bearer token.
        type: str
      timeout:
        description: Seconds for one query.
        type: float
        default: 10.0
  observations:
    description: RV(observation) of other calls.
    type: list
    elements: dict
    default: []
  collect_only:
    description: Wait for the window and return the RV(observation), without a verdict.
    type: bool
    default: false
  since:
    description: Begin of the window in seconds since the epoch. If not given, the window begins now.
    type: float
  warmup:
    description: Seconds after that begin that do not count, in which caches fill.
    type: float
    default: 10.0
  window:
    description: Seconds to watch.
    type: float
    default: 60.0
  looks:
    description: How often to look within the window, so that a bad release is found before its end.
    type: int
    default: 4
  min_requests:
    description: Requests that each side needs for a V(pass).
    type: int
    default: 50
  on_insufficient:
    description:
      - What to do if there are fewer at the end of the window.
      - V(hold) goes on until there are enough, or until O(timeout). Then the module fails.
      - V(fail) fails at once, and V(pass) lets it pass with the verdict V(insufficient).
    type: str
    choices: [hold, pass, fail]
    default: hold
  timeout:
    description: Seconds from the begin of the window for V(hold).
    type: float
    default: 600.0
  interval:
    description: Seconds between two looks at the number of requests while holding.
    type: float
    default: 2.0
  report_only:
    description: Only return the verdict, so that the play decides what follows. Broken input still fails.
    type: bool
    default: false
  metrics:
    description: What is judged.
    type: list
    elements: str
    choices: [errors, p50, p95, p99]
    default: [errors, p50, p95, p99]
  alpha:
    description: Chance that an equal release fails.
    type: float
    default: 0.01
  error_floor:
    description: Difference in the share of errors that is tolerated.
    type: float
    default: 0.01
  latency_ratio:
    description: New times up to this multiple of the old ones are tolerated.
    type: float
    default: 1.2
  latency_floor_ms:
    description: Milliseconds that new times may be longer.
    type: float
    default: 100.0
notes:
  - Only requests of the same time are compared, so that a busy hour or a slow database hits both sides.
seealso:
  - module: flowfleet.langflow.rollout_state
"""

EXAMPLES = r"""
- name: Compare the first node with the others for a minute
  flowfleet.langflow.canary_gate:
    new: ["192.0.2.11:7860"]
    old: ["192.0.2.12:7860", "192.0.2.13:7860"]
    window: 60
  delegate_to: lb1
  run_once: true

- name: Collect on each load balancer
  flowfleet.langflow.canary_gate:
    new: ["192.0.2.11:7860"]
    old: ["192.0.2.12:7860", "192.0.2.13:7860"]
    collect_only: true
  register: seen

- name: Judge the sum, and let the play decide
  flowfleet.langflow.canary_gate:
    source: observations
    observations: "{{ ansible_play_hosts | map('extract', hostvars) | map(attribute='seen.observation') }}"
    report_only: true
  run_once: true
  register: canary

- name: Ask Prometheus
  flowfleet.langflow.canary_gate:
    source: prometheus
    prometheus:
      url: https://prometheus.example.com
      new:
        requests: sum(increase(http_requests_total{instance="app1"}[$window]))
        errors: sum(increase(http_requests_total{instance="app1", code=~"5.."}[$window]))
      old:
        requests: sum(increase(http_requests_total{instance!="app1"}[$window]))
        errors: sum(increase(http_requests_total{instance!="app1", code=~"5.."}[$window]))
"""

RETURN = r"""
verdict:
  description: V(pass), V(fail) or V(insufficient). Empty if nothing was judged.
  type: str
  returned: always
reason:
  description: What the verdict rests on.
  type: str
  returned: always
  sample: errors 19.50 % against 0.12 % (p = 3.1e-31, limit 0.0005)
new:
  description: What these instances did, with C(requests), C(errors), C(error_ratio), C(statuses) and C(latency_ms).
  type: dict
  returned: when something was read
  sample:
    requests: 200
    errors: 39
    error_ratio: 0.195
    statuses: {"200": 161, "500": 39}
    latency_ms: {p50: 41, p95: 80, p99: 95}
old:
  description: The same for the old instances.
  type: dict
  returned: when something was read
tests:
  description:
    - For each metric the C(method), the values, C(p_value) and C(alpha) of this one test, whether the difference is
      C(relevant), whether there was enough to find any (C(able)), and whether it C(failed).
  type: list
  elements: dict
  returned: when something was read
start:
  description: Begin of what was counted, in seconds since the epoch.
  type: float
  returned: when something was read
end:
  description: End of it.
  type: float
  returned: when something was read
looks:
  description: How often it was judged.
  type: int
  returned: when something was read
requests_seen:
  description: Requests in the window, but for O(exclude_paths).
  type: int
  returned: when something was read
requests_exposed:
  description: Requests with an attempt on a new instance.
  type: int
  returned: when something was read
requests_both:
  description: Requests that were tried on both sides.
  type: int
  returned: when something was read
attempts_elsewhere:
  description: Attempts on addresses that are neither new nor old.
  type: int
  returned: when something was read
lines_unreadable:
  description: Lines of the log that are no JSON with a time.
  type: int
  returned: when something was read
detectable_error_ratio:
  description: Share of errors that these numbers of requests would have found with a power of 80 %.
  type: float
  returned: when something was read
observation:
  description: All counts, for O(observations) of another call. Times are whole milliseconds, so nothing is lost.
  type: dict
  returned: when something was read
"""

import re
import time
from typing import Any

from ansible_collections.flowfleet.langflow.plugins.module_utils import _canary, _canary_sources, _nginx_log
from ansible_collections.flowfleet.langflow.plugins.module_utils._quiet_module import QuietModule

QUERIES = {
    "requests": {"type": "str", "required": True},
    "errors": {"type": "str", "required": True},
    "buckets": {"type": "str"},
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "source": {"type": "str", "choices": ["nginx_log", "prometheus", "observations"], "default": "nginx_log"},
    "new": {"type": "list", "elements": "str", "default": []},
    "old": {"type": "list", "elements": "str", "default": []},
    "baseline": {"type": "bool"},
    "log_path": {"type": "path", "default": "/var/log/nginx/access.json"},
    "latency": {"type": "str", "choices": ["header", "response"], "default": "header"},
    **_nginx_log.OPTIONS,
    "prometheus": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "new": {"type": "dict", "required": True, "options": QUERIES},
            "old": {"type": "dict", "options": QUERIES},
            "query_type": {"type": "str", "choices": ["instant", "range"], "default": "instant"},
            "step": {"type": "float", "default": 5.0},
            "ca_path": {"type": "path"},
            "token": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 10.0},
        },
    },
    "observations": {"type": "list", "elements": "dict", "default": []},
    "collect_only": {"type": "bool", "default": False},
    "since": {"type": "float"},
    "warmup": {"type": "float", "default": 10.0},
    "window": {"type": "float", "default": 60.0},
    "looks": {"type": "int", "default": 4},
    "min_requests": {"type": "int", "default": 50},
    "on_insufficient": {"type": "str", "choices": ["hold", "pass", "fail"], "default": "hold"},
    "timeout": {"type": "float", "default": 600.0},
    "interval": {"type": "float", "default": 2.0},
    "report_only": {"type": "bool", "default": False},
    "metrics": {"type": "list", "elements": "str", "choices": list(_canary.METRICS), "default": list(_canary.METRICS)},
    "alpha": {"type": "float", "default": 0.01},
    "error_floor": {"type": "float", "default": 0.01},
    "latency_ratio": {"type": "float", "default": 1.2},
    "latency_floor_ms": {"type": "float", "default": 100.0},
}


def make_source(params: dict[str, Any]) -> _canary_sources.Source:
    """The source that the options describe."""
    if params["source"] == "observations":
        if not params["observations"]:
            raise ValueError("observations: give at least one")
        return _canary_sources.Given(params["observations"])
    if params["source"] == "prometheus":
        given = dict(params["prometheus"])
        new, old = (given.pop(side) for side in ("new", "old"))
        sides = [None if queries is None else _canary_sources.Queries(**queries) for queries in (new, old)]
        return _canary_sources.Prometheus(given.pop("url"), sides[0], sides[1], **given)
    if not params["new"]:
        raise ValueError("new: name at least one instance")
    reading = _canary_sources.Reading(
        instances=_canary_sources.Instances(params["new"], params["old"]),
        errors=_canary_sources.status_pattern(params["error_statuses"]),
        time_field=f"upstream_{params['latency']}_time",
        exclude=[re.compile(pattern) for pattern in params["exclude_paths"]],
    )
    return _canary_sources.NginxLog(params["log_path"], reading)


def make_rules(params: dict[str, Any]) -> _canary.Rules:
    """The rules that the options describe."""
    old = {"nginx_log": params["old"], "prometheus": (params["prometheus"] or {}).get("old"), "observations": True}
    metrics = list(dict.fromkeys(params["metrics"]))
    if params["source"] == "prometheus":
        sides = [side for side in (params["prometheus"]["new"], params["prometheus"]["old"]) if side]
        if not all(side["buckets"] for side in sides):
            metrics = [metric for metric in metrics if metric == "errors"]
    return _canary.Rules(
        metrics=metrics,
        alpha=params["alpha"],
        minimum=params["min_requests"],
        error_floor=params["error_floor"],
        latency_ratio=params["latency_ratio"],
        latency_floor_ms=params["latency_floor_ms"],
        baseline=bool(old[params["source"]]) if params["baseline"] is None else params["baseline"],
    )


def make_schedule(params: dict[str, Any], now: float) -> _canary.Schedule:
    """The schedule that the options describe."""
    if params["window"] <= 0 or params["interval"] <= 0 or params["looks"] < 1 or params["warmup"] < 0:
        raise ValueError("window and interval must be more than 0, looks 1 or more, and warmup not negative")
    given = params["source"] == "observations"
    # Given observations are complete: there is nothing to wait for.
    begin = now if params["since"] is None else params["since"]
    start = now - params["window"] if given else begin + params["warmup"]
    return _canary.Schedule(
        start=start,
        window=params["window"],
        deadline=start + (params["window"] if given else max(params["window"], params["timeout"])),
        looks=params["looks"],
        interval=params["interval"],
        hold=params["on_insufficient"] == "hold",
    )


def main() -> None:
    """Take the arguments, look, tell the verdict."""
    module = QuietModule(
        argument_spec=ARGUMENTS,
        required_if=[("source", "prometheus", ("prometheus",))],
        supports_check_mode=True,
    )
    params = module.params
    try:
        rules, schedule = make_rules(params), make_schedule(params, time.time())
        if module.check_mode:
            module.exit_json(changed=False, verdict="", reason="nothing is compared in check mode")
        gate = _canary.Gate(make_source(params), rules, schedule)
        outcome = gate.collect() if params["collect_only"] else gate.run()
    except (ValueError, re.error) as exc:
        module.fail_json(msg=str(exc), verdict="", reason="nothing was compared")
    except _canary_sources.SourceError as exc:
        module.fail_json(msg=str(exc), verdict=_canary.INSUFFICIENT, reason=str(exc))
    refused = outcome.verdict == _canary.FAIL or (
        outcome.verdict == _canary.INSUFFICIENT and params["on_insufficient"] != "pass"
    )
    if refused and not params["report_only"]:
        words = {_canary.FAIL: "the new instances are worse", _canary.INSUFFICIENT: "not enough to decide on"}
        module.fail_json(msg=f"{words[outcome.verdict]}: {outcome.reason}", **outcome.plain())
    module.exit_json(changed=False, **outcome.plain())


if __name__ == "__main__":
    main()
