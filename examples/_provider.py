"""What the recipes for other clients share: a provider on localhost that any client finds.

The address goes where these packages look for it, into the environment, so that a recipe reads as
it would with a real key.
"""

from __future__ import annotations

import atexit
import os

from local_llm import LocalLLM

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its import would fetch a list of prices


def local_provider() -> LocalLLM:
    """Give a server that counts its calls; clients that are made from now on talk to it."""
    llm = LocalLLM(delay=0.05)
    llm.__enter__()
    atexit.register(llm.__exit__)
    os.environ["OPENAI_BASE_URL"] = llm.url
    os.environ["ANTHROPIC_BASE_URL"] = llm.url.removesuffix("/v1")
    os.environ["OPENAI_API_KEY"] = os.environ["ANTHROPIC_API_KEY"] = "none"
    return llm
