"""Fan-out of small messages by topic.

A message is told to this process at once and, where Redis is configured, published for the others.
Nothing rests on it: who listens also looks into the database, so a lost message costs time only.
A listener that falls behind by more than `ROOM` messages loses the oldest and is told so
(`Subscription.lagged`), so that a slow reader slows nobody.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

import structlog

from mongars.ids import new_id

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

ROOM = 1024
CHANNEL = "mongars:bus"
RETRY_S = 2.0


class Subscription:
    """One listener's messages, oldest first."""

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = topics
        self.lagged = False
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Take a message in; drops the oldest when there is no room."""
        if len(self._waiting) >= ROOM:
            self._waiting.popleft()
            self.lagged = True
        self._waiting.append(message)
        self._arrived.set()

    async def get(self, timeout_s: float | None = None) -> bytes | None:
        """The next message; `None` when none came in time."""
        if not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft()


class Bus:
    """Publish to a topic; subscribe to topics."""

    def __init__(self, redis: "Redis | None") -> None:
        self._redis = redis
        self._listeners: dict[str, set[Subscription]] = {}
        self._self_id = new_id().encode()
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(maxsize=10_000)
        self.connected = redis is None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, redis: "Redis | None") -> AsyncGenerator["Bus"]:
        """Open it; Redis may come and go at any time."""
        bus = cls(redis)
        if redis is None:
            yield bus
            return
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(bus._hear(redis)), tasks.create_task(bus._tell(redis))]
            try:
                yield bus
            finally:
                for task in running:
                    task.cancel()

    @property
    def shared(self) -> bool:
        """Whether other processes can be heard at all."""
        return self._redis is not None

    def publish(self, topic: str, message: bytes) -> None:
        """Tell a topic; never waits, never fails."""
        self._deliver(topic, message)
        if self._redis is not None:
            with contextlib.suppress(asyncio.QueueFull):
                self._outbox.put_nowait(b"%s %s %s" % (self._self_id, topic.encode(), message))

    @contextlib.contextmanager
    def _listening(self, subscription: Subscription) -> Iterator[None]:
        for topic in subscription.topics:
            self._listeners.setdefault(topic, set()).add(subscription)
        try:
            yield
        finally:
            for topic in subscription.topics:
                listeners = self._listeners[topic]
                listeners.discard(subscription)
                if not listeners:
                    del self._listeners[topic]

    @contextlib.asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncGenerator[Subscription]:
        """Listen to topics from now on."""
        subscription = Subscription(frozenset(topics))
        with self._listening(subscription):
            yield subscription

    def _deliver(self, topic: str, message: bytes) -> None:
        for listener in self._listeners.get(topic, ()):
            listener.put(message)

    async def _tell(self, redis: "Redis") -> None:
        away = _away()
        while True:
            message = await self._outbox.get()
            try:
                await redis.publish(CHANNEL, message)
            except away:
                self._mark(False)

    async def _hear(self, redis: "Redis") -> None:
        away = _away()
        while True:
            try:
                async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    self._mark(True)
                    async for heard in pubsub.listen():
                        sender, topic, message = heard["data"].split(b" ", 2)
                        if sender != self._self_id:
                            self._deliver(topic.decode(), message)
            except away:
                self._mark(False)
            await asyncio.sleep(RETRY_S)

    def _mark(self, connected: bool) -> None:
        if connected != self.connected:
            self.connected = connected
            log.log(20 if connected else 30, "bus.connected" if connected else "bus.away")


def _away() -> tuple[type[Exception], ...]:
    """What is raised while Redis cannot be reached; its package is loaded only where it is used."""
    from redis.exceptions import RedisError

    return (RedisError, OSError)
