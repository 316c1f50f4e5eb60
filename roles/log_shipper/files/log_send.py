# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send masked lines to Elasticsearch or Logstash for rsyslog (omprog with confirmations). Standard library only.

A batch is confirmed once the log tier has all of it. Otherwise rsyslog keeps it on disk and hands it over again, so
that nothing is lost and the order stays. Documents have names: what arrived before is not stored twice. Only a document
that the log tier refuses for what it is goes into the file of dead letters; when that is full the batch waits as well.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import ssl
import sys
import syslog
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

BULK_PATH = "/_bulk?filter_path=errors,error,status,items.*.status,items.*.error"
# What is wrong with these is not the document: somebody has to make room or repair something.
PATIENCE = frozenset({401, 403, 404, 405, 407, 408, 429})


class HeldError(Exception):
    """The log tier does not take lines now."""


class Line(NamedTuple):
    """One masked line."""

    name: str
    stream: str
    document: str


class Tier:
    """The log tier: several servers, one connection that stays open."""

    def __init__(
        self, settings: Mapping[str, Any], login: tuple[str, str], context: ssl.SSLContext | None = None
    ) -> None:
        self.urls = [urllib.parse.urlsplit(str(url)) for url in settings["urls"]]
        if any(url.scheme != "https" for url in self.urls):
            raise ValueError("https only")
        self.timeout = float(settings.get("timeout", 30))
        self.context = context or ssl.create_default_context(cafile=str(settings["ca_file"]))
        self.headers = {
            "Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode(),
            "User-Agent": "flowfleet-log-shipper",
        }
        self.chosen = 0
        self.connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        """Leave the server, and try the next one from now on."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self.chosen = (self.chosen + 1) % len(self.urls)

    def once(self, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Send one request to the chosen server."""
        url = self.urls[self.chosen]
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                str(url.hostname), url.port or 443, timeout=self.timeout, context=self.context
            )
        self.connection.request("POST", url.path.rstrip("/") + path, body, {**self.headers, "Content-Type": kind})
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def post(self, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Send one request; a connection that was closed meanwhile is opened again, and each server is tried once."""
        problem = "no server"
        for _try in range(len(self.urls) + (self.connection is not None)):
            try:
                status, reply = self.once(path, body, kind)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{self.urls[self.chosen].hostname}: {type(error).__name__}: {error}"
                self.close()
                continue
            if status >= 500 or status == 429:
                self.close()
            return status, reply
        raise HeldError(problem)


class DeadLetters:
    """The file of documents that the log tier refuses."""

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.most = most
        self.count = 0
        # A batch that is handed over again brings the same ones.
        self.known: dict[str, None] = {}
        if path.exists():
            with path.open("rb") as file:
                self.count = sum(1 for _line in file)

    @property
    def size(self) -> int:
        """Return its size."""
        return self.path.stat().st_size if self.path.exists() else 0

    def put(self, letters: Sequence[Mapping[str, Any]]) -> None:
        """Append the letters that are new, all or none; they are on the disk afterwards."""
        letters = [letter for letter in letters if str(letter.get("id")) not in self.known]
        if not letters:
            return
        text = "".join(json.dumps(letter, ensure_ascii=False) + "\n" for letter in letters).encode("utf-8")
        if self.size + len(text) > self.most:
            raise HeldError(f"the log tier refuses documents, and {self.path} is full")
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            left = memoryview(text)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        self.count += len(letters)
        self.known.update((str(letter["id"]), None) for letter in letters if "id" in letter)
        while len(self.known) > 20_000:
            del self.known[next(iter(self.known))]


class Sender:
    """Sends batches and remembers how that went."""

    def __init__(
        self, settings: Mapping[str, Any], tier: Tier, letters: DeadLetters, report: Path | None = None
    ) -> None:
        self.report = report
        self.reported = 0.0
        self.target = str(settings["target"])
        self.most = int(settings.get("request_bytes", 4 * 1024 * 1024))
        self.longest_pause = float(settings.get("retry_max", 10))
        self.pause = 0.0
        self.tier = tier
        self.letters = letters
        self.sent = 0
        self.failed = 0
        # What waits now, waits since then: a restart in an outage does not begin anew.
        self.last_sent = remembered(report) or time.time()
        self.held_since = 0.0
        self.reason = ""

    def send(self, lines: Sequence[Line]) -> int:
        """Send a batch in requests of a fitting size; returns how many documents were taken."""
        taken = 0
        part: list[Line] = []
        size = 0
        for line in lines:
            length = len(line.document)
            if part and size + length > self.most:
                taken += self.request(part)
                part, size = [], 0
            part.append(line)
            size += length
        if part:
            taken += self.request(part)
        return taken

    def request(self, lines: Sequence[Line]) -> int:
        """Send one request; one that is too large or not understood is halved until the one to blame is found."""
        status, reply = self.to_logstash(lines) if self.target == "logstash" else self.to_elasticsearch(lines)
        if status in (400, 413):
            if len(lines) > 1:
                middle = len(lines) // 2
                return self.request(lines[:middle]) + self.request(lines[middle:])
            self.letters.put([self.letter(lines[0], status, reply[:2000].decode("utf-8", "replace"))])
            return 0
        if not 200 <= status < 300:
            raise HeldError(f"{status} {reply[:300].decode('utf-8', 'replace')}")
        return len(lines) - (0 if self.target == "logstash" else self.look(lines, reply))

    def to_logstash(self, lines: Sequence[Line]) -> tuple[int, bytes]:
        """Send an array of documents."""
        return self.tier.post(
            "/", ("[" + ",".join(line.document for line in lines) + "]").encode("utf-8"), "application/json"
        )

    def to_elasticsearch(self, lines: Sequence[Line]) -> tuple[int, bytes]:
        """Send documents that must not be there yet."""
        body = "".join(
            f"{json.dumps({'create': {'_index': line.stream, '_id': line.name}})}\n{line.document}\n" for line in lines
        )
        return self.tier.post(BULK_PATH, body.encode("utf-8"), "application/x-ndjson")

    def look(self, lines: Sequence[Line], reply: bytes) -> int:
        """Look at what became of each document; returns how many were refused for good."""
        try:
            answer = json.loads(reply)
        except ValueError:
            raise HeldError(f"no JSON: {reply[:200]!r}") from None
        if not isinstance(answer, dict) or "errors" not in answer:
            raise HeldError(f"no result of a bulk request: {reply[:200]!r}")
        if not answer["errors"]:
            return 0
        results = [next(iter(item.values())) for item in answer.get("items") or ()]
        if len(results) != len(lines):
            raise HeldError(f"{len(results)} results for {len(lines)} documents")
        dead: list[dict[str, Any]] = []
        wait = ""
        for line, result in zip(lines, results, strict=True):
            status = int(result.get("status") or 0)
            if 200 <= status < 300 or status == 409:
                continue
            if status in PATIENCE or status >= 500 or status < 400:
                wait = wait or f"{status} {json.dumps(result.get('error'))[:300]}"
            else:
                dead.append(self.letter(line, status, result.get("error")))
        if wait:
            raise HeldError(wait)
        self.letters.put(dead)
        return len(dead)

    @staticmethod
    def letter(line: Line, status: int, error: Any) -> dict[str, Any]:
        """Return what is written of a refused document."""
        return {
            "time": round(time.time(), 3),
            "status": status,
            "error": error,
            "index": line.stream,
            "id": line.name,
            "document": json.loads(line.document),
        }

    def batch(self, lines: Sequence[Line]) -> str:
        """Send a batch; returns what rsyslog has to be told."""
        try:
            taken = self.send(lines)
        except HeldError as error:
            self.failed += 1
            if not self.held_since:
                self.held_since = time.time()
            reason = " ".join(str(error).split())
            if reason != self.reason:
                self.reason = reason
                syslog.syslog(syslog.LOG_WARNING, f"the log tier does not take lines, they wait on disk: {reason}")
            self.say(force=True)
            # rsyslog hands a batch over again at once, whatever its settings of pauses are.
            self.pause = min(max(2 * self.pause, 0.5), self.longest_pause)
            time.sleep(self.pause)
            return "held"
        self.pause = 0.0
        self.sent += taken
        self.last_sent = time.time()
        if self.held_since:
            syslog.syslog(
                syslog.LOG_NOTICE, f"the log tier takes lines again after {time.time() - self.held_since:.0f} s"
            )
            self.held_since, self.reason = 0.0, ""
        self.say()
        return "OK"

    def say(self, *, force: bool = False) -> None:
        """Write the figures, once a second at most."""
        if self.report and (force or time.monotonic() - self.reported >= 1):
            self.reported = time.monotonic()
            write(self.report, self.figures())

    def figures(self) -> dict[str, Any]:
        """Return how it went."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "last_sent": self.last_sent,
            "held_since": self.held_since,
            "dead_letters": self.letters.count,
            "dead_letters_bytes": self.letters.size,
        }


