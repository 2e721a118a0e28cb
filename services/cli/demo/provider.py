"""Which language model the demo asks, from the environment alone."""

from __future__ import annotations

import os

from services.common.errors import FailedPrecondition

DEFAULT_MODEL = "gpt-4.1-mini"
"""For OpenAI's own endpoint, where nothing else is said: cheap, and no reasoning tokens."""


def llm_configured() -> bool:
    """True if the environment names a language model's provider."""
    return bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))


async def model_name() -> str:
    """`SAEXPLAIN_LLM_MODEL`; else the first model that another endpoint than OpenAI's lists.

    Raises:
        FailedPrecondition: the endpoint cannot be asked, or lists none (LLM_NOT_CONFIGURED).
    """
    named = os.environ.get("SAEXPLAIN_LLM_MODEL", "")
    base_url = os.environ.get("OPENAI_BASE_URL", "")
    if named or not base_url:
        return named or DEFAULT_MODEL
    from openai import AsyncOpenAI, OpenAIError

    hint = "set SAEXPLAIN_LLM_MODEL to the model to ask"
    try:
        # Local servers often want no key, and the client refuses to start without one.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=20) as client:
            listed = [model.id async for model in client.models.list()]
    except OpenAIError as error:
        kind = type(error).__name__
        message = f"{base_url} does not list its models ({kind}); {hint}"
        raise FailedPrecondition(message, "LLM_NOT_CONFIGURED") from error
    if not listed:
        raise FailedPrecondition(f"{base_url} lists no model; {hint}", "LLM_NOT_CONFIGURED")
    return listed[0]
