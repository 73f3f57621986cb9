"""A model server that costs nothing: OpenAI's chat completions with given words at a given pace.

The prompt may steer it: `words=32` and `delay_ms=0` in the last message's text; else 100 and 20.
It counts calls and prompt bytes, told at `/stats`.
"""

import argparse
import asyncio
import json
import re
import time

from aiohttp import web

STATS = web.AppKey("stats", dict)


def _steered(text: str, name: str, default: int) -> int:
    found = re.search(rf"{name}=(\d+)", text)
    return int(found.group(1)) if found else default


async def complete(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    asked = json.loads(raw)
    stats = request.app[STATS]
    stats["calls"] += 1
    stats["bytes"] += sum(len(m["content"].encode()) for m in asked["messages"])
    stats["last"] = asked
    text = asked["messages"][-1]["content"]
    words = _steered(text, "words", 100)
    delay = _steered(text, "delay_ms", 20) / 1000
    usage = {"prompt_tokens": len(raw) // 4, "completion_tokens": words, "total_tokens": 0}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "stub"}
    if not asked.get("stream"):
        content = " ".join(f"w{n}" for n in range(words))
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({**head, "choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    due = time.perf_counter()
    for n in range(words):
        if n and delay:
            due += delay
            await asyncio.sleep(max(0, due - time.perf_counter()))
        # The time of sending travels in the word itself, so that a reader can tell the delay.
        word = f"w{n}@{time.perf_counter_ns()} " if "stamp" in text else f"w{n} "
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        await response.write(
            b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"
        )
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await response.write(
        b"data: " + json.dumps({**head, "choices": [last], "usage": usage}).encode() + b"\n\n"
    )
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model"}]})


async def stats(request: web.Request) -> web.Response:
    told = dict(request.app[STATS])
    if request.query.get("reset"):
        request.app[STATS].update(calls=0, bytes=0)
    return web.json_response(told)


def make_app() -> web.Application:
    app = web.Application()
    app[STATS] = {"calls": 0, "bytes": 0, "last": None}
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/stats", stats)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    web.run_app(make_app(), host="127.0.0.1", port=parser.parse_args().port, print=None)


if __name__ == "__main__":
    main()
