# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(managed_files) in real plays on this machine: templates, search paths, messages, secrets."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

WORD = "correct-horse-battery"


def task(*files: Any, **options: Any) -> dict[str, Any]:
    keywords = {key: options.pop(key) for key in ("register", "async", "poll") if key in options}
    return {"flowfleet.langflow.managed_files": {"files": list(files), **options}, **keywords}


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_templates_render_as_the_builtin_module_renders_them(play: Any, tmp_path: pathlib.Path) -> None:
    source = (
        "{{ ansible_managed | comment }}\n{% for n in [1, 2] %}\nn={{ n }}\n{% endfor %}\n"
        "{% include 'part.j2' %}\n{{ template_path }} {{ template_destpath | basename }}\n{{ words.0 }} \\n\n\n"
    )
    write(tmp_path / "templates" / "a.j2", source)
    write(tmp_path / "templates" / "part.j2", "part {{ word }}\n")
    out = tmp_path / "out"
    run = play(
        [
            task(
                {"path": str(out), "state": "directory"},
                {"path": f"{out}/a", "template": "a.j2", "vars": {"word": "{{ words[1] }}"}},
            ),
        ],
        words=["one", "two"],
    )
    assert "part two" in (out / "a").read_text(encoding="utf-8"), run.stdout
    (out / "b").mkdir()
    again = play(
        [{"ansible.builtin.template": {"src": "a.j2", "dest": f"{out}/b/a"}, "vars": {"word": "two"}}],
        words=["one", "two"],
    )
    assert again.returncode == 0, again.stdout
    assert (out / "a").read_bytes() == (out / "b" / "a").read_bytes()


def test_files_come_from_the_role_that_asked(play: Any, tmp_path: pathlib.Path) -> None:
    """A role may let another role do the work; templates and files are still its own."""
    out = tmp_path / "out"
    call = {"name": "engine", "tasks_from": "service.yml"}
    files = [
        {"path": str(out), "state": "directory"},
        {"path": f"{out}/t", "template": "t.j2"},
        {"path": f"{out}/f", "src": "f.bin"},
    ]
    service = [{"ansible.builtin.import_role": call, "vars": {"engine_files": files}}]
    write(tmp_path / "roles" / "cache" / "tasks" / "main.yml", json.dumps(service))
    write(tmp_path / "roles" / "cache" / "templates" / "t.j2", "from {{ origin }}")
    (tmp_path / "roles" / "cache" / "files").mkdir(parents=True)
    (tmp_path / "roles" / "cache" / "files" / "f.bin").write_bytes(b"\0\xff{{ not a template }}")
    engine = [{"flowfleet.langflow.managed_files": {"files": "{{ engine_files }}"}}]
    write(tmp_path / "roles" / "engine" / "tasks" / "service.yml", json.dumps(engine))
    run = play([], roles=["cache"], origin="cache")
    assert run.returncode == 0, run.stdout
    assert (out / "t").read_text(encoding="utf-8") == "from cache"
    assert (out / "f").read_bytes() == b"\0\xff{{ not a template }}"


@pytest.mark.parametrize("options", [(), ("-vvv",), ("--diff", "-vvvv"), ("--check", "--diff", "-vvvv")])
def test_a_secret_is_nowhere_in_the_output(play: Any, tmp_path: pathlib.Path, options: tuple[str, ...]) -> None:
    write(tmp_path / "templates" / "s.j2", "password={{ word }}\n")
    path = tmp_path / "secret.env"
    path.write_text("password=old-correct-horse-battery\n", encoding="utf-8")
    files = [{"path": str(path), "template": "s.j2", "secret": True, "validate": "grep -q password %s"}]
    tasks = [task(*files, register="done"), {"ansible.builtin.debug": {"var": "done"}}]
    run = play(tasks, *options, word=WORD)
    assert run.returncode == 0, run.stdout
    assert "correct-horse" not in run.stdout + run.stderr
    assert ("changed=1" in run.stdout) is True
    if "--check" not in options:
        assert WORD in path.read_text(encoding="utf-8")
        assert path.stat().st_mode & 0o777 == 0o600
        assert "changed=0" in play(tasks, *options, word=WORD).stdout


def test_a_failed_validation_shows_no_secret_and_puts_back(play: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "secret.env"
    path.write_text("before", encoding="utf-8")
    commands = [f"sh -c 'echo line 1 of {path}: >&2; cat {path} >&2; exit 9'"]
    run = play([task({"path": str(path), "content": f"k={WORD}\n", "secret": True}, validate=commands)], "-vvv")
    assert run.returncode == 2
    assert "ended with 9: line 1 of" in run.stdout + run.stderr
    assert WORD not in run.stdout + run.stderr
    assert path.read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"path": "/srv/x", "contents": "a"}, "files[0] (/srv/x): unknown key contents"),
        ({"path": "/srv/x", "content": None}, "files[0] (/srv/x): content is null"),
        ({"path": "/srv/x", "content": "{{ missing_variable }}"}, "missing_variable"),
        ({"path": "/srv/x", "template": "gone.j2"}, "files[0] (/srv/x), gone.j2: Could not find or access 'gone.j2'"),
        ({"path": "/srv/x", "template": "bad.j2"}, "files[0] (/srv/x), bad.j2: "),
        ({"path": "/srv/x", "template": "undefined.j2"}, "'nothing' is undefined"),
        ({"path": "/srv/x", "src": "gone"}, "files[0] (/srv/x), gone: Could not find or access 'gone'"),
    ],
)
def test_errors_name_the_item(play: Any, tmp_path: pathlib.Path, item: dict[str, Any], message: str) -> None:
    write(tmp_path / "templates" / "bad.j2", "{% if %}")
    write(tmp_path / "templates" / "undefined.j2", "{{ nothing }}")
    run = play([task(item)])
    assert run.returncode == 2
    assert message in " ".join((run.stdout + run.stderr).split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": [], "file": []}, "unknown option file; known are files and validate"),
        ({"validate": []}, "the option files is missing"),
        ({"files": [], "validate": [{}]}, "validate must be a list of commands"),
    ],
)
def test_errors_in_options(play: Any, arguments: dict[str, Any], message: str) -> None:
    run = play([{"flowfleet.langflow.managed_files": arguments}])
    assert message in " ".join((run.stdout + run.stderr).split())


def test_an_absent_file_needs_no_template(play: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gone"
    path.touch()
    run = play([task({"path": str(path), "state": "absent", "template": "gone.j2", "mode": "0644"})])
    assert run.returncode == 0, run.stdout
    assert not os.path.lexists(path)


def test_a_vaulted_source_is_decrypted_and_may_be_waited_for(play: Any, tmp_path: pathlib.Path) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret

    (tmp_path / "password").write_text("sesame", encoding="utf-8")
    vault = VaultLib([("default", VaultSecret(b"sesame"))])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "sealed").write_bytes(vault.encrypt(b"opened\n"))
    item = {"path": str(tmp_path / "out"), "src": "sealed", "secret": True}
    options = ("--vault-password-file", str(tmp_path / "password"))
    run = play([task(item, **{"async": 30, "poll": 1})], *options)
    assert run.returncode == 0, run.stdout
    assert (tmp_path / "out").read_text(encoding="utf-8") == "opened\n"


def test_a_user_defined_header_is_respected(play: Any, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "templates" / "a.j2", "{{ ansible_managed | comment }}\n")
    path = tmp_path / "a"
    run = play([task({"path": str(path), "template": "a.j2"})], ansible_managed="ours")
    assert path.read_text(encoding="utf-8") == "#\n# ours\n#\n", run.stdout
