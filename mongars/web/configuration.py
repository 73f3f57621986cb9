"""Django's settings for the page: no database, no apps, three middlewares."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongars.settings import Settings

HERE = Path(__file__).parent
DAY_S = 24 * 3600
KEY_FILE = "web-secret-key"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "testserver")


def secret_key(settings: "Settings", data_dir: Path) -> str:
    """The key that signs cookies: from the settings, else from a file made at first start."""
    if settings.web.secret_key:
        return settings.web.secret_key
    path = data_dir / KEY_FILE
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    return path.read_text().strip()


def configure(settings: "Settings", data_dir: Path) -> None:
    """Set Django up. Its settings belong to the process: the page opened last is the one."""
    import django
    from django.conf import settings as django_settings

    values = _fixed() | _own(settings, data_dir)
    if django_settings.configured:
        for name, value in values.items():
            setattr(django_settings, name, value)
        _forget_the_page_before()
    else:
        django_settings.configure(**values)
        django.setup()


def _forget_the_page_before() -> None:
    """Django remembers where sessions are kept when it has looked once."""
    from asgiref.local import Local
    from django.contrib.sessions.backends.file import SessionStore
    from django.core.cache import caches

    if hasattr(SessionStore, "_storage_path"):
        del SessionStore._storage_path
    caches.__dict__.pop("settings", None)
    caches._settings = None
    caches._connections = Local()


def _fixed() -> dict[str, Any]:
    return {
        "DEBUG": False,
        "ROOT_URLCONF": "mongars.web.urls",
        "INSTALLED_APPS": [],
        "MIDDLEWARE": [
            "mongars.web.middleware.surroundings",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [HERE / "templates"],
                "OPTIONS": {
                    "context_processors": ["mongars.web.context.surroundings"],
                    "libraries": {"page": "mongars.web.tags"},
                    "builtins": ["django.templatetags.i18n", "mongars.web.tags"],
                },
            }
        ],
        "LANGUAGE_CODE": "en",
        "LANGUAGES": [("en", "English"), ("fr", "Français")],
        "LOCALE_PATHS": [HERE / "locale"],
        "USE_TZ": True,
        "LOGGING_CONFIG": None,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Lax",
        "CSRF_FAILURE_VIEW": "mongars.web.views.errors.csrf_failed",
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 1024 * 1024,
    }


def _own(settings: "Settings", data_dir: Path) -> dict[str, Any]:
    key = secret_key(settings, data_dir)
    # Browsers keep cookies by host, not by port: servers side by side need names of their own.
    mark = hashlib.sha256(f"cookies {key}".encode()).hexdigest()[:8]
    return {
        "SECRET_KEY": key,
        "ALLOWED_HOSTS": [*LOOPBACK, settings.api.host, *map(_pattern, settings.api.allowed_hosts)],
        "FORCE_SCRIPT_NAME": settings.api.root_path or None,
        "SESSION_COOKIE_AGE": settings.web.session_days * DAY_S,
        "SESSION_COOKIE_NAME": f"mongars_session_{mark}",
        "CSRF_COOKIE_NAME": f"mongars_csrf_{mark}",
        "LANGUAGE_COOKIE_NAME": "mongars_language",
        **_sessions(settings, data_dir),
    }


def _sessions(settings: "Settings", data_dir: Path) -> dict[str, Any]:
    if settings.redis.url is not None:
        return {
            "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
            "CACHES": {
                "default": {
                    "BACKEND": "django.core.cache.backends.redis.RedisCache",
                    "LOCATION": settings.redis.url.get_secret_value(),
                    "KEY_PREFIX": "mongars:web",
                    "OPTIONS": {"serializer": "mongars.web.serializer.JsonSerializer"},
                }
            },
        }
    directory = data_dir / "web-sessions"
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.file",
        "SESSION_FILE_PATH": str(directory),
    }


def _pattern(host: str) -> str:
    """`*.example.org` in our settings is `.example.org` in Django's."""
    return host[1:] if host.startswith("*.") else host
