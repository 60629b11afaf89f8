"""Seeds deliberate isolation faults, one at a time, and shows which test catches each.

    python benchmarks/isolation_faults.py            # all faults, some minutes
    python benchmarks/isolation_faults.py --only 3 15   # two of them

Each fault is put into a copy of the tree (a replaced line of code, or a statement after the
migrations) and the isolation tests run there until the first failure. Exit 0 only when every
fault was caught, and the untouched copy passed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "src", "tests", "benchmarks", "configs", "app.py", "config.py", "example_data.json",
    "pyproject.toml",
)  # fmt: skip
PACKAGE = "src/compliance_copilot"
LAST_SQL = f"{PACKAGE}/storage/migrations/sql/walls.sql"  # runs after all steps
LAST_ROUTINES = f"{PACKAGE}/storage/migrations/sql/routines/5_links.sql"
GRANTS = f"{PACKAGE}/storage/migrations/__init__.py"
WALL = "tenant_id = (SELECT current_setting('app.tenant_id', true))"


@dataclass(frozen=True)
class Fault:
    """What is broken, where, and how. An empty `old` appends `new` to the file."""

    name: str
    path: str
    old: str
    new: str


def schema(name: str, statement: str) -> Fault:
    """A statement that runs after all migrations."""
    return Fault(name, LAST_SQL, "", statement)


def code(name: str, path: str, old: str, new: str) -> Fault:
    """A line of the package, replaced wherever it stands in the file."""
    return Fault(name, f"{PACKAGE}/{path}", old, new)


FAULTS = (
    schema("policy dropped", "DROP POLICY tenant_only ON chunks;"),
    schema("FORCE removed", "ALTER TABLE documents NO FORCE ROW LEVEL SECURITY;"),
    schema("row-level security disabled", "ALTER TABLE usage_events DISABLE ROW LEVEL SECURITY;"),
    schema(
        "WITH CHECK opened",
        "DROP POLICY tenant_only ON documents; CREATE POLICY tenant_only ON documents"
        f" USING ({WALL}) WITH CHECK (true);",
    ),
    schema(
        "USING opened",
        "DROP POLICY tenant_only ON chunk_vectors; CREATE POLICY tenant_only ON chunk_vectors"
        f" USING (true) WITH CHECK ({WALL});",
    ),
    schema("second, open policy", "CREATE POLICY everybody ON api_keys FOR SELECT USING (true);"),
    schema("view with its owner's rights", "CREATE VIEW titles AS SELECT title FROM documents;"),
    Fault(
        "function with its owner's rights", LAST_ROUTINES, "",
        "ALTER FUNCTION chunks_around SECURITY DEFINER;",
    ),
    schema(
        "table without a wall and without the tenant in its key",
        "CREATE TABLE notes (tenant_id text, id uuid PRIMARY KEY, text text);",
    ),
    schema("content in the directory", "ALTER TABLE tenant_directory ADD COLUMN name text;"),
    schema(
        "document frequencies shared by all tenants",
        "DROP POLICY tenant_only ON term_statistics; CREATE POLICY tenant_only ON"
        " term_statistics USING (true);",
    ),
    schema(
        "blocks of document frequencies shared by all tenants",
        "DROP POLICY tenant_only ON term_blocks; CREATE POLICY tenant_only ON term_blocks"
        " USING (true);",
    ),
    Fault(
        "serving role with BYPASSRLS", GRANTS, "CREATE ROLE {quoted} LOGIN",
        "CREATE ROLE {quoted} BYPASSRLS LOGIN",
    ),
    Fault(
        "serving role may delete from the ledger", GRANTS, '        ("usage_events", "DELETE"),\n',
        "",
    ),
    Fault(
        "serving role may change the audit log", GRANTS,
        '        ("audit_entries", "UPDATE, DELETE"),\n', "",
    ),
    code(
        "a suspended tenant's key still served", "gateway/authentication.py",
        "if fresh and principal.suspended:", "if fresh and principal.expires_at == 0:",
    ),
    code("start with a mighty role", "storage/database.py", "if role[fault]:", "if not role:"),
    code(
        "session SET in a function", "storage/migrations/sql/routines/3_retrieval.sql",
        "PERFORM set_config('app.tenant_id', p_tenant, true)",
        "PERFORM set_config('app.tenant_id', p_tenant, false)",
    ),
    code(
        "session SET in the transaction helper", "storage/database.py",
        "set_config('app.tenant_id', $1, true)", "set_config('app.tenant_id', $1, false)",
    ),
    code(
        "tenant left out of the configuration's cache key", "tenancy/admission.py",
        "self._snapshots[tenant_id] = snapshot",
        "self._snapshots = {t: snapshot for t in (*self._snapshots, tenant_id)}",
    ),
    code(
        "tenant left out of the hot index's key", "adapters/hot_index.py",
        "mapped = self._hot.get(tenant_id)", "mapped = next(iter(self._hot.values()), None)",
    ),
    code(
        "tenant left out of the query cache's key", "orchestrator/caching.py",
        "tenant_id=permit.tenant_id", "tenant_id=''",
    ),
    code(
        "body's tenant trusted", "gateway/admitting.py",
        "    verify_tenant(caller.principal, named)\n", "",
    ),
    code(
        "path's tenant unchecked", "gateway/authentication.py",
        "        verify_tenant(principal, tenant_id)\n", "        pass\n",
    ),
    code(
        "query string's tenant trusted", "gateway/routes/usage.py",
        "        verify_tenant(principal, named)\n        return principal.tenant_id\n",
        "        return TenantId(named or principal.tenant_id)\n",
    ),
    code(
        "one route without a key", "gateway/routes/metrics.py", "tenant_id: UsageReader",
        "tenant_id: str",
    ),
    code(
        "session SET of the presented key", "storage/migrations/sql/routines/1_admission.sql",
        "encode(p_key_hash, 'hex'), true)", "encode(p_key_hash, 'hex'), false)",
    ),
    code(
        "keys of ended tenants honoured", "storage/migrations/sql/routines/1_admission.sql",
        "IF v_status = 'deleted' THEN RETURN; END IF;", "",
    ),
    code(
        "a cancelled waiter ends another tenant's write", "tenancy/config_manager.py",
        "asyncio.shield(self._task)", "self._task",
    ),
    code(
        "scope unchecked on one route", "gateway/routes/documents.py",
        "request: Request, caller: DocumentWriter, document_id",
        "request: Request, caller: DocumentReader, document_id",
    ),
    code(
        "revoked keys honoured at admission", "storage/migrations/sql/routines/1_admission.sql",
        "AND k.key_hash = r.key_hash AND k.revoked_at IS NULL", "AND k.key_hash = r.key_hash",
    ),
    code(
        "key not looked at again at admission", "tenancy/admission.py",
        "principal.key_hash if principal else None", "None",
    ),
    code(
        "foreign objects told from unknown ones", "rag/documents.py",
        "        if not rows:\n            raise _unknown()\n        return _info(rows[0])",
        "        if not rows:\n            raise NotFound(f'No {document_id}.', kind='document')\n"
        "        return _info(rows[0])",
    ),
    code(
        "context left bound", "tenancy/context.py", "            _current.reset(token)\n",
        "            pass\n",
    ),
    code(
        "baggage left bound", "tenancy/context.py",
        "            otel_context.detach(otel_token)\n", "",
    ),
    code(
        "background work inherits the tenant", "adapters/hot_index.py", ", context=Context()", "",
    ),
    code(
        "baggage sent to vendors", "rag/generation.py", "attach(baggage.clear())",
        "attach(otel_context.get_current())",
    ),
    code(
        "key written to a log", "tenancy/keys.py", "        presented = hash_of(secret)\n",
        "        presented = hash_of(secret)\n"
        "        __import__('logging').getLogger('keys').warning(secret)\n",
    ),
    code(
        "question written to a log", "rag/retrieval.py", "        began = time.perf_counter()\n",
        "        began = time.perf_counter()\n"
        "        __import__('logging').getLogger('compliance_copilot').debug(request.question)\n",
    ),
    code(
        "question put into a span", "rag/retrieval.py",
        "    if content_is_on():\n", "    if True:\n",
    ),
    code(
        "configuration changes without a new version", "tenancy/config_manager.py",
        "version = version + 1, updated_at", "updated_at",
    ),
)  # fmt: skip


def main() -> int:
    """Run the faults and print the table; 0 when all were caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="*", help="numbers of faults, e.g. 15 16")
    numbers = parser.parse_args().only or range(1, len(FAULTS) + 1)
    chosen = [(number, FAULTS[number - 1]) for number in numbers]
    with tempfile.TemporaryDirectory(prefix="cc-faults-") as folder:
        clean = _run(Path(folder) / "clean", None)
        if clean is not None:
            print(f"the untouched tree fails: {clean}")
            return 1
        caught = 0
        for number, fault in chosen:
            by = _run(Path(folder) / str(number), fault)
            caught += by is not None
            print(f"{number:2}  {fault.name:55}  {by or 'NOT CAUGHT'}", flush=True)
    print(f"{caught} of {len(chosen)} caught")
    return 0 if caught == len(chosen) else 1


