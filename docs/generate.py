"""Write the documents that come from the code, or `--check` that they are what the code says.

docs/settings.md  .env.example    from the settings' docstrings
docs/cli.md                       from the command line
docs/openapi.json  docs/api.md    from the API's routes and shapes
docs/problems.md                  from the faults that the code raises
"""

import ast
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MADE = "<!-- Made by `make generate`; change the code instead. -->\n"

WORDS = {
    "conflict": "The thing is not in the state that this needs; the detail says which.",
    "busy": "Too much at once. `Retry-After` tells in how many seconds it is worth trying again.",
    "unavailable": "A part is away: the database, the model, a server that was named.",
    "not-built": "The name is fixed, the part comes later.",
    "not-configured": "A setting is missing or wrong; the detail names it.",
    "missing": "It is not there, or it is not yours: both look the same.",
    "forbidden": "You are known, and your role or the scope of your key does not cover this.",
    "unproven": "There is no token, or it has ended or been revoked; `error` follows OAuth 2.",
    "malformed-json": "The body is not JSON: cut off, a name twice, NaN.",
    "too-deep": "Arrays and objects stand deeper in each other than 64 levels.",
    "invalid": "The shape is wrong; `errors` lists each field.",
    "too-large": "More was sent than is taken; the limits are settings.",
    "method-not-allowed": "The address exists, and takes other methods.",
    "otp-required": "The password is right; send the one-time code as `otp` too.",
    "too-long-for-model": "The message alone is longer than the model's context. Nothing was stored.",
    "interrupted": "The server ended while it was answering; what had come is kept.",
    "malformed": "The body cannot be read at all.",
    "internal": "An error of ours. The log has it under the `request_id`.",
    "host-not-allowed": "Called by a name it does not answer to; see `MONGARS_API__ALLOWED_HOSTS`.",
    "no-such-address": "There is no such call.",
    "api-away": "The page runs and the API behind it does not answer.",
    "database-busy": "Others are writing; the same request works in a moment.",
    "database-unavailable": "The database does not answer. Nothing was stored.",
    "database-damaged": "SQLite says that its file is damaged; `mongars doctor` looks closer.",
    "disk-full": "There is no room on the disk. Nothing was stored.",
    "weak-password": "Shorter than 12 characters, or easily guessed.",
    "too-many-messages": "More messages in a minute than one person may send.",
    "wrong-parent": "The message to go on from is not one of this conversation.",
    "model-not-found": "No model of this name is here; `mongars models list` shows them.",
    "model-cannot-see": "The message has an image, and the model reads only text.",
    "license-not-accepted": "The model's licence must be agreed to first.",
    "not-a-model": "What was fetched is no model file.",
    "checksum-mismatch": "What was fetched is not what was promised; it was thrown away.",
    "provider-refused": "The provider did not sign the person in.",
    "provider-unavailable": "The OpenID provider does not answer.",
    "provider-unproven": "What the provider said could not be verified.",
    "identity-unknown": "The provider knows this person; no account here is bound to them.",
    "stopping": "The server is being stopped; the answer goes on when it runs again.",
    "scope-missing": "The key was made without the scope that this needs.",
    "session-needed": "An API key cannot do this; sign in.",
    "admin-only": "Only an admin may do this.",
    "too-many-turns": "As many answers are being made for one person as may be.",
    "set-up-already": "There is an admin already.",
    "not-set-up": "There is no admin yet; the first one comes by the setup code.",
    "setup-code-wrong": "The setup code is not the one in `setup-code` in the data directory.",
    "invitation-invalid": "The invitation was used, has ended or was never given.",
    "registration-closed": "Accounts are made by invitation or by an admin here.",
    "name-taken": "Somebody has this name.",
    "wrong-password": "Name or password is wrong; which of the two is not told.",
    "person-disabled": "An admin keeps this account out.",
    "otp-wrong": "The one-time code is wrong, or was used already.",
    "account-gone": "The account was deleted in the meantime.",
    "begin-again": "This way of signing in was begun too long ago, or never.",
    "passkeys-need-a-name": "Browsers take passkeys only under a host name, not an IP address.",
    "passkey-unknown": "No account here has this passkey.",
    "token-invalid": "The token is not one of ours, or has ended.",
    "session-ended": "The session was ended, or its refresh token was used twice.",
    "ticket-ended": "A ticket opens one socket, within a minute.",
    "last-admin": "The last admin stays one.",
    "too-many-tries": "Too many wrong passwords or codes; `Retry-After` tells how long to wait.",
    "turn-running": "An answer is being made in this conversation; `turn_id` names it.",
    "message-too-long": "The message has more characters than are taken.",
    "idempotency-key-reused": "The key came before with another body.",
    "no-question": "There is no question that an answer could be made to.",
    "not-an-answer": "Only answers can be made again or gone on with.",
    "not-yours": "Only one's own words can be said otherwise.",
    "model-broke-off": "The model stopped in the middle; what had come is kept.",
    "model-loading": "The model is being loaded; it answers in a moment.",
    "fault": "An error of ours. The log has it under the `request_id`.",
}
"""What to say of a problem beyond its title."""


