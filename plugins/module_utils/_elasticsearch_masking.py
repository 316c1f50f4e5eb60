# Copyright: (c) 2026, The flowfleet.langflow contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# This file is private to the collection: it may change or vanish in any release.

"""Write the script of the last ingest pipeline from the patterns that the shipper works with.

The form of the patterns is described in roles/common/files/masking.yml. Regular expressions are part of the script,
because Painless compiles none at run time. The words of keys are its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# What no pattern may change: how documents find their place, and the ids that join them.
KEPT_ROOTS = ("@timestamp", "data_stream")
# Fields of a document that could not be masked which still say where it belongs.
SAFE = ("@timestamp", "data_stream", "host", "service")
DEEPEST = 40
# In Java an alternative inside a repetition costs stack for each character; these say the same without.
CHEAPER = (
    (r'(?:\\.|[^"\\])*', r'(?:[^"\\]++|\\.)*'),
    (r"(?:\\.|[^'\\])*", r"(?:[^'\\]++|\\.)*"),
)

# What `boundary` means before a match; %20 is a space.
BEFORE = "(?:(?<![0-9A-Za-z%])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))"

FUNCTIONS = """\
boolean alnum(int c) {
  return c >= 48 && c <= 57 || c >= 65 && c <= 90 || c >= 97 && c <= 122;
}
boolean luhn(StringBuilder d) {
  int sum = 0;
  for (int i = 0; i < d.length(); ++i) {
    int n = d.charAt(d.length() - 1 - i) - 48;
    if (i % 2 == 1) { n = n * 2; if (n > 9) { n = n - 9; } }
    sum += n;
  }
  return sum % 10 == 0;
}
int numberEnd(String t, int start, int last) {
  for (int end = last; end > start + 12; --end) {
    int c = t.charAt(end - 1);
    if (c < 48 || c > 57 || end < t.length() && alnum(t.charAt(end))) { continue; }
    String plain = t.substring(start, end).replace('%20', '');
    StringBuilder d = new StringBuilder();
    for (int i = 0; i < plain.length(); ++i) {
      int digit = plain.charAt(i);
      if (digit >= 48 && digit <= 57) { d.append(plain.substring(i, i + 1)); }
    }
    if (d.length() >= 13 && d.length() <= 19 && luhn(d)) { return end; }
  }
  return -1;
}
"""

WALK = """\
boolean secret(String key, Map p) {
  if (key.startsWith('[masked:')) { return false; }
  String plain = key.toLowerCase().replace('_', '').replace('.', '').replace('-', '').replace(' ', '');
  if (p.kept.contains(plain)) { return false; }
  for (String word : p.words) { if (plain.contains(word)) { return true; } }
  return false;
}
String quoted(String t) {
  String s = t.replace('\\\\', '\\\\\\\\').replace('"', '\\\\"');
  s = /\\n/.matcher(s).replaceAll('\\\\\\\\n');
  s = /\\r/.matcher(s).replaceAll('\\\\\\\\r');
  s = /\\t/.matcher(s).replaceAll('\\\\\\\\t');
  return '"' + /[\\x00-\\x1f]/.matcher(s).replaceAll(' ') + '"';
}
String json(def v) {
  if (v == null) { return 'null'; }
  if (v instanceof String) { return quoted(v); }
  StringBuilder out = new StringBuilder();
  if (v instanceof Map) {
    for (def e : v.entrySet()) {
      out.append(out.length() == 0 ? '{' : ',').append(quoted(e.getKey().toString())).append(':');
      out.append(json(e.getValue()));
    }
    return out.length() == 0 ? '{}' : out.append('}').toString();
  }
  if (v instanceof List) {
    for (def e : v) { out.append(out.length() == 0 ? '[' : ',').append(json(e)); }
    return out.length() == 0 ? '[]' : out.append(']').toString();
  }
  return v.toString();
}
def masked(def v, Map p, int depth) {
  if (v == null || v instanceof Boolean) { return v; }
  if (depth > DEEPEST) { return '[masked:depth]'; }
  if (v instanceof String) {
    String bare = v.trim();
    boolean object = bare.startsWith('{') && bare.endsWith('}');
    if (object || bare.startsWith('[') && bare.endsWith(']')) {
      def inner = null;
      try { inner = Processors.json(bare); } catch (Exception e) { inner = null; }
      if (inner instanceof Map || inner instanceof List) {
        def after = masked(inner, p, depth + 1);
        return after.equals(inner) ? text(v) : json(after);
      }
    }
    return text(v);
  }
  if (v instanceof Map) {
    Map out = new LinkedHashMap();
    for (def e : v.entrySet()) {
      String key = e.getKey().toString();
      def under = e.getValue();
      if (under != null && !(under instanceof Boolean) && secret(key, p)) { out.put(text(key), '[masked:key]'); }
      else { out.put(text(key), masked(under, p, depth + 1)); }
    }
    return out;
  }
  if (v instanceof List) {
    List out = new ArrayList();
    for (def e : v) { out.add(masked(e, p, depth + 1)); }
    return out;
  }
  if (v instanceof Number) {
    String plain = v.toString();
    if (plain.length() < 13) { return v; }
    String after = text(plain);
    return after.equals(plain) ? v : after;
  }
  return v;
}
boolean found = false;
for (String key : new ArrayList(ctx.keySet())) {
  if (key.startsWith('_') || params.roots.contains(key)) { continue; }
  def before = ctx[key];
  boolean whole = before != null && !(before instanceof Boolean) && secret(key, params);
  def after = whole ? '[masked:key]' : masked(before, params, 0);
  if (before != null && !before.equals(after)) { ctx[key] = after; found = true; }
}
if (found) {
  if (!(ctx.labels instanceof Map)) { ctx.labels = new HashMap(); }
  ctx.labels.masked_late = true;
}
"""

REDUCE = """\
for (String key : new ArrayList(ctx.keySet())) {
  if (!key.startsWith('_') && !params.safe.contains(key)) { ctx.remove(key); }
}
ctx.message = '[masked:failed]';
ctx.labels = ['masking_failed': true];
ctx.event = ['dataset': ctx.data_stream instanceof Map ? ctx.data_stream.dataset : 'unknown'];
"""


class MaskingError(ValueError):
    """The patterns cannot be used; the message says which one and why."""


def quoted(text: str) -> str:
    """A text as Painless writes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def literal(regex: str) -> str:
    """A regular expression as Painless writes it: between slashes, so that its own ones are escaped."""
    if "\n" in regex or "\r" in regex:
        raise MaskingError("a regular expression has to stand on one line")
    return "/" + re.sub(r"\\(.)|/", lambda found: found.group() if found.group(1) else r"\/", regex) + "/"


