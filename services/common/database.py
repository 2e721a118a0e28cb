"""The shared PostgreSQL: an async engine with a bounded pool and bounded statements."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.common.errors import InvalidArgument


def create_engine(
    url: str, *, pool_size: int = 5, statement_timeout_seconds: float = 30.0
) -> AsyncEngine:
    """An engine for a PostgreSQL URL (`postgresql://…`, any driver suffix).

    At most twice `pool_size` connections are opened; a caller waits 10 s for one.

    Raises:
        InvalidArgument: another database, or not a URL.
    """
    try:
        parsed = make_url(url)
    except Exception as error:
        # SQLAlchemy's own text would print the password.
        raise InvalidArgument("not a database URL", "database_url") from error
    if parsed.get_backend_name() != "postgresql":
        raise InvalidArgument(
            f"{parsed.get_backend_name()} is not supported, only PostgreSQL", "database_url"
        )
    return create_async_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={"options": f"-c statement_timeout={int(statement_timeout_seconds * 1000)}"},
    )