def _run(copy: Path, fault: Fault | None) -> str | None:
    """Return the first test that fails in a copy of the tree, None when all pass."""
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    if fault is not None:
        _break(copy / fault.path, fault)
    known = _seen_before().get(fault.name) if fault else None
    caught = (known and _first_failure(copy, f"tests/isolation/{known}")) or _first_failure(
        copy, "tests/isolation"
    )
    shutil.rmtree(copy)
    return caught


def _seen_before() -> dict[str, str]:
    """Return which test caught each fault last time: it is asked first, the others if it passes."""
    rows = (ROOT / "docs" / "isolation.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| ([^|]+?) \| `(\S+)` \|$", rows, re.M))


def _first_failure(copy: Path, tests: str) -> str | None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
               tests]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{copy}/src:{copy}"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (?:tests/isolation/)?(\S+)", done.stdout, re.M)
    if found is None:  # broken in another way than it was meant to be: nothing was shown
        raise SystemExit(f"no test ran: {done.stdout[-500:]} {done.stderr[-500:]}")
    return found.group(1)


def _break(path: Path, fault: Fault) -> None:
    text = path.read_text(encoding="utf-8")
    if not fault.old:
        path.write_text(f"{text}\n{fault.new}\n", encoding="utf-8")
        return
    if fault.old not in text:
        raise SystemExit(f"{fault.name}: the line to break is gone from {fault.path}")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