def joined(words: Sequence[str]) -> str:
    """What <keys> stands for."""
    return "|".join("[_. -]?".join(re.escape(part) for part in word.split("_")) for word in words)


def plain(word: str) -> str:
    """The name of a key without what makes no difference."""
    return re.sub("[_. -]", "", word.lower())


def expression(pattern: Mapping[str, Any], keys: str) -> str:
    """The regular expression of a pattern, as Java reads it."""
    regex = str(pattern["regex"]).replace("<keys>", keys)
    for text, cheaper in CHEAPER:
        regex = regex.replace(text, cheaper)
    flags = ""
    if regex.startswith("(?i)"):
        flags, regex = "(?i)", regex[4:]
    if pattern.get("boundary"):
        regex = f"{BEFORE}(?:{regex}){'' if pattern.get('check') else '(?![0-9A-Za-z])'}"
    if pattern.get("check"):
        regex = r"(?<![0-9]\.)" + regex
    return literal(flags + regex)


def step(pattern: Mapping[str, Any], keys: str) -> tuple[str, str]:
    """Functions that a pattern needs, and the statement that applies it to C(t)."""
    name = str(pattern.get("name", ""))
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise MaskingError(f"name of a pattern: lower-case letters, digits and underscores, not {name!r}")
    if not pattern.get("regex"):
        raise MaskingError(f"{name}: regex is missing")
    if pattern.get("check") not in (None, "luhn"):
        raise MaskingError(f"{name}: unknown check {pattern['check']}")
    regex = expression(pattern, keys)
    replacement = str(pattern.get("replace") or f"[masked:{name}]")
    function = ""
    if pattern.get("check"):
        function = (
            f"String p_{name}(String t) {{\n  Matcher m = {regex}.matcher(t);\n"
            "  StringBuilder out = new StringBuilder();\n  int done = 0; int from = 0;\n"
            "  while (from <= t.length() && m.find(from)) {\n"
            "    int end = numberEnd(t, m.start(), m.end());\n    if (end < 0) { from = m.start() + 1; continue; }\n"
            f"    out.append(t.substring(done, m.start())).append({quoted(replacement)});\n"
            "    done = end; from = end;\n  }\n"
            "  return done == 0 ? t : out.append(t.substring(done)).toString();\n}\n"
        )
        action = f"t = p_{name}(t);"
    elif pattern.get("except"):
        pieces = re.split(r"\$([1-9])", replacement)
        parts = [
            f".append(m.group({piece}) == null ? '' : m.group({piece}))" if number % 2 else f".append({quoted(piece)})"
            for number, piece in enumerate(pieces)
            if piece
        ]
        function = (
            f"String p_{name}(String t) {{\n  Matcher m = {regex}.matcher(t);\n"
            "  StringBuilder out = new StringBuilder();\n  int done = 0;\n  while (m.find()) {\n"
            f"    if ({literal(str(pattern['except']))}.matcher(m.group()).find()) {{ continue; }}\n"
            f"    out.append(t.substring(done, m.start())){''.join(parts)};\n    done = m.end();\n  }}\n"
            "  return done == 0 ? t : out.append(t.substring(done)).toString();\n}\n"
        )
        action = f"t = p_{name}(t);"
    else:
        # $1 to $9 mean the same to Java; a backslash would mean something.
        action = f"t = {regex}.matcher(t).replaceAll({quoted(replacement.replace(chr(92), chr(92) * 2))});"
    hints = " || ".join(f"low.contains({quoted(str(hint).lower())})" for hint in pattern.get("hints") or ())
    return function, f"  if ({hints}) {{ {action} }}\n" if hints else f"  {action}\n"


def pipeline(masking: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline that every document passes last."""
    words = [str(word) for word in masking["keys"]["words"]]
    steps = [step(pattern, joined(words)) for pattern in masking["patterns"]]
    source = (
        FUNCTIONS
        + "".join(function for function, _statement in steps)
        + "String text(String t) {\n  String low = t.toLowerCase();\n"
        + "".join(statement for _function, statement in steps)
        + "  return t;\n}\n"
        + WALK.replace("DEEPEST", str(DEEPEST))
    )
    parameters = {
        "words": sorted({plain(word) for word in words}),
        "kept": sorted({plain(str(word)) for word in masking["keys"].get("except") or ()}),
        "roots": list(KEPT_ROOTS),
    }
    return {
        "description": "Masks secrets in every text of a document; what cannot be masked is not kept.",
        "processors": [{"script": {"lang": "painless", "source": source, "params": parameters}}],
        "on_failure": [{"script": {"lang": "painless", "source": REDUCE, "params": {"safe": list(SAFE)}}}],
    }
