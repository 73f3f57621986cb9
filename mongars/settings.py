"""All settings: one field per organ, from the environment or from `mongars.toml`.

`MONGARS_<ORGAN>__<FIELD>` in the environment wins over `[organ] field = …` in `mongars.toml` in the
data directory; `MONGARS_<ORGAN>__<FIELD>_FILE` names a file that holds the value, for secrets.
Only names with `__` are checked (Kubernetes sets `MONGARS_PORT` and the like): an unknown one is
refused with the nearest right one.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mongars.auth import AuthSettings
from mongars.bus import RedisSettings
from mongars.cache import CacheSettings
from mongars.circuit import CircuitSettings
from mongars.cortex import CortexSettings, LimitsSettings
from mongars.database import DatabaseSettings
from mongars.errors import NotConfigured
from mongars.hippocampus import HippocampusSettings
from mongars.jobs import JobsSettings
from mongars.llm import LLMSettings
from mongars.neurons import NeuronsSettings
from mongars.organ import OrganSettings
from mongars.telemetry import TelemetrySettings

PREFIX = "MONGARS_"
BETWEEN = "__"
FROM_FILE = "_FILE"
OWN = "MONGARS_TEST_"


class ApiSettings(OrganSettings):
    """The address that monGARS answers on."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens it to the network."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    root_path: str = ""
    """Path below which a reverse proxy shows monGARS, as in `/assistant`."""

    allowed_hosts: tuple[str, ...] = ()
    """Names people may call it by, as in `["chat.example.org"]`; `*.example.org` covers subdomains.
    Loopback names and the address listened on are always allowed; `*` allows every name."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-*` headers are believed."""

    docs: bool = True
    """Whether `/docs` and `/openapi.json` are shown."""


class WebSettings(OrganSettings):
    """The page."""

    api_url: str | None = None
    """Base address of the API for `serve --only web`, as in `http://api:8000`."""

    secret_key: str | None = Field(default=None, repr=False)
    """Key that signs the page's cookies, shared by several web processes; made at first start."""

    session_days: int = 30
    """How long a browser stays signed in, in days."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter=BETWEEN,
        use_attribute_docstrings=True,
    )

    api: ApiSettings = ApiSettings()
    web: WebSettings = WebSettings()
    limits: LimitsSettings = LimitsSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    llm: LLMSettings = LLMSettings()
    neurons: NeuronsSettings = NeuronsSettings()
    circuit: CircuitSettings = CircuitSettings()
    cache: CacheSettings = CacheSettings()
    cortex: CortexSettings = CortexSettings()
    hippocampus: HippocampusSettings = HippocampusSettings()
    jobs: JobsSettings = JobsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` gives: the environment is read there, so that tests may bring their own."""
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """The library's reading of nested names, over a given mapping instead of the process's own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in environ.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`MONGARS_DATA_DIR`, else `mongars` in the user's own data directory (XDG)."""
    if named := environ.get("MONGARS_DATA_DIR"):
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mongars"


def load(data_dir: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read all settings. Raises `NotConfigured` that names the setting and the way to mend it."""
    _refuse_unknown(environ)
    values = _from_toml(data_dir / "mongars.toml")
    try:
        _merge(values, _Environment(_with_files(environ))())
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise NotConfigured(f"there is no setting {where}{_nearest(where)}") from error
        raise NotConfigured(f"setting {where}: {first['msg']}") from error
    except ValueError as error:
        raise NotConfigured(f"a setting in the environment cannot be read: {error}") from error


def names() -> Iterator[str]:
    """Every name the environment may use, without the `_FILE` forms."""
    for organ, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        for name in section.model_fields:
            yield f"{PREFIX}{organ}{BETWEEN}{name}".upper()


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = list(names())
    for name in environ:
        ours = name.upper().startswith(PREFIX) and BETWEEN in name
        if not ours or name.upper().startswith(OWN):
            continue
        plain = name.upper().removesuffix(FROM_FILE)
        if plain in known or name.upper() in known:
            continue
        near = difflib.get_close_matches(plain, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; see docs/settings.md"
        raise NotConfigured(f"there is no setting {name}{hint}")


def _nearest(where: str) -> str:
    """What a name in `mongars.toml` was probably meant to be."""
    known = [name.removeprefix(PREFIX).replace(BETWEEN, ".").lower() for name in names()]
    if "." not in where:
        known = list(Settings.model_fields)
    near = difflib.get_close_matches(where, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; see docs/settings.md"


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment's own settings, with the contents of the files that `*_FILE` name."""
    known = set(names())
    values = {name: value for name, value in environ.items() if name.upper() in known}
    for name, value in environ.items():
        plain = name.upper().removesuffix(FROM_FILE)
        if name.upper() == plain or plain not in known:
            continue
        try:
            values[plain] = Path(value).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(f"{name} names a file that cannot be read: {value}") from error
    return values


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NotConfigured(f"{path} cannot be read: {error}") from error


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
