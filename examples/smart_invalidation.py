"""A changed model asks anew, by itself: the schema is part of every key.

The published `smart_cache_key` hashed ``str((args, kwargs))``: two objects of one address had one
key, and one call spelled in two ways had two. It kept 32 bits, and none of the function's module.
"""

from __future__ import annotations

from _client import connect, paid_calls
from pydantic import BaseModel, create_model

from instructor_cache import MemoryCache, instructor_cache, smart_cache_key

client = connect()
memory = MemoryCache()


class User(BaseModel):
    name: str
    age: int


NewUser = create_model("User", __base__=User, city=(str | None, None))


def extract_with(model: type[User]):
    @instructor_cache(memory, returns=model)
    def extract(data: str) -> User:
        return client.chat.completions.create(
            model="gpt-4o-mini",
            response_model=model,
            messages=[{"role": "user", "content": data}],
        )

    return extract


def main() -> None:
    for model in (User, User, NewUser, NewUser):
        user = extract_with(model)("Jason is 25 years old and lives in Lisbon")
        key = smart_cache_key("extract", ("Jason ...",), {}, model)
        print(f"{user!r}; {paid_calls()} paid so far; {key}")
    assert paid_calls() == 2
    assert user.city == "Lisbon"


if __name__ == "__main__":
    main()
