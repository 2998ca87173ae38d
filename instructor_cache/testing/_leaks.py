"""What must not get into a file that is shared: keys and passwords."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from .._masks import MASK, is_secret

# Keys that say what they are: of OpenAI, Anthropic and others (sk-), Stripe, Google, AWS, GitHub,
# GitLab, Slack, Hugging Face, Groq, xAI, Perplexity, Replicate; tokens, private keys. Those are
# fewer than are masked in calls: an answer that says "password: ..." is an answer all the same.
_SHAPES = re.compile(
    r"""
    \bsk-[\w-]{8,} | \b(?:pk|rk)-[\w-]{16,} | \b(?:sk|pk|rk)_(?:live|test)_\w{8,}
    | \bAIza[\w-]{30,} | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bgh[pousr]_\w{30,} | \bgithub_pat_\w{30,} | \bglpat-[\w-]{20,} | \bxox[a-z]-[\w-]{10,}
    | \b(?:hf|gsk|r8)_\w{30,} | \b(?:xai|pplx)-\w{30,} | \beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY | \b[Bb]earer[ ]+(?=\S*\d)[\w.~+/=-]{16,}
    """,
    re.VERBOSE,
)
_LEAST = 8  # characters of a variable's value: shorter ones are words of the language


def leak(text: str) -> str:
    """Tell which secret *text* holds, without telling it; empty if none is known."""
    if found := _SHAPES.search(text):
        return f"what looks like a key ({found[0][:3]}...)"
    for name, value in _secrets():
        if value in text:
            return f"the value of the environment variable {name}"
    return ""


def without(text: str) -> str:
    """Give *text* without the secrets of the environment."""
    for _, value in _secrets():
        text = text.replace(value, MASK)
    return text


def _secrets() -> Iterator[tuple[str, str]]:
    """What the environment's variables hold by their names, in every form that it may be in."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST and is_secret(name):
            written = repr(value)[1:-1]
            forms = {value, written, *(json.dumps(each)[1:-1] for each in (value, written))}
            yield from ((name, form) for form in forms)
