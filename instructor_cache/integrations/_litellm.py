"""What litellm's functions read beside their arguments: its module, and the environment."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from .._stand_in import unnamed
from ..canonical import canonical

__all__ = ["settings_of_litellm"]

_SETTINGS = ("model_alias_map", "default_fallbacks", "drop_params", "modify_params")
_SERVER = ("api_base", "api_version", "organization", "vertex_project", "vertex_location")
# Each provider has variables of its own, which end alike; what else ends so may be of anything.
_VARIABLE = re.compile(
    r".+_API_(BASE|VERSION|TYPE)"
    r"|(OPENAI|AZURE|ANTHROPIC|GEMINI|GOOGLE|VERTEX|AWS|BEDROCK|SAGEMAKER|MISTRAL|COHERE|GROQ"
    r"|OLLAMA|DATABRICKS|WATSONX|SNOWFLAKE|OCI|HF|HUGGINGFACE|DEEPSEEK|OPENROUTER|XAI)(_?AI)?"
    r"(_.+)?_(BASE_URL|URL|HOST|ENDPOINT|ORGANIZATION|PROJECT(_ID)?|LOCATION|REGION(_(NAME|ID))?)"
)


class Server:
    """Whom litellm asks: a part of a key, in which anybody stands for it as for a client's URL."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def __cache_key__(self) -> Any:
        anybody = unnamed("environment", canonical(self._facts))
        return self._facts if anybody is None else anybody


def settings_of_litellm() -> dict[str, Any]:
    """Give what chooses endpoint and answer where a call does not, by name.

    Not the credentials: which of several would be used, each provider decides in another way.
    """
    module = sys.modules.get("litellm")
    settings = {name: getattr(module, name, None) for name in _SETTINGS}
    server = {name: getattr(module, name, None) for name in _SERVER}
    server |= {name: each for name, each in os.environ.items() if _VARIABLE.fullmatch(name)}
    headers = getattr(module, "headers", None)
    return {**settings, "extra_headers": headers, "litellm": Server(server)}
