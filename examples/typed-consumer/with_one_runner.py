"""What a script does that needs one runner: it uses it like `concurrent.futures`.

python with_one_runner.py
"""

from __future__ import annotations

from typing import assert_type

import anyio

from anabranch.futures import Future, Stream, as_completed, lift, wait
from anabranch.runners.local import ConcurrentTaskRunner


def length(word: str) -> int:
    """Return how long a word is."""
    return len(word)


async def shouted(word: str) -> str:
    """Return a word in capitals, after a pause for breath."""
    await anyio.sleep(0.01)
    return word.upper()


def main(words: list[str]) -> None:
    """Measure and shout words at the same time."""
    with ConcurrentTaskRunner(max_workers=4) as runner:
        lengths = [runner.submit(length, word) for word in words]
        loud = [runner.submit(shouted, word) for word in words]
        echo = assert_type(runner.submit(shouted, lift(loud[0])), Future[str])
        done, not_done = wait([*lengths, runner.submit(length, lift(echo))], timeout=60)
        assert not not_done
        print(sorted(future.result() for future in done))
        ended: Stream[Future[str]] = as_completed(loud)
        print(sorted(future.result() for future in ended))


async def main_async(words: list[str]) -> None:
    """Do the same in an event loop."""
    async with ConcurrentTaskRunner().start() as runner:
        futures = [runner.submit(shouted, word) for word in words]
        print(assert_type([await future for future in futures], list[str]))


if __name__ == "__main__":
    main(["left", "branch", "right"])
    anyio.run(main_async, ["joined", "again"])
