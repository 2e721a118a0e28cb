"""Structured logs: a fixed event name plus keys, never prompts, texts or secrets."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

from services.common import call_context


def _add_call_context(
    _logger: Any, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    context = call_context.current()
    if context.traceparent:
        event.setdefault("traceparent", context.traceparent)
    return event


def configure_logging(log_format: Literal["json", "console"], log_level: str, service: str) -> None:
    """Sends structlog's and the standard library's records to stderr, one per line."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_call_context,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(log_level.upper())
    # These say at info what our own events say already.
    for noisy in ("httpx", "openai", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)
