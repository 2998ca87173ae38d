"""The examples as programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


class Runner:
    """Starts examples with a home, a working folder and an environment of their own."""

    def __init__(self, folder: Path, redis_url: str = "") -> None:
        foreign = ("ANTHROPIC_", "INSTRUCTOR_CACHE_", "LANGCHAIN_", "LANGSMITH_", "OPENAI_")
        kept = {name: v for name, v in os.environ.items() if not name.startswith(foreign)}
        own = {"HOME": str(folder), "TMPDIR": str(folder), "REDIS_URL": redis_url}
        self._folder, self.environment = folder, {**kept, **own}

    def start(self, name: str, *options: str) -> subprocess.Popen[str]:
        """Give the running program; any warning in it is an error."""
        command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *options]
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, name: str, *options: str) -> tuple[str, str]:
        """Give what the program printed, and its errors; fail unless it ended well."""
        with self.start(name, *options) as program:
            try:
                out, err = program.communicate(timeout=180)
            finally:
                program.kill()  # nothing to kill, unless it hangs
        assert program.returncode == 0, out + err
        return out, err
