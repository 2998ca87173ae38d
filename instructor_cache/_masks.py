"""What looks secret in a text, and the text without it."""

from __future__ import annotations

import re

from ._names import is_secret, is_vague

MASK = "***"

LONG = 2_000  # characters of a text that is looked through as a whole
_HEAD, _TAIL = 400, 1_500  # of a longer one, of which only both ends are ever shown
_MOST = 50_000  # characters of each end that are looked through

_OF_KEYS = r"[\w%+/=~-]"
_RANDOM = rf"(?={_OF_KEYS}*\d)(?={_OF_KEYS}*[A-Za-z]){_OF_KEYS}{{16,}}"
looks_random = re.compile(_RANDOM).fullmatch  # as no word looks
_MIXED = re.compile(r"(?!0x[\da-fA-F]{40}$)(?:(?=.*[a-z])(?=.*[A-Z]).*|[\da-fA-F-]*)")
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")

_TOLD = r"(?:(?:api|access|private|secret)[_-]?key|passw(?:or)?d|passphrase|secret|token)"
_HINTS = ("key", "passw", "passphrase", "secret", "token")
_PEM = r"[A-Z ]*PRIVATE KEY(?: BLOCK)?"
_QUOTED = r"(?P<quote>\\*[\"'])(?P<held>(?:(?!(?<!\\)(?P=quote))[^\n]){1,2000})(?P=quote)"
_NAMED = r"(?<=[\"'])(?P<name>[\w-]{1,60})(?P<between>\\*[\"']\s*[:=]\s*b?)"
_CRUMB = r"[\w.-]+=[^\s\"';,\\]*"
_COOKIES = rf"{_CRUMB}(?:;\s*(?:{_CRUMB}|secure|httponly))*"
_SIGNED = r"(?:[\w-]*(?:signature|credential)|sig)"
_PROSE = r"(?:is|are|was|and|or|must|should|can|may|will|needs?|to|with|for|in|if|when|option|flag)"
_GIVEN = rf"(?:\"[^\"\n]*\"|'[^'\n]*'|(?!-|\d+\b|{_PROSE}\s)[^\s\"']+)"
_BEGUN = ("_", "glpat-", "xox", "pypi-", "tvly-", "xai-", "pplx-")
_BEGUN_LONG = ("_", "nvapi-", "csk-", "hvs.", "dapi")
_PREFIXES = (
    *("gh[pousr]_", "github_pat_", "glpat-", "xox[a-z]-", "dckr_pat_"),
    *("hf_", "gsk_", "npm_", "pypi-", "r8_", "tvly-", "xai-", "pplx-"),
)

# Of these there are words, too: what follows has many letters and digits in a row, or is longer.
_UNBROKEN = (
    *("fw_(?=[a-z0-9]*[A-Z])", "csk-", "dapi", "lsv2_(?:pt|sk)_", "jina_", "glsa_", "ntn_"),
    *("do[opr]_v1_", "shp(?:at|ca|pa|ss)_", "lin_api_", "sntry[su]_", "ph[cx]_"),
)
_LONG = ("nvapi-", r"hvs\.", "pcsk_", "tgp_v1_", "whsec_", "figd_")

# How most others look. Ids of answers, messages and tool calls do so as well, but are shorter.
_ISSUED = (
    r"(?<![\w./-])(?!sha\d)(?:[a-z][a-z0-9]{0,9}[_.-]){1,3}"
    r"(?=[a-z0-9]*[A-Z])(?=[A-Z0-9]*[a-z])(?=\d*(?:[A-Za-z]+\d+){3})[A-Za-z0-9]{30,}[\w-]*"
)

# What is a key beyond doubt: an answer that holds one is not shared. Names that begin alike, such
# as sk-learn-pipelines, have no part that is as long and holds a digit.
# How far they look is bounded: a text may be made of such beginnings only.
_LONG_PART = (
    r"(?:[A-Za-z0-9]{1,60}[-_]){0,10}(?=[A-Za-z]{0,60}\d)(?=\d{0,60}[A-Za-z])[A-Za-z0-9]{12,}"
)
_KEYS_PROPER = tuple(
    (re.compile(pattern), MASK, hints)
    for pattern, hints in (
        (rf"\b[spr]k[-_]{_LONG_PART}[\w-]*", ("k-", "k_")),
        (r"\b[spr]k[-_](?=[\w-]{0,99}\d)[\w-]{40,}", ("k-", "k_")),
        (r"\b[spr]k_(?:live|test)_\w{8,}", ("k_live_", "k_test_")),
        (
            r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w.-]{20,}",
            ("akia", "asia", "aiza", "ya29."),
        ),
        (rf"\b(?:{'|'.join(_PREFIXES)})(?=[\w-]{{0,99}}\d)[\w-]{{16,}}", _BEGUN),
        (
            rf"\b(?:{'|'.join(_UNBROKEN)})(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{{20,}}[\w-]*",
            _BEGUN_LONG,
        ),
        (rf"\b(?:{'|'.join(_LONG)})(?=[\w+/-]{{0,99}}\d)[\w+/-]{{30,}}", _BEGUN_LONG),
        (r"\bSG\.[\w-]{16,}\.[\w-]{16,}", ("sg.",)),
        (r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", ("eyj",)),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY", ("private key",)),
        (r"(?i)\bbearer +(?=\S*\d)[\w.~+/=-]{16,}", ("bearer",)),
        (
            r"\b[Bb]asic +(?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z])(?:[\w+/]{4}){3,}(?:[\w+/]+={1,2})?",
            ("basic",),
        ),
        (r"(?i)\b(?:account|sharedaccess)key=[\w+/]{20,}={0,2}", ("key=",)),
        (
            r"https://hooks\.slack\.com/(?:services|workflows|triggers)/\w+/\w+/\w{8,}",
            ("hooks.slack",),
        ),
        (r"://[^\s/:@\"']*:(?=[^\s/@\"']*\d)[^\s/@\"']{6,}@", ("://",)),
    )
)


