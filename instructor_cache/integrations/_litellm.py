"""What litellm's functions read beside their arguments: its module, and the environment."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

__all__ = ["settings_of_litellm"]

_SETTINGS = (
    *("api_base", "api_version", "organization", "model_alias_map", "default_fallbacks"),
    *("drop_params", "modify_params", "vertex_project", "vertex_location"),
)
# Each provider has variables of its own, which end alike.
_VARIABLE = re.compile(
    r".+_(API_BASE|BASE_URL|API_VERSION|API_TYPE|ORGANIZATION|PROJECT|LOCATION|REGION(_NAME)?)"
)


def settings_of_litellm() -> dict[str, Any]:
    """Give what chooses endpoint and answer where a call does not, by name.

    Not the credentials: which of several would be used, each provider decides in another way.
    """
    module = sys.modules.get("litellm")
    settings = {name: getattr(module, name, None) for name in _SETTINGS}
    variables = {name: each for name, each in os.environ.items() if _VARIABLE.fullmatch(name)}
    return {**settings, "extra_headers": getattr(module, "headers", None), **variables}
