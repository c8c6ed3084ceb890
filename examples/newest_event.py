"""Use the newest event whenever you are ready.

python examples/newest_event.py [SOURCE] [SECONDS]

A web page, a game or a robot has a pace of its own. The stream runs beside it and keeps the newest event;
older ones are dropped. The same works with a thread instead of a task.
"""

import asyncio
import sys

from emotion_runtime import EmotionEvent, EmotionRuntime

source = sys.argv[1] if len(sys.argv) > 1 else "demo"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0

newest: dict[str, EmotionEvent] = {}  # by the name of the source


async def watch() -> None:
    """Keep the newest event. The models run in a thread, so other tasks go on meanwhile."""
    # `realtime` plays a file at its own speed, as a camera would. For cameras only, EmotionRuntime(live=True)
    # takes the fastest backend.
    async for event in EmotionRuntime().stream(source, realtime=True):
        newest[event.source] = event


async def main() -> None:
    """Print the newest event twice a second."""
    watching = asyncio.create_task(watch())
    for _ in range(round(2 * seconds)):
        await asyncio.sleep(0.5)  # do your own work here
        for event in newest.values():
            people = [f"{person.id}: {person.top or person.why}" for person in event.persons]
            print(f"{event.t:5.2f} s  {', '.join(people) or 'nobody'}")
    watching.cancel()  # closes the source


asyncio.run(main())
