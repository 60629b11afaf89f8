"""bootstrap, tenants, keys, config: the life of a tenant from the command line."""

from pathlib import Path

from .conftest import EXAMPLES, CommandLine


def test_a_file_of_tenants_is_applied_once_however_often_it_is_given(
    cli: CommandLine, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    first = cli("bootstrap", EXAMPLES, "--keys-dir", keys, "--json").json["tenants"]
    assert {row["status"] for row in first} == {"created"}
    written = {path.name: path.read_text() for path in keys.iterdir()}
    assert set(written) == {"acme_corp.key", "beta_inc.key", "gamma_labs.key"}
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}

    again = cli.process("bootstrap", EXAMPLES, "--keys-dir", keys, "--json").json["tenants"]
    assert {row["status"] for row in again} == {"updated"}
    assert {path.name: path.read_text() for path in keys.iterdir()} == written
    listed = [tenant["tenant_id"] for tenant in cli("tenants", "list", "--json").json["tenants"]]
    assert [listed.count(name.removesuffix(".key")) for name in written] == [1, 1, 1]
    assert len(cli("keys", "list", "acme_corp", "--json").json["keys"]) == 1


def test_a_file_that_holds_no_tenants_is_refused_in_one_line(
    cli: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "wrong.json").write_text('{"tenants": [{"tenant_id": "lonely_co"}]}')
    assert "name" in cli("bootstrap", tmp_path / "wrong.json").complaint
    assert "no_such.json" in cli("bootstrap", tmp_path / "no_such.json").complaint


def test_keys_that_could_not_be_kept_are_not_made(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "tenants.json").write_text('{"tenants": [{"tenant_id": "kept_co", "name": "K"}]}')
    (tmp_path / "file").touch()
    refused = cli("bootstrap", tmp_path / "tenants.json", "--keys-dir", tmp_path / "file" / "keys")
    assert "--keys-dir" in refused.complaint
    assert "kept_co" in cli("tenants", "show", "kept_co").complaint


def test_a_tenant_is_made_suspended_resumed_and_ended(cli: CommandLine) -> None:
    made = cli("tenants", "create", "life_co", "--limits", "max_documents=3", "--json").json
    assert made["tenant"]["limits"] == {"max_documents": 3}
    assert made["api_key"]["secret"].startswith("cc_live_")
    cli("tenants", "suspend", "life_co")
    assert "suspended" in cli("ask", "Anything?", "--tenant", "life_co").complaint
    cli("tenants", "resume", "life_co")
    assert cli("ask", "Anything?", "--tenant", "life_co").status == 0

    assert cli("tenants", "delete", "life_co").status == 1, "nobody was there to confirm"
    assert cli("tenants", "show", "life_co", "--json").json["status"] == "active"
    cli("tenants", "delete", "life_co", "--yes")
    assert "compliance-copilot tenants create" in cli("tenants", "show", "life_co").complaint
    assert "once was, in use" in cli("tenants", "create", "life_co").complaint


def test_a_key_is_made_listed_rotated_and_revoked(cli: CommandLine) -> None:
    cli("tenants", "create", "keys_co")
    made = cli("keys", "create", "keys_co", "--name", "ci", "--scope", "ingest", "--json").json
    assert made["scopes"] == ["ingest"]
    heir = cli("keys", "rotate", "keys_co", made["key_id"], "--json").json
    assert heir["scopes"] == ["ingest"]
    assert heir["secret"] != made["secret"]
    assert cli("keys", "revoke", "keys_co", heir["key_id"]).status == 0

    told = cli("keys", "list", "keys_co", "--json")
    keys = {key["key_id"]: key for key in told.json["keys"]}
    assert keys[made["key_id"]]["expires_at"]
    assert keys[heir["key_id"]]["revoked_at"]
    assert made["secret"] not in told.out
    assert "no such key" in cli("keys", "revoke", "keys_co", heir["key_id"]).complaint
    assert "nobody" in cli("keys", "create", "nobody").complaint


def test_a_tenants_values_are_set_and_explained(cli: CommandLine) -> None:
    cli("tenants", "create", "config_co", "--config", "retrieval_mode=hybrid")
    assert cli("config", "set", "config_co", "top_k=7").status == 0
    values = cli("config", "show", "config_co", "--json").json["values"]
    assert values["top_k"]["value"] == 7
    assert values["top_k"]["layer"] == "tenant"
    assert values["top_k"]["set_by"] == "cli"
    assert values["retrieval_mode"]["value"] == "hybrid"
    assert values["max_tokens"]["layer"] == "system"
    assert "top_k" in cli("config", "set", "config_co", "top_k=0").complaint
    assert "colour" in cli("config", "set", "config_co", "colour=blue").complaint
