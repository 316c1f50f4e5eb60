"""The program that reads database schemas from published packages."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from test_lab_tools import load

ROOT = Path(__file__).resolve().parents[3]
PLAIN = "def upgrade():\n    op.add_column('t', c)\n"
ALONE = "def upgrade():\n    with op.get_context().autocommit_block():\n        op.create_index('i')\n"
ONLY_DOWN = PLAIN + "def downgrade():\n    conn.commit()\n"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load("tools/schema_heads.py")


def wheel(folder: Path, version: str, *scripts: tuple[str, object, str]) -> None:
    """A package with migrations; the given texts are their ways up."""
    with zipfile.ZipFile(folder / f"langflow_base-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("langflow/alembic/env.py", "revision = 'not a migration'\n")
        archive.writestr("langflow/alembic/versions/__init__.py", "")
        for revision, down, body in scripts:
            text = f"revision: str = {revision!r}\ndown_revision = {down!r}\n{body}"
            archive.writestr(f"langflow/alembic/versions/{revision}_x.py", text)


def test_what_lies_between_releases(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (("a", None, PLAIN), ("b", "a", ALONE))
    wheel(tmp_path, "1.0.0", *old)
    wheel(tmp_path, "1.0.1", *old)
    new = (("c", "b", ONLY_DOWN), ("d", "b", ALONE), ("e", ("c", "d"), PLAIN), ("f", "e", PLAIN))
    wheel(tmp_path, "2.0.0", *old, *new)
    assert tool.main(["--wheels", str(tmp_path), "1.0.0", "1.0.1", "2.0.0"]) == 0
    lines = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        ["1.0.0", "b", "2"],
        ["1.0.1", "b", "2", "same schema"],
        ["2.0.0", "f", "6", "4 new migrations, 0 gone; commit by themselves: d (2 follow)"],
    ]


def test_two_heads_are_shown(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel(tmp_path, "1.0.0", ("a", None, PLAIN), ("b", "a", PLAIN), ("c", "a", PLAIN))
    assert tool.main(["--wheels", str(tmp_path), "1.0.0"]) == 0
    assert " b,c " in capsys.readouterr().out


def test_the_list_of_known_heads_is_read_and_checked(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tool.KNOWN.read_text(encoding="utf-8")
    assert tool.listed(text) == yaml.safe_load(text)
    for version, head in tool.listed(text).items():
        wheel(tmp_path, version, (head, None, PLAIN))
    assert tool.main(["--check", "--wheels", str(tmp_path)]) == 0
    wrong = tmp_path / "schema_heads.yml"
    wrong.write_text(text.replace("1.13.0: e5a7c9b1d3f2", "1.13.0: 386662af02e9"), encoding="utf-8")
    assert wrong.read_text(encoding="utf-8") != text
    monkeypatch.setattr(tool, "KNOWN", wrong)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "load_release", lambda: sys.modules["_release"])
    assert tool.main(["--check", "--wheels", str(tmp_path)]) == 1
    assert "says 386662af02e9 for 1.13.0, the package e5a7c9b1d3f2" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--wheels", "."]])
def test_a_release_has_to_be_named(tool: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2


def test_a_package_that_is_not_there_is_named(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no langflow_base-9\.9\.9-"):
        tool.main(["--wheels", str(tmp_path), "9.9.9"])


def test_a_package_without_migrations_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    wheel(tmp_path, "1.0.0")
    with pytest.raises(SystemExit, match="holds no migration"):
        tool.main(["--wheels", str(tmp_path), "1.0.0"])