def settings_md() -> str:
    """Every setting, organ by organ."""
    from mongars.settings import Settings

    lines = [
        "# Settings",
        MADE,
        "Each is an environment variable `MONGARS_<ORGAN>__<FIELD>`, or a line of `mongars.toml` in the",
        "data directory (`[organ]`, then `field = …`); the environment wins. `<NAME>_FILE` names a file",
        "that holds the value, for secrets. A name with `__` that is not here is refused, with the nearest",
        "right one. Lists and tables are written as JSON in the environment.",
        "",
        "`MONGARS_DATA_DIR` is where everything is kept (default: `~/.local/share/mongars`).",
    ]
    for organ, field in Settings.model_fields.items():
        section: Any = field.annotation
        lines += ["", f"## `{organ}`", "", _one_line(section.__doc__), ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for name, one in section.model_fields.items():
            variable = f"MONGARS_{organ}__{name}".upper()
            default = _default(one)
            shown = f"`{default}`" if default else "–"
            meaning = _one_line(one.description).replace("|", "\\|")
            lines.append(f"| `{variable}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """The same as a file to copy."""
    from mongars.settings import Settings

    lines = [
        "# Made by `make generate` from the code. Copy what you need to the environment of the server",
        "# (docker run --env-file, systemd EnvironmentFile=, or `set -a; . ./.env; set +a`).",
        "",
        "# Where everything is kept.",
        "#MONGARS_DATA_DIR=~/.local/share/mongars",
    ]
    for organ, field in Settings.model_fields.items():
        section: Any = field.annotation
        lines += ["", f"# --- {organ}: {_one_line(section.__doc__)}"]
        for name, one in section.model_fields.items():
            lines += [f"# {_one_line(one.description)}"]
            variable = f"MONGARS_{organ}__{name}".upper()
            lines += [f"#{variable}={_default(one)}"]
    return "\n".join(lines) + "\n"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _default(field: Any) -> str:
    from pydantic_core import PydanticUndefined, to_jsonable_python

    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def cli_md() -> str:
    """Every command, as its `--help` says."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from mongars.cli.program import app

    command = get_command(app)
    text = get_docs_for_click(
        obj=command,
        ctx=typer.Context(command, info_name="mongars"),
        name="mongars",
        title="Command line",
    )
    head, rest = text.split("\n", 1)
    return f"{head}\n{MADE}{rest.rstrip()}\n"


def openapi() -> dict[str, Any]:
    """The description of the API, as `/openapi.json` gives it."""
    from mongars.api.app import create_app
    from mongars.settings import Settings

    return create_app(Settings()).openapi()


def openapi_json() -> str:
    """The same as a file; in a steady order, so that a change is seen as one."""
    return json.dumps(openapi(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def api_md() -> str:
    """Every call by what it is about."""
    described = openapi()
    by_tag: dict[str, list[tuple[str, str, str]]] = {}
    for path, calls in described["paths"].items():
        for method, call in calls.items():
            tag = (call.get("tags") or ["other"])[0]
            words = _one_line(call.get("description") or call.get("summary"))
            by_tag.setdefault(tag, []).append((path, method.upper(), words))
    lines = [
        "# API",
        MADE,
        "The whole description, with every shape, is [openapi.json](openapi.json); a running server shows",
        "it at `/docs`. Everything below `/api/v1` takes a bearer token from `POST /api/v1/token`, or an API",
        "key, unless it says otherwise. What goes wrong is answered as one of the",
        "[problems](problems.md). `/v1` speaks OpenAI's shapes. [For programs](for-programs.md) begins with",
        "examples, and describes the events of a turn and the socket.",
    ]
    for tag in sorted(by_tag):
        lines += ["", f"## {tag}", "", "| call | what it does |", "|---|---|"]
        for path, method, words in sorted(by_tag[tag]):
            escaped = words.replace("|", "\\|")
            lines.append(f"| `{method} {path}` | {escaped} |")
    return "\n".join(lines) + "\n"


def slugs() -> dict[str, tuple[int, str]]:
    """Every problem that the code can name: its slug, HTTP status and title."""
    from mongars import errors

    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.Fault)
    }
    found = {
        kind.slug: (_status(kind), kind.title) for kind in kinds.values() if "slug" in vars(kind)
    }
    for name, slug in _slugs_in_code():
        if name in kinds:
            found.setdefault(slug, (_status(kinds[name]), kinds[name].title))
    return found


def _status(kind: Any) -> int:
    from mongars.errors import MEANING

    return next(MEANING[base].status for base in kind.__mro__ if base in MEANING)


def _slugs_in_code() -> Iterator[tuple[str, str]]:
    """`Kind(…, slug="…")` anywhere in the package: the kind's name and the slug."""
    for path in sorted(ROOT.glob("mongars/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            for keyword in node.keywords:
                value = keyword.value
                if keyword.arg == "slug" and isinstance(value, ast.Constant):
                    yield name, str(value.value)


def problems_md() -> str:
    """Every problem, by its slug."""
    lines = [
        "# Problems",
        MADE,
        "What goes wrong is answered as `application/problem+json` (RFC 9457): `type`, `title`, `status`,",
        "`detail`, `request_id`, and `errors` with `loc` and `msg` of each wrong field. The `type` is",
        "`urn:mongars:problem:<slug>` and never changes; the words may. On the command line the same",
        "problem ends a command with the exit code 1 (failed), 2 (wrong usage) or 3 (not configured or not",
        "built).",
        "",
        "| slug | status | title | what it means |",
        "|---|---|---|---|",
    ]
    for slug, (status, title) in sorted(slugs().items(), key=lambda one: (one[1][0], one[0])):
        lines.append(f"| `{slug}` | {status} | {title} | {WORDS.get(slug, '')} |")
    return "\n".join(lines) + "\n"


DOCUMENTS: dict[str, Callable[[], str]] = {
    ".env.example": env_example,
    "docs/settings.md": settings_md,
    "docs/cli.md": cli_md,
    "docs/openapi.json": openapi_json,
    "docs/api.md": api_md,
    "docs/problems.md": problems_md,
}


def main(arguments: list[str]) -> int:
    """Write them all; with `--check` only tell which are out of date (exit code 1)."""
    stale = []
    for name, make in DOCUMENTS.items():
        path, text = ROOT / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text)
    if stale and "--check" in arguments:
        print(f"Out of date: {', '.join(stale)}; run `make generate`.", file=sys.stderr)
        return 1
    if stale:
        print(f"Written: {', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
