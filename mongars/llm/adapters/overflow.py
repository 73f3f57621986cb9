"""Knowing a prompt that is longer than the context by what different servers say about it."""

import re
from collections.abc import Mapping
from typing import Any

from mongars.errors import Invalid

_CODES = {"context_length_exceeded", "exceed_context_size_error"}

_SENTENCES = (
    # vLLM and OpenAI: how long the context is, then what was asked
    re.compile(
        r"maximum context length is (?P<context>\d+) tokens.*?"
        r"(?:\((?P<prompt>\d+) in the messages|resulted in (?P<prompt2>\d+) tokens"
        r"|contains at least (?P<prompt3>\d+) input tokens|has (?P<prompt4>\d+) input tokens)",
        re.DOTALL,
    ),
    re.compile(r"maximum context length is (?P<context>\d+)"),
    # vLLM, newer
    re.compile(r"passed (?P<prompt>\d+) input tokens.*context length is only (?P<context>\d+)"),
    re.compile(
        r"prompt \(length (?P<prompt>\d+)\) is longer than the maximum model length of "
        r"(?P<context>\d+)"
    ),
    # llama.cpp behind other servers
    re.compile(
        r"request \((?P<prompt>\d+) tokens\) exceeds the available context size "
        r"\((?P<context>\d+) tokens"
    ),
    # LM Studio
    re.compile(
        r"keep the first (?P<prompt>\d+) tokens when context the overflows.*"
        r"context length of only (?P<context>\d+)",
        re.DOTALL,
    ),
    re.compile(r"number of tokens to keep from the initial prompt is greater than the context"),
    re.compile(r"context length.*exceeded|exceed.*context (?:length|size|window)", re.IGNORECASE),
)


def overflow(said: str, error: Mapping[str, Any]) -> Invalid | None:
    """The fault, when these are a server's words for a prompt that is too long."""
    code = error.get("type") if error.get("type") in _CODES else error.get("code")
    found = next((match for one in _SENTENCES if (match := one.search(said))), None)
    if found is None and code not in _CODES:
        return None
    numbers = {} if found is None else found.groupdict()
    prompt = error.get("n_prompt_tokens") or next(
        (int(v) for k, v in numbers.items() if k.startswith("prompt") and v), None
    )
    context = error.get("n_ctx") or (int(numbers["context"]) if numbers.get("context") else None)
    return too_long(prompt, context)


def too_long(prompt_tokens: int | None, context_tokens: int | None) -> Invalid:
    """The fault for a prompt that is longer than the context."""
    told = {"prompt_tokens": prompt_tokens, "context_tokens": context_tokens}
    numbers = ""
    if prompt_tokens and context_tokens:
        numbers = f": {prompt_tokens} tokens, and it reads {context_tokens}"
    return Invalid(
        f"This is too long for the model{numbers}.",
        slug="too-long-for-model",
        extra={name: value for name, value in told.items() if value is not None},
    )
