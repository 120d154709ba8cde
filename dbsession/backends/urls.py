"""From a URL, a libpq string or keywords to a backend. Nothing here shows a password."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import make_conninfo

from dbsession.backends.base import Backend
from dbsession.backends.embedded import EmbeddedBackend
from dbsession.backends.postgres import PostgresBackend
from dbsession.backends.sqlite import SqliteBackend
from dbsession.errors import BindingError

__all__ = ["make_backend", "make_backend_from_provider"]

_SUPPORTED = (
    "dbsession works with PostgreSQL (postgresql://user@host/database, embedded-postgresql:///folder) "
    "and SQLite (sqlite:///file.db, or sqlite:// for one in memory)"
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_KEYWORDS = re.compile(r"\s*[a-z_]+\s*=")
_MEMORY = ("", ":memory:", ":sharedmemory:")


def _bool(text: str) -> bool:
    try:
        return {
            "1": True,
            "true": True,
            "on": True,
            "yes": True,
            "0": False,
            "false": False,
            "off": False,
            "no": False,
        }[text.lower()]
    except KeyError:
        raise ValueError from None


_POOL_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "min_size": int,
    "max_size": int,
    "timeout": float,
    "prepare": _bool,
}
_SQLITE_OPTIONS: Mapping[str, Callable[[str], Any]] = {"timeout": float, "create_db": _bool}
_EMBEDDED_OPTIONS: Mapping[str, Callable[[str], Any]] = {**_POOL_OPTIONS, "version": int}


def make_backend(url: str, **options: Any) -> Backend:
    """Return the backend for *url*; *options* have the names of those in its query, and win over them.

    Nothing is connected, and no server started, before the first connection is asked for.

    Raises:
        BindingError: the URL or an option cannot be used; the message says what can.
    """
    if not isinstance(url, str):
        raise BindingError(f"a database URL is text, not {type(url).__name__}. {_SUPPORTED}")
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match and url[match.end() :].startswith("//") else None
    if scheme == "sqlite":
        return _sqlite_from_url(url, options)
    if scheme in ("postgresql", "postgres"):
        return _postgres_from_url(url, options)
    if scheme == "embedded-postgresql":
        return _embedded_from_url(url, options)
    if scheme is not None and scheme.startswith(("postgresql+", "postgres+", "sqlite+")):
        raise BindingError(f"write {scheme.partition('+')[0]}:// without the name of a driver. {_SUPPORTED}")
    if scheme is not None:
        raise BindingError(f"there is no support for {scheme}:// databases. {_SUPPORTED}")
    if _KEYWORDS.match(url):
        return _postgres(url, None, _checked(options, _POOL_OPTIONS))
    raise BindingError(f"this is not a database URL: it has no scheme. {_SUPPORTED}")


def make_backend_from_provider(provider: str, **options: Any) -> Backend:
    """Return the backend for keywords, as Pony has them.

    SQLite takes `filename` (``":memory:"`` too) and `create_db`, which is False by default;
    PostgreSQL takes what libpq does (`user`, `password`, `host`, `port`, `database`, ...).

    Raises:
        BindingError: there is no such provider, or an option cannot be used.
    """
    name = provider.lower()
    if name == "sqlite":
        return _sqlite_from_keywords(options)
    if name in ("postgres", "postgresql"):
        return _postgres_from_keywords(options)
    raise BindingError(f"there is no support for the provider {provider!r}. {_SUPPORTED}")


# --- SQLite --------------------------------------------------------------------------------------


def _sqlite_from_url(url: str, options: Mapping[str, Any]) -> SqliteBackend:
    location, query = _split(url)
    found = _from_query(query, _SQLITE_OPTIONS) | _checked(options, _SQLITE_OPTIONS)
    return _sqlite(_path(location), found, create=True)


def _sqlite_from_keywords(options: dict[str, Any]) -> SqliteBackend:
    filename = options.pop("filename", None)
    if filename is None:
        raise BindingError('SQLite needs filename="file.db", or filename=":memory:"')
    return _sqlite(str(filename), _checked(options, _SQLITE_OPTIONS), create=False)


def _sqlite(path: str, options: dict[str, Any], *, create: bool) -> SqliteBackend:
    create = options.pop("create_db", create)
    if path in _MEMORY:
        return SqliteBackend(None, **options)
    return SqliteBackend(path, create=create, **options)


# --- PostgreSQL ----------------------------------------------------------------------------------


def _postgres_from_url(url: str, options: Mapping[str, Any]) -> PostgresBackend:
    location, query = _split(url)
    ours = [part for part in query if part.partition("=")[0] in _POOL_OPTIONS]
    theirs = [part for part in query if part not in ours]
    conninfo = location + ("?" + "&".join(theirs) if theirs else "")
    return _postgres(conninfo, None, _from_query(ours, _POOL_OPTIONS) | _checked(options, _POOL_OPTIONS))


def _postgres_from_keywords(options: dict[str, Any]) -> PostgresBackend:
    ours = {name: options.pop(name) for name in list(options) if name in _POOL_OPTIONS}
    if "database" in options:
        options["dbname"] = options.pop("database")
    return _postgres(options.pop("dsn", ""), options, ours)


def _postgres(conninfo: str, keywords: dict[str, Any] | None, options: dict[str, Any]) -> PostgresBackend:
    try:
        if keywords:
            conninfo = make_conninfo(conninfo, **keywords)
        else:
            make_conninfo(conninfo)
    except psycopg.Error as exc:
        raise BindingError(f"the PostgreSQL connection cannot be read: {_harmless(exc)}") from None
    return PostgresBackend(conninfo, **options)


def _harmless(exc: Exception) -> str:
    """Return what libpq says where that names an option; elsewhere it quotes the text, password and all."""
    match = re.fullmatch(r"invalid (?:URI query parameter|connection option):? \"(\w+)\"", str(exc).strip())
    if match:
        return f"there is no option {match[1]!r}"
    return "its syntax is wrong; a password with special characters must be percent-encoded in a URL"


def _embedded_from_url(url: str, options: Mapping[str, Any]) -> EmbeddedBackend:
    location, query = _split(url)
    found = _from_query(query, _EMBEDDED_OPTIONS) | _checked(options, _EMBEDDED_OPTIONS)
    folder = _path(location)
    if not folder:
        raise BindingError("an embedded PostgreSQL needs a folder: embedded-postgresql:///./data")
    return EmbeddedBackend(folder, url=location, **found)


# --- parts ---------------------------------------------------------------------------------------


def _split(url: str) -> tuple[str, list[str]]:
    location, _, query = url.partition("?")
    return location, [part for part in query.split("&") if part]


def _path(location: str) -> str:
    """Return the path of ``scheme:///relative`` or ``scheme:////absolute``."""
    scheme, _, rest = location.partition("://")
    if rest in _MEMORY:
        return ""
    if not rest.startswith("/"):
        raise BindingError(f"a path needs three slashes, {scheme}:///file, and an absolute one four")
    return unquote(rest[1:])


def _from_query(query: list[str], known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in query:
        name, _, text = part.partition("=")
        if name not in known:
            raise BindingError(f"there is no option {name!r}; there are: {', '.join(known)}")
        try:
            found[name] = known[name](unquote(text))
        except ValueError:
            raise BindingError(f"{name}={text} is not a value of that option") from None
    return found


def _checked(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in known:
            raise BindingError(f"there is no option {name!r}; there are: {', '.join(known)}")
    return dict(options)
