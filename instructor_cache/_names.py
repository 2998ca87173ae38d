"""Which names tell that what they name is a secret."""

from __future__ import annotations

import re

_WHOLE = {"token", "auth", "authorization", "cookie", "jwt", "bearer", "pwd", "pw", "pin", "otp"}
_PARTS = ("passw", "passphrase", "tokenvalue", "credential", "apikey", "privatekey", "accesskey")
_KEYS = {
    *("api", "access", "private", "signing", "encryption", "account", "subscription", "auth"),
    *("ssh", "session", "webhook", "shared", "storage", "hmac"),
    *("master", "service", "openai", "anthropic", "azure", "license", "admin", "client"),
}
_VAGUE = re.compile(r"(^|_)(keys?|tokens|sig|signature|code|session_?id)$")
_PASSWORD = re.compile(
    r"(passwo?r?d|passphrase|(api|secret|private)key|(client|app|shared)secret)$"
)
_ISSUED = re.compile(r"(accesskey|(access|refresh|auth|bearer|session)token)$")
_ASKING = {"uses", "has", "needs", "forgot", "forgotten", "reset", "no", "is"}
_LONGEST = 3  # words of a name; more are a sentence
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# What makes a name a secret's wherever it stands.
_TELLING = re.compile(
    r"api_?key|secret(?!ar)|passw|authorization|cookie|credential|access_key"
    r"|^token$|(^|_)(auth|access|session|ad|bearer|refresh|id)_token$",
    re.IGNORECASE,
)

# Arguments and headers that choose an account, written with underscores.
_CREDENTIALS = frozenset(
    {
        *("api_key", "apikey", "x_api_key", "x_goog_api_key", "token", "auth_token", "id_token"),
        *("x_auth_token", "access_token", "bearer_token", "session_token", "azure_ad_token"),
        *("admin_api_key", "authorization", "proxy_authorization", "cookie", "credentials"),
        *("aws_access_key", "aws_access_key_id", "aws_secret_key", "aws_secret_access_key"),
        *("aws_session_token", "x_amz_security_token", "openai_organization", "openai_project"),
    }
)


def is_secret(name: str) -> bool:
    """Whether a parameter, field or header of that *name* holds what nobody else should read."""
    if len(name.split()) > _LONGEST:
        return False
    if is_credential(name) or _TELLING.search(name.replace("-", "_")):
        return True
    words = _words(name)
    joined = "".join(words)
    if any(part in joined for part in _PARTS):
        return True
    if words[1:] and words[-1] == "pat":  # a personal access token
        return True
    if "key" in words[1:] and words[words.index("key") - 1] in _KEYS:
        return True
    return bool(words) and (words[-1] in _WHOLE or words[0] in _WHOLE - {"token"})


def is_password(name: str, value: str) -> bool:
    """Whether a text of that *name* is beyond doubt a password, or was issued and has a digit."""
    words = _words(name)
    if not words or words[0] in _ASKING:
        return False
    joined, has_digit = "".join(words), any(map(str.isdigit, value))
    return bool(_PASSWORD.search(joined) or (has_digit and _ISSUED.search(joined)))


def is_vague(name: str) -> bool:
    """Whether it names a secret or something else: what it holds must tell."""
    return _VAGUE.search("_".join(_words(name))) is not None


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def is_credential(name: str) -> bool:
    """Whether an argument or header of this *name* chooses the account of a call, nothing else."""
    return name.lower().replace("-", "_") in _CREDENTIALS
