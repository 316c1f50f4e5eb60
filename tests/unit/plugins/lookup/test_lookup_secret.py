# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup C(secret): where a value comes from, and what is said when there is none."""

from __future__ import annotations

import base64
import pathlib
import stat
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar
from ansible_collections.flowfleet.langflow.plugins.lookup import secret as plugin

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18

    def trust_as_template(value: str) -> str:
        return value


FERNET = base64.urlsafe_b64encode(b"k" * 32).decode()


@pytest.fixture
def look(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the lookup with the variables of an inventory that lies in a temporary directory."""

    def set_options(self: Any, var_options: Any = None, direct: Any = None) -> None:
        self._options = {"type": "password", "length": 32, "initial": None, **(direct or {})}

    # Without its collection being installed, a plugin does not find its own documentation.
    monkeypatch.setattr(plugin.LookupModule, "set_options", set_options)
    monkeypatch.setattr(plugin.LookupModule, "get_option", lambda self, name: self._options[name])

    def call(*names: Any, vault: str | None = None, variables: dict[str, Any] | None = None, **options: Any) -> Any:
        loader = DataLoader()
        if vault is not None:
            loader.set_vault_secrets([("default", VaultSecret(vault.encode()))])
        known = {"inventory_dir": str(tmp_path), **(variables or {})}
        lookup = plugin.LookupModule(loader=loader, templar=Templar(loader=loader, variables=known))
        return lookup.run(list(names), variables=known, **options)

    return call


def test_made_once_for_all(look: Any, tmp_path: pathlib.Path) -> None:
    first = look("a", "b")
    assert len(set(first)) == 2
    assert look("b", "a") == first[::-1]
    assert (tmp_path / ".secrets" / "a").read_text(encoding="utf-8").strip() == first[0]
    assert stat.S_IMODE((tmp_path / ".secrets" / "a").stat().st_mode) == 0o600


def test_length_and_type(look: Any) -> None:
    assert len(look("a", length=20)[0]) == 20
    assert len(base64.urlsafe_b64decode(look("b", type="fernet")[0])) == 32


@pytest.mark.parametrize("where", ["{{ inventory_dir }}/elsewhere", "elsewhere"])
def test_the_directory_is_a_choice(look: Any, tmp_path: pathlib.Path, where: str) -> None:
    look("a", variables={"langflow_fleet_secrets_dir": trust_as_template(where)})
    assert (tmp_path / "elsewhere" / "a").exists()


def test_check_mode_keeps_nothing(look: Any, tmp_path: pathlib.Path) -> None:
    assert look("a", variables={"ansible_check_mode": True})[0]
    assert look("b", variables={"ansible_check_mode": True}, initial="given-value") == ["given-value"]
    assert not (tmp_path / ".secrets").exists()
    kept = look("a")
    assert look("a", variables={"ansible_check_mode": True}) == kept


def test_initial_counts_only_if_there_is_nothing(look: Any) -> None:
    assert look("a", initial="first-value") == ["first-value"]
    assert look("a", initial="second-value") == ["first-value"]
    assert look("a") == ["first-value"]


@pytest.mark.parametrize("backend", ["store", "variables", "env", "hashi_vault"])
def test_a_given_value_wins_over_every_backend(look: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWFLEET_SECRET_A", "from-environment")
    variables = {
        "langflow_fleet_secret_backend": backend,
        "langflow_fleet_secrets": {
            "a": trust_as_template("{{ vault_a }}"),
            "broken": trust_as_template("{{ nowhere.to.be.found }}"),
        },
        "vault_a": "given-value",
    }
    assert look("a", variables=variables) == ["given-value"]
    with pytest.raises(AnsibleLookupError, match=r"secret broken: langflow_fleet_secrets\.broken cannot be resolved"):
        look("broken", variables=variables)


def test_the_dictionary_itself_may_be_a_template(look: Any) -> None:
    variables = {"langflow_fleet_secrets": trust_as_template("{{ vault_secrets }}"), "vault_secrets": {"a": "given"}}
    assert look("a", variables=variables) == ["given"]


def test_environment(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"langflow_fleet_secret_backend": "env"}
    monkeypatch.setenv("FLOWFLEET_SECRET_CACHE_KEY", "from-environment")
    assert look("cache-key", variables=variables) == ["from-environment"]
    with pytest.raises(AnsibleLookupError, match="secret b is missing: set FLOWFLEET_SECRET_B in the environment"):
        look("b", variables=variables)


class FakeVault:
    """Stands in for the lookup of community.hashi_vault."""

    asked: list[Any] = []

    def run(self, terms: list[str], variables: Any = None, **options: Any) -> list[dict[str, Any]]:
        self.asked.append((terms, options))
        if terms == ["sealed"]:
            raise RuntimeError("403 for token s.hunter2")
        return [{"secret": {"a": "from-vault", "number": 5, "nested": {"x": 1}}}]


def test_hashi_vault(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin.lookup_loader, "get", lambda *_arguments, **_options: FakeVault())
    variables = {
        "langflow_fleet_secret_backend": "hashi_vault",
        "langflow_fleet_secret_vault_path": "fleet/prod",
        "langflow_fleet_secret_vault_mount": "kv",
    }
    assert look("a", "number", variables=variables) == ["from-vault", "5"]
    assert FakeVault.asked[0] == (["fleet/prod"], {"engine_mount_point": "kv"})
    for name, message in (
        ("b", "secret b is missing: write the key b to the path"),
        ("nested", "secret nested: its value in the back-end hashi_vault is not text"),
    ):
        with pytest.raises(AnsibleLookupError, match=message):
            look(name, variables=variables)
    with pytest.raises(AnsibleLookupError, match=r"no answer for sealed \(RuntimeError\)") as caught:
        look("a", variables={**variables, "langflow_fleet_secret_vault_path": "sealed"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(AnsibleLookupError, match="needs langflow_fleet_secret_vault_path"):
        look("a", variables={"langflow_fleet_secret_backend": "hashi_vault"})


def test_hashi_vault_without_its_collection(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin.lookup_loader, "get", lambda *_arguments, **_options: None)
    variables = {"langflow_fleet_secret_backend": "hashi_vault", "langflow_fleet_secret_vault_path": "x"}
    with pytest.raises(AnsibleLookupError, match="needs the collection community.hashi_vault"):
        look("a", variables=variables)


@pytest.mark.parametrize(
    ("name", "options", "variables", "message"),
    [
        ("../a", {}, {}, "cannot be the name of a secret"),
        ("a", {"length": 3}, {}, "length 3 is too short"),
        ("a", {}, {"langflow_fleet_secret_backend": "paper"}, "langflow_fleet_secret_backend must be one of"),
        (
            "a",
            {},
            {"langflow_fleet_secret_backend": "variables"},
            "secret a is missing: set langflow_fleet_secrets.a in the inventory's vault file",
        ),
        ("a", {}, {"langflow_fleet_secrets": ["a"]}, "langflow_fleet_secrets must be a dictionary"),
        ("a", {}, {"langflow_fleet_secrets": {"a": ["hunter2"]}}, "its value in langflow_fleet_secrets is not text"),
        ("a", {}, {"langflow_fleet_secrets": {"a": ""}}, "its value in langflow_fleet_secrets is empty"),
        ("a", {"type": "fernet"}, {"langflow_fleet_secrets": {"a": "hunter2"}}, "is not a Fernet key"),
        ("a", {"type": "fernet", "initial": "hunter2"}, {}, "its value in the option initial is not a Fernet key"),
        ("a", {}, {"inventory_dir": None}, "set langflow_fleet_secrets_dir"),
    ],
)
def test_errors_say_what_to_do_and_show_nothing(
    look: Any, name: str, options: dict[str, Any], variables: dict[str, Any], message: str
) -> None:
    with pytest.raises(AnsibleLookupError, match=message) as caught:
        look(name, variables=variables, **options)
    assert "hunter2" not in str(caught.value)


def test_a_good_given_key(look: Any) -> None:
    assert look("a", type="fernet", variables={"langflow_fleet_secrets": {"a": FERNET}}) == [FERNET]


def test_a_run_with_a_vault_password_encrypts(look: Any, tmp_path: pathlib.Path) -> None:
    value = look("a", vault="open sesame")[0]
    stored = (tmp_path / ".secrets" / "a").read_text(encoding="utf-8")
    assert stored.startswith("$ANSIBLE_VAULT;")
    assert value not in stored
    assert look("a", vault="open sesame") == [value]
    with pytest.raises(AnsibleLookupError, match="secret a: .* is encrypted; give the vault password to this run"):
        look("a")
    with pytest.raises(AnsibleLookupError, match="secret a: cannot decrypt .*check this run's vault password"):
        look("a", vault="open barley")


def test_in_a_play(play: Any, tmp_path: pathlib.Path) -> None:
    """The real options, the real variables, and two hosts at once."""
    hosts = "".join(f"h{number} ansible_connection=local\n" for number in range(4))
    (tmp_path / "hosts").write_text(f"localhost ansible_connection=local\n{hosts}", encoding="utf-8")
    run = play(
        [
            {
                "ansible.builtin.assert": {
                    "that": [
                        "one == two",
                        "one | length == 24",
                        "lookup('flowfleet.langflow.secret', 'given', type='hex') == 'abc123'",
                    ]
                }
            }
        ],
        one="{{ lookup('flowfleet.langflow.secret', 'shared', length=24) }}",
        two="{{ lookup('flowfleet.langflow.secret', 'shared') }}",
        langflow_fleet_secrets={"given": "{{ 'abc' ~ '123' }}"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / ".secrets" / "shared").exists()
