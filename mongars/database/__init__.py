"""The database: transactions that know whose they are, on SQLite and PostgreSQL."""

from mongars.database import migrate
from mongars.database.database import SYSTEM, Database, Owner, Reading, System, Writing
from mongars.database.settings import DatabaseSettings
from mongars.database.types import Json, UtcTime, metadata

__all__ = [
    "SYSTEM",
    "Database",
    "DatabaseSettings",
    "Json",
    "Owner",
    "Reading",
    "System",
    "UtcTime",
    "Writing",
    "metadata",
    "migrate",
]