def _without_secret(pair: re.Match[str]) -> str:
    """The pair of a name and a text in quotes, without the text where the name makes it secret."""
    name, held = pair["name"], pair["held"]
    if not (is_secret(name) or (is_vague(name) and looks_random(held))):
        return pair[0]
    return f"{name}{pair['between']}{pair['quote']}{MASK}{pair['quote']}"


# What else a secret may look like, what it is replaced by, and small letters that it does not go
# without: to look for them is much faster.
_PATTERNS = tuple(
    (re.compile(pattern), shown, hints)
    for pattern, shown, hints in (
        (
            rf"(?s)-----BEGIN {_PEM}-----.*?(?:-----END {_PEM}-----|\Z)",
            MASK,
            ("private key",),
        ),
        (rf"(?s)\A.*-----END {_PEM}-----", MASK, ("private key",)),
        (
            rf"(?i)({_TOLD}(?:\\*[\"'])?\s*[:=]\s*b?){_QUOTED}",
            rf"\1\g<quote>{MASK}\g<quote>",
            _HINTS,
        ),
        (_NAMED + _QUOTED, _without_secret, ('"', "'")),
        (
            rf"(?i)((?<![\w-])--(?!no-|-)[\w-]*{_TOLD}\s+){_GIVEN}",
            r"\1" + MASK,
            ("--",),
        ),
        (
            rf"(?i)\b((?:set-)?cookie\\*[\"']?\s*:\s*\\*[\"']?){_COOKIES}",
            r"\1" + MASK,
            ("cookie",),
        ),
        (
            rf"(?i)([?&](?:amp;)?{_SIGNED}=)[^\s&;\"'#\\]{{8,}}",
            r"\1" + MASK,
            ("sig=", "signature=", "credential="),
        ),
        (
            r"(?i)([?&](?:pass|pw)=|[?&;]\s*pwd=)[^\s&;\"'#\\]+",
            r"\1" + MASK,
            ("pass=", "pw=", "pwd="),
        ),
        (
            rf"(?i)([?&](?:amp;)?(?:key|code|auth)=)(?={_OF_KEYS}*(?-i:[a-z])){_RANDOM}[^\s&;\"'#\\]*",
            r"\1" + MASK,
            ("key=", "code=", "auth="),
        ),
        (
            r"(?i)\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?(?:\w+\s+)?)[^\s\"',;]+",
            r"\1" + MASK,
            ("bearer", "authorization"),
        ),
        (r"\b[spr]k[-_](?=[\w-]{0,49}(?:\d|[^\W_]{16}))[\w-]{4,}", MASK, ("k-", "k_")),
        (rf"\b(?:{'|'.join(_PREFIXES)})[\w-]{{8,}}", MASK, _BEGUN),
        (
            r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[\w-]{20,}|\bya29\.[\w.-]+",
            MASK,
            ("akia", "asia", "aiza", "ya29."),
        ),
        (r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", MASK, ("eyj",)),
        (_ISSUED, MASK, ("_", "-", ".")),
        (r"(://[^\s/:@\"']*:)[^\s/\"']+@", r"\1" + MASK + "@", ("://",)),
        (rf"(://)(?=[^\s/@]+@){_RANDOM}@", r"\1" + MASK + "@", ("://",)),
        (rf"(?i)({_TOLD}[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&]+", r"\1" + MASK, _HINTS),
    )
)


# Those with ends of their own first: what is left of them would look like others.
_ALL = (*_PATTERNS, *_KEYS_PROPER)


def looks_issued(text: str) -> bool:
    """Whether it looks as no title, date, number or address does: of both cases, or in hex."""
    return bool(looks_random(text) and _MIXED.fullmatch(text)) and len(_CHANGE.findall(text)) >= 3


def masked(text: str) -> str:
    """Give *text* without what looks like a key, a token or a password."""
    lower = text.lower()
    for pattern, shown, hints in _ALL:
        if any(hint in lower for hint in hints):
            text = pattern.sub(shown, text)
    return text


def key_in(text: str) -> str:
    """Give how a key in *text* begins that is one beyond doubt; empty if there is none."""
    lower = text.lower()
    for pattern, _, hints in _KEYS_PROPER:
        if any(hint in lower for hint in hints) and (found := pattern.search(text)):
            return found[0][:3]
    return ""


def ends_masked(text: str, whole: int = LONG) -> tuple[str, bool]:
    """Give *text* masked and whether anything was; of one longer than *whole* both ends."""
    if len(text) <= whole:
        told = masked(text)
        return told, told != text
    ends = f"{text[:_HEAD]} … {text[-_TAIL:]}"
    if f"{masked(text[:_HEAD])} … {masked(text[-_TAIL:])}" == ends:
        return ends, False
    if len(text) <= 2 * _MOST:
        return masked(text), True  # a secret may reach from one end into what lies between
    return f"{masked(text[:_MOST])} … {masked(text[-_MOST:])}", True
