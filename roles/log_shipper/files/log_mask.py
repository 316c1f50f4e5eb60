# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make documents of log lines and mask what is secret in them. Standard library only.

rsyslog (mmexternal) hands over one line of JSON for each log line and waits for one line of JSON. Whatever goes wrong
with a line, its text is not in the answer: what is sent then says where the line stands.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import signal
import sys
import syslog
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

DEEPEST = 40
SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
TRACE = re.compile(r"(?i)trace[_.-]?(?:id|parent)[\"'\\]*\s?[=:]\s?[\"'\\]*(?:00-)?([0-9a-f]{32})(?![0-9a-f])")
# How role langflow names transactions in PostgreSQL.
NAMED_TRACE = re.compile("^langflow ([0-9a-f]{32})$")
# What may stand before a match with a boundary: no letter or digit, but an escape of URLs.
BEFORE = "(?:(?<![0-9A-Za-z%])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))"
NO_TRACE = "0" * 32
SEPARATORS = str.maketrans("", "", "_.- ")


class TooSlowError(Exception):
    """A line took longer than a line may take."""


def luhn(digits: str) -> bool:
    """Return whether the last digit is the checksum of the others."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if position % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


class Pattern:
    """One kind of secret."""

    def __init__(self, data: Mapping[str, Any], words: str) -> None:
        self.name = str(data["name"])
        self.hints = tuple(str(hint).lower() for hint in data.get("hints") or ())
        self.check = data.get("check")
        if self.check not in (None, "luhn"):
            raise ValueError(f"{self.name}: unknown check {self.check}")
        regex = str(data["regex"]).replace("<keys>", words)
        flags = ""
        if regex.startswith("(?i)"):
            flags, regex = "(?i)", regex[4:]
        if data.get("boundary"):
            after = "" if self.check else "(?![0-9A-Za-z])"
            regex = f"{BEFORE}(?:{regex}){after}"
        if self.check:
            regex = r"(?<![0-9]\.)" + regex
        self.regex = re.compile(flags + regex)
        self.excepted = re.compile(str(data["except"])) if data.get("except") else None
        self.replacement = str(data.get("replace") or f"[masked:{self.name}]")
        # $1 of the data is \g<1> of Python; nothing else in it has a meaning.
        self.template = re.sub(r"\$([1-9])", r"\\g<\1>", self.replacement.replace("\\", "\\\\"))

    def replace(self, text: str) -> tuple[str, int]:
        """Return the text without this kind of secret, and how many there were."""
        if self.check:
            return self.checked(text)
        if self.excepted is None:
            return self.regex.subn(self.template, text)
        count = 0

        def one(match: re.Match[str]) -> str:
            nonlocal count
            if self.excepted is not None and self.excepted.search(match.group()):
                return match.group()
            count += 1
            return match.expand(self.template)

        return self.regex.sub(one, text), count

    def checked(self, text: str) -> tuple[str, int]:
        """Replace only what has the right checksum; see masking.yml."""
        parts: list[str] = []
        done = position = 0
        while match := self.regex.search(text, position):
            end = self.card_end(text, match)
            if end is None:
                position = match.start() + 1
            else:
                parts += [text[done : match.start()], self.replacement]
                done = position = end
        return ("".join(parts) + text[done:], len(parts) // 2) if parts else (text, 0)

    @staticmethod
    def card_end(text: str, match: re.Match[str]) -> int | None:
        """Return where the longest beginning of the match ends that is a number with a checksum."""
        for end in range(match.end(), match.start() + 12, -1):
            if not text[end - 1].isdigit() or (end < len(text) and text[end].isalnum() and text[end].isascii()):
                continue
            digits = re.sub("%20|[^0-9]", "", text[match.start() : end])
            if 13 <= len(digits) <= 19 and luhn(digits):
                return end
        return None


class Masker:
    """All kinds of secrets, in texts and in values of JSON."""

    def __init__(self, masking: Mapping[str, Any]) -> None:
        keys = masking["keys"]
        words = [str(word) for word in keys["words"]]
        joined = "|".join("[_. -]?".join(re.escape(part) for part in word.split("_")) for word in words)
        self.patterns = [Pattern(data, joined) for data in masking["patterns"]]
        self.words = tuple(word.lower().translate(SEPARATORS) for word in words)
        self.kept = frozenset(str(word).lower().translate(SEPARATORS) for word in keys.get("except") or ())
        self.known: dict[str, bool] = {}
        self.found: Counter[str] = Counter()

    def secret(self, key: str) -> bool:
        """Return whether values under this key are secret."""
        found = self.known.get(key)
        if found is None:
            if len(self.known) > 10_000:
                self.known.clear()
            plain = key.lower().translate(SEPARATORS)
            found = (
                not key.startswith("[masked:") and plain not in self.kept and any(word in plain for word in self.words)
            )
            self.known[key] = found
        return found

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        low = text.lower()
        for pattern in self.patterns:
            if not pattern.hints or any(hint in low for hint in pattern.hints):
                text, count = pattern.replace(text)
                if count:
                    self.found[pattern.name] += count
        return text

    def any_text(self, text: str, depth: int) -> str:
        """Return a text without secrets; one that is JSON is masked as what it stands for."""
        stripped = text.strip()
        if len(stripped) > 1 and stripped[0] + stripped[-1] in ("{}", "[]"):
            try:
                inner = json.loads(stripped)
            except ValueError:
                return self.text(text)
            return json.dumps(self.value(inner, depth + 1), ensure_ascii=False)
        return self.text(text)

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value of JSON without secrets."""
        if depth > DEEPEST:
            self.found["depth"] += 1
            return "[masked:depth]"
        if isinstance(value, str):
            return self.any_text(value, depth)
        if isinstance(value, dict):
            return {self.text(str(key)): self.under(str(key), item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**12:
            text = str(value)
            masked = self.text(text)
            return value if masked == text else masked
        return value

    def under(self, key: str, value: Any, depth: int) -> Any:
        """Return the value under a key."""
        if value is None or isinstance(value, bool) or not self.secret(key):
            return self.value(value, depth)
        self.found["key"] += 1
        return "[masked:key]"


def trimmed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    return {key: item for key, item in value.items() if item not in (None, "", {})}


def text_of(*candidates: Any) -> str:
    """Return the first candidate that says something, as a text."""
    for candidate in candidates:
        if candidate not in (None, ""):
            return candidate if isinstance(candidate, str) else json.dumps(candidate, ensure_ascii=False)
    return ""


def moment(value: Any, fallback: str) -> str:
    """Return a time of a line in the form of the log store, or else the time at which it was read."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat(timespec="microseconds")
    if isinstance(value, str):
        text = re.sub(" (?:UTC|GMT|Etc/UTC)$", "+00:00", value).replace(",", ".")
        try:
            when = datetime.datetime.fromisoformat(text)
        except ValueError:
            return fallback
        # Without a zone it could be any moment of a day.
        return when.isoformat(timespec="microseconds") if when.tzinfo else fallback
    return fallback


class Documents:
    """Makes the document of a line."""

    def __init__(self, settings: Mapping[str, Any], seconds: float = 5.0) -> None:
        self.host = str(settings["host"])
        self.namespace = str(settings["namespace"])
        self.masker = Masker(settings["masking"])
        self.sources: list[tuple[Mapping[str, Any], list[tuple[str, re.Pattern[str]]]]] = [
            (source, [(str(field), re.compile(str(regex))) for field, regex in source["match"].items()])
            for source in settings["sources"]
        ]
        self.ignored = [
            [(str(field), re.compile(str(regex))) for field, regex in match.items()]
            for match in settings.get("ignored") or ()
        ]
        self.seconds = seconds
        self.unmaskable = 0
        self.lines = 0
        # Lines of the same moment with the same text are told apart by their number.
        self.moment = ""
        self.same: Counter[str] = Counter()

    @staticmethod
    def fits(fields: Mapping[str, Any], match: Sequence[tuple[str, re.Pattern[str]]]) -> bool:
        """Return whether all of these fields look as they have to."""
        return all(regex.search(str(fields.get(field, ""))) for field, regex in match)

    def source(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row of the table that a line belongs to."""
        for source, match in self.sources:
            if self.fits(fields, match):
                return source
        return {"service": "systemd", "dataset": "systemd.journal"}

    def identity(self, *parts: str) -> str:
        """Return a name that is the same whenever the same line is read again."""
        known = "\0".join(parts)
        when = parts[0]
        if when != self.moment:
            self.moment = when
            self.same.clear()
        self.same[known] += 1
        digest = hashlib.sha256(f"{self.host}\0{known}\0{self.same[known]}".encode("utf-8", "replace"))
        return digest.hexdigest()[:40]

    def document(self, line: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the document of a line, masked; nothing for a line that is not wanted."""
        fields: Mapping[str, Any] = line.get("$!") or {}
        found = {**fields, "tag": str(line.get("programname") or "")}
        if any(self.fits(found, match) for match in self.ignored):
            return None
        source = self.source(found)
        read = str(line.get("timereported") or "")
        metadata = fields.get("metadata") or {}
        raw = text_of(line.get("msg"), line.get("rawmsg"))
        before = sum(self.masker.found.values())
        content: dict[str, Any] = {}
        if raw.lstrip().startswith("{"):
            try:
                parsed = json.loads(raw)
            except ValueError:
                parsed = None
            if isinstance(parsed, dict):
                content = self.masker.value(parsed)
        names = source.get("fields") or {}

        def known(name: str, *usual: str) -> Any:
            wanted = [names[name]] if name in names else usual
            return next((content[key] for key in wanted if content.get(key) not in (None, "")), None)

        message = text_of(known("message", "message", "event", "msg")) if content else self.masker.any_text(raw, 0)
        level = text_of(known("level", "level", "error_severity", "severity")).lower()
        if not level:
            severity = str(line.get("syslogseverity") or "")
            level = SEVERITIES[int(severity)] if severity.isdigit() and int(severity) < len(SEVERITIES) else "info"
        trace = text_of(known("trace_id", "trace_id", "traceId", "trace.id"))
        if not re.fullmatch("[0-9a-f]{32}", trace):
            places = [message, *(text_of(content.get(key)) for key in source.get("trace_in") or ())]
            trace = next(
                (
                    seen.group(1).lower()
                    for place in places
                    if (seen := NAMED_TRACE.search(place) or TRACE.search(place))
                ),
                "",
            )
        span = text_of(known("span_id", "span_id", "spanId", "span.id"))
        process = text_of(known("pid", "pid"), fields.get("_PID"), fields.get("SYSLOG_PID"))
        dataset = str(source["dataset"])
        document: dict[str, Any] = trimmed(
            {
                "@timestamp": moment(known("time", "timestamp", "time", "ts", "msec"), read),
                "message": message,
                "log": trimmed(
                    {
                        "level": level,
                        "logger": text_of(known("logger", "logger", "name")),
                        "file": trimmed({"path": str(metadata.get("filename") or "")}),
                        "offset": str(metadata.get("fileoffset") or ""),
                    }
                ),
                "service": {"name": str(source["service"])},
                "host": {"name": self.host},
                "event": {"dataset": dataset},
                "data_stream": {"type": "logs", "dataset": dataset, "namespace": self.namespace},
                "trace": trimmed({"id": "" if trace == NO_TRACE else trace}),
                "span": trimmed({"id": span if re.fullmatch("[0-9a-f]{16}", span) else ""}),
                "flow": trimmed({"id": text_of(known("flow_id", "flow_id", "flow"))}),
                "run": trimmed({"id": text_of(known("run_id", "run_id"))}),
                "process": trimmed({"pid": int(process) if process.isdigit() else None}),
                "systemd": trimmed({"unit": str(fields.get("UNIT") or fields.get("_SYSTEMD_UNIT") or "")}),
            }
        )
        if content:
            document["flowfleet"] = {str(source["service"]): content}
        masked = sum(self.masker.found.values()) - before
        if masked:
            document["labels"] = {"masked": masked}
        origin = (
            str(fields.get("_BOOT_ID", "")),
            str(fields.get("_STREAM_ID", "")),
            process,
            text_of(metadata.get("filename")),
        )
        document["event"]["id"] = self.identity(
            read if not metadata else str(metadata.get("fileoffset")),
            *origin,
            message,
            json.dumps(content, sort_keys=True),
        )
        return document

    def placeholder(self, line: Mapping[str, Any], why: str) -> dict[str, Any]:
        """Return what is sent for a line that must not be sent. Nothing of it stands in there but where it is."""
        fields = line.get("$!")
        metadata = fields.get("metadata") if isinstance(fields, dict) else None
        read = str(line.get("timereported") or "")
        offset = str(metadata.get("fileoffset") or "") if isinstance(metadata, dict) else ""
        document: dict[str, Any] = {
            "@timestamp": read if re.fullmatch(r"[0-9T:.+Z-]{10,40}", read) else moment(time.time(), read),
            "message": f"A line could not be masked and stays on its host: {why}",
            "log": trimmed({"level": "error", "offset": offset if offset.isdigit() else ""}),
            "service": {"name": "log-shipper"},
            "host": {"name": self.host},
            "event": {"dataset": "log_shipper.unmaskable"},
            "data_stream": {"type": "logs", "dataset": "log_shipper.unmaskable", "namespace": self.namespace},
            "labels": {"unmaskable": 1},
        }
        document["event"]["id"] = self.identity(read, "unmaskable", offset)
        return document

    def answer(self, text: str) -> dict[str, Any]:
        """Return what rsyslog takes over for a line: everything of the line itself is replaced."""
        self.lines += 1
        line: Any = {}
        document: dict[str, Any] | None
        try:
            try:
                # Seconds of work, not of the clock: a busy host is no reason to give a line up.
                signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds)
                line = json.loads(text)
                document = self.document(line)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except Exception as error:  # pylint: disable=broad-exception-caught  # whatever it is, the text must not go out
            document = self.placeholder(line if isinstance(line, dict) else {}, type(error).__name__)
            self.unmaskable += 1
        empty = {"rawmsg": "-", "msg": "-", "syslogtag": "shipped", "structured-data": "-"}
        if document is None:
            return {**empty, "$!": {"flowfleet_state": "ignored"}}
        index = "logs-{dataset}-{namespace}".format(**document["data_stream"])
        out = json.dumps(
            {"id": document["event"]["id"], "index": index, "doc": document}, ensure_ascii=False, separators=(",", ":")
        )
        return {**empty, "$!": {"flowfleet_state": "masked", "flowfleet_line": out}}


def too_slow(_signal: int, _frame: object) -> None:
    """Give a line up."""
    raise TooSlowError


def write(target: Path, figures: Mapping[str, Any]) -> None:
    """Replace a small file at once."""
    fresh = target.with_name(target.name + ".new")
    fresh.write_text(json.dumps(figures), encoding="utf-8")
    fresh.replace(target)


def serve(documents: Documents, lines: BinaryIO, answers: BinaryIO, report: Callable[[], None]) -> None:
    """Answer each line, and say once a second at most how many there were."""
    last = 0.0
    for line in lines:
        answers.write(json.dumps(documents.answer(line.decode("utf-8", "replace"))).encode("ascii") + b"\n")
        answers.flush()
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            report()


def bench(documents: Documents, lines: Iterator[bytes]) -> dict[str, float]:
    """Return how many lines a second of work are masked; what else the host does is not counted."""
    start = time.process_time()
    count = sum(1 for line in lines if json.dumps(documents.answer(line.decode("utf-8", "replace"))))
    seconds = time.process_time() - start
    return {
        "lines": count,
        "cpu_seconds": round(seconds, 3),
        "lines_per_second": round(count / seconds) if seconds else 0,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer lines until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="directory for figures, one file for each process")
    parser.add_argument(
        "--bench",
        action="store_true",
        help="read lines as rsyslog hands them over, and say how many a second are masked",
    )
    given = parser.parse_args(arguments)
    documents = Documents(json.loads(given.config.read_text(encoding="utf-8")))
    signal.signal(signal.SIGVTALRM, too_slow)
    if given.bench:
        print(json.dumps(bench(documents, iter(sys.stdin.buffer))))
        return
    # rsyslog reads both from one pipe: a traceback would be taken for an answer, and logged.
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)

    def report() -> None:
        if given.report:
            figures = {
                "lines": documents.lines,
                "unmaskable": documents.unmaskable,
                "masked": dict(documents.masker.found),
            }
            write(given.report / f"mask-{os.getpid()}.json", figures)

    try:
        serve(documents, sys.stdin.buffer, sys.stdout.buffer, report)
    except Exception as error:
        # Where, but not what: there may be a line in it.
        last = traceback.extract_tb(error.__traceback__)[-1]
        syslog.syslog(syslog.LOG_ERR, f"log_mask.py ends: {type(error).__name__} in {last.name}, line {last.lineno}")
        raise


if __name__ == "__main__":
    main()