def remembered(report: Path | None) -> float:
    """Return when lines were last taken, as the sender before this one wrote it; 0 if there was none."""
    try:
        return float(json.loads(report.read_text(encoding="utf-8"))["last_sent"]) if report else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def write(target: Path, figures: Mapping[str, Any]) -> None:
    """Replace a small file at once."""
    fresh = target.with_name(target.name + ".new")
    fresh.write_text(json.dumps(figures), encoding="utf-8")
    fresh.replace(target)


def parsed(text: str) -> Line:
    """Return a line as rsyslog has kept it."""
    data = json.loads(text)
    return Line(str(data["id"]), str(data["index"]), json.dumps(data["doc"], ensure_ascii=False, separators=(",", ":")))


def serve(sender: Sender, lines: Iterator[bytes], answers: BinaryIO) -> None:
    """Speak with rsyslog: each line has its answer, and the one to the end of a batch counts."""

    def say(word: str) -> None:
        answers.write(word.encode("ascii") + b"\n")
        answers.flush()

    say("OK")
    waiting: list[Line] = []
    for raw in lines:
        text = raw.decode("utf-8", "replace").rstrip("\n")
        if text == "BEGIN TRANSACTION":
            waiting = []
            say("OK")
        elif text == "COMMIT TRANSACTION":
            answer = sender.batch(waiting)
            waiting = []
            say(answer)
        else:
            try:
                waiting.append(parsed(text))
            except (ValueError, KeyError, TypeError) as error:
                letter = {"time": round(time.time(), 3), "status": 0, "error": type(error).__name__, "line": text[:100]}
                # By its name it is known when the batch is handed over again.
                sender.letters.put([{**letter, "id": hashlib.sha256(raw).hexdigest()[:32]}])
            say("DEFER_COMMIT")
    sender.say(force=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Send until there is nothing more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--login", type=Path, required=True, help="file with user and password, one a line")
    parser.add_argument("--report", type=Path, help="file for figures")
    given = parser.parse_args(arguments)
    syslog.openlog("log-shipper", syslog.LOG_PID, syslog.LOG_DAEMON)
    settings = json.loads(given.config.read_text(encoding="utf-8"))
    user, password = given.login.read_text(encoding="utf-8").splitlines()[:2]
    letters = DeadLetters(Path(settings["dead_letters"]), int(settings["dead_letters_bytes"]))
    sender = Sender(settings, Tier(settings, (user, password)), letters, given.report)
    serve(sender, iter(sys.stdin.buffer), sys.stdout.buffer)


if __name__ == "__main__":
    main()
