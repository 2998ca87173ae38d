"""What must not get into a file that is shared: keys and passwords."""

from __future__ import annotations

import json
import os
import re

# Keys that say what they are: of OpenAI, Anthropic and others (sk-), Google, AWS, GitHub, GitLab,
# Slack, Hugging Face, Groq, xAI, Perplexity, Replicate; tokens (JWT), headers, private keys.
_SHAPES = re.compile(
    r"""
    \b(?:sk|pk|rk)-[\w-]{16,} | \b(?:sk|pk|rk)_(?:live|test)_\w{16,} | \bAIza[\w-]{30,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b | \bgh[pousr]_\w{30,} | \bgithub_pat_\w{30,}
    | \bglpat-[\w-]{20,} | \bxox[abeoprs]-[\w-]{10,} | \bhf_\w{30,} | \bgsk_\w{30,} | \bxai-\w{30,} | \bpplx-\w{30,}
    | \br8_\w{30,} | \beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,} | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY
    | \b[Bb]earer[ ]+(?=\S*\d)[\w.~+/=-]{16,}
    """,
    re.VERBOSE,
)
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_LEAST = 8  # characters of a variable's value: shorter ones are words of the language


def leak(text: str) -> str:
    """Tell which secret *text* holds, without telling it; empty if none is known."""
    if found := _SHAPES.search(text):
        return f"what looks like a key ({found[0][:4]}...)"
    for name, value in os.environ.items():
        if _is_secret(name, value) and any(form in text for form in (value, _as_json(value))):
            return f"the value of the environment variable {name}"
    return ""


def _is_secret(name: str, value: str) -> bool:
    return len(value) >= _LEAST and _NAMES.search(name) is not None


def _as_json(value: str) -> str:
    return json.dumps(value)[1:-1]
