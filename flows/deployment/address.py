"""The store's address as it may be shown and kept by others: without a password."""

from __future__ import annotations

from sqlalchemy import URL, make_url

from store.database import parse_url

SECRET = ("password", "sslpassword")  # of libpq, where they stand behind the question mark


def bare(store: str) -> str:
    """The address without its password; a path as it is.

    Raises StoreError for what is no address, and repeats nothing of it.
    """
    url = _url(store)
    if url is None:
        return store
    query = url.difference_update_query(SECRET).query
    place = (url.host, url.port, url.database, query)
    return URL.create(url.drivername, url.username, None, *place).render_as_string()


def has_password(store: str) -> bool:
    """Whether the address holds a password. Raises StoreError as `bare` does."""
    url = _url(store)
    return url is not None and (bool(url.password) or any(name in url.query for name in SECRET))


def _url(store: str) -> URL | None:
    """The address as a URL, or None for a path."""
    if "://" not in store:
        return None
    parse_url(store)  # what is refused here might be a password with a slip beside it
    return make_url(store)
