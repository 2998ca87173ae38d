"""What is secret in a text or by its name, and the text without it."""

from __future__ import annotations

import re

MASK = "***"

_LONG, _HEAD, _TAIL = 2_000, 400, 1_500  # of a longer text only both ends are ever shown
_MOST = 50_000  # characters of each end that are looked through
_WHOLE = {"token", "auth", "authorization", "cookie", "jwt", "bearer", "pwd", "pin", "otp"}
_PARTS = ("password", "passwd", "passphrase", "secret", "credential", "apikey", "privatekey")
_KEYS = {
    *("api", "access", "private", "signing", "encryption", "account", "subscription", "auth"),
    *("ssh", "session", "webhook", "shared", "storage", "hmac"),
    *("master", "service", "openai", "anthropic", "azure", "license", "admin", "client"),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_TOLD = r"(?:api[_-]?key|(?:access|private)[_-]?key|passw(?:or)?d|passphrase|secret|token)"
_HINTS = ("key", "passw", "passphrase", "secret", "token")
_BEGUN = ("_", "glpat-", "xox", "pypi-", "tvly-", "xai-", "pplx-")
_PREFIXES = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxa-", "xoxb-", "xoxp-"),
    *("xoxr-", "xoxs-", "hf_", "gsk_", "npm_", "pypi-", "r8_", "tvly-", "xai-", "pplx-"),
)

# What a secret may look like, what it is replaced by, and small letters that it does not go
# without: to look for them is much faster.
_PATTERNS = tuple(
    (re.compile(pattern), shown, hints)
    for pattern, shown, hints in (
        (
            r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            MASK,
            ("private key-----",),
        ),
        (r"(?s)\A.*-----END [A-Z ]*PRIVATE KEY-----", MASK, ("private key-----",)),
        (
            r"(?i)\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?(?:\w+\s+)?)[^\s\"',;]+",
            r"\1" + MASK,
            ("bearer", "authorization"),
        ),
        (r"\b[spr]k[-_][\w-]{4,}", MASK, ("k-", "k_")),
        (rf"\b(?:{'|'.join(_PREFIXES)})[\w-]{{8,}}", MASK, _BEGUN),
        (
            r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[\w-]{20,}|\bya29\.[\w.-]+",
            MASK,
            ("akia", "asia", "aiza", "ya29."),
        ),
        (r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", MASK, ("eyj",)),
        (r"(://[^\s/:@]*:)[^\s/@]+@", r"\1" + MASK + "@", ("://",)),
        (rf"(?i)({_TOLD}[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]+", r"\1" + MASK, _HINTS),
    )
)


def is_secret(name: str) -> bool:
    """Whether a parameter, field or header of that *name* holds what nobody else should read."""
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "".join(words)
    if any(part in joined for part in _PARTS):
        return True
    if "key" in words[1:] and words[words.index("key") - 1] in _KEYS:
        return True
    return bool(words) and (words[-1] in _WHOLE or words[0] in _WHOLE - {"token"})


def masked(text: str) -> str:
    """Give *text* without what looks like a key, a token or a password."""
    lower = text.lower()
    for pattern, shown, hints in _PATTERNS:
        if any(hint in lower for hint in hints):
            text = pattern.sub(shown, text)
    return text


def ends_masked(text: str) -> tuple[str, bool]:
    """Give *text* masked, or of a long one both ends, and whether anything was masked in it."""
    if len(text) <= _LONG:
        told = masked(text)
        return told, told != text
    ends = f"{text[:_HEAD]} … {text[-_TAIL:]}"
    if f"{masked(text[:_HEAD])} … {masked(text[-_TAIL:])}" == ends:
        return ends, False
    if len(text) <= 2 * _MOST:
        return masked(text), True  # a secret may reach from one end into what lies between
    return f"{masked(text[:_MOST])} … {masked(text[-_MOST:])}", True
