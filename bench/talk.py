"""What a turn costs: time before the first token, CPU, model calls, tokens a second, many watchers."""

import asyncio
import json
import statistics
import time
from pathlib import Path

import aiohttp

from bench.harness import (
    Row,
    Served,
    add_person,
    directly,
    quantile,
    served,
    signed_in,
    spread,
    stub_model,
    through,
)

SHORT = "words=32 delay_ms=20 hello"
LONG = "words=100 delay_ms=20 hello"


async def first_token(server: Served, stub: str, pairs: int) -> Row:
    """Added time before the first token, one client, in interleaved pairs."""
    prompt = "words=3 delay_ms=0 hello"
    direct, added = [], []
    async with signed_in(server) as http, aiohttp.ClientSession() as bare:
        for n in range(pairs + 10):
            one = await directly(bare, stub, prompt)
            two = await through(http, server, prompt)
            if n >= 10:
                direct.append(one.first_s * 1000)
                added.append((two.first_s - one.first_s) * 1000)
    p50, p99 = statistics.median(added), quantile(added, 0.99)
    return Row(
        "added before the first token, 1 client, p50 / p99",
        f"{p50:.1f} / {p99:.1f} ms",
        "10 / 40 ms",
        "5 / 20 ms",
        p50 <= 10 and p99 <= 40,
        {"pairs": pairs, "direct_p50_ms": statistics.median(direct), "added_ms": spread(added)},
    )


async def first_token_crowd(server: Served, stub: str, rounds: int) -> Row:
    """The same with 20 clients that start together."""
    added = []
    async with (
        signed_in(server) as http,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as bare,
    ):
        for n in range(rounds + 1):
            ones = await asyncio.gather(*(directly(bare, stub, SHORT) for _ in range(20)))
            twos = await asyncio.gather(*(through(http, server, SHORT) for _ in range(20)))
            if n:
                base = statistics.median(one.first_s for one in ones)
                added.append((statistics.median(two.first_s for two in twos) - base) * 1000)
    p50 = statistics.median(added)
    return Row(
        "added before the first token, 20 clients together, p50",
        f"{p50:.1f} ms",
        "60 ms",
        "20 ms",
        p50 <= 60,
        {"rounds": rounds, "added_ms": spread(added)},
    )


async def cpu(server: Served, answers: int, pace_ms: int) -> Row:
    """CPU of the server for a short answer of 32 tokens, in conversations of ten turns."""
    prompt = f"words=32 delay_ms={pace_ms} hello"
    async with signed_in(server) as http:
        await _talk(http, server, prompt, 10)
        costs = []
        for _ in range(5):
            before = server.cpu_s()
            await _talk(http, server, prompt, answers // 5)
            costs.append((server.cpu_s() - before) / (answers // 5) * 1000)
    cost = statistics.median(costs)
    how = "all tokens at once" if pace_ms == 0 else f"{pace_ms} ms a token"
    return Row(
        f"CPU of the server per answer of 32 tokens, {how}",
        f"{cost:.1f} ms",
        "12 ms",
        "6 ms",
        cost <= 12,
        {"answers": answers, "ms": spread(costs)},
    )


async def _talk(http: aiohttp.ClientSession, server: Served, prompt: str, turns: int) -> None:
    """Turns in titled conversations of ten, so that naming them is not measured."""
    conversation = None
    for n in range(turns):
        if n % 10 == 0:
            url = f"{server.url}/api/v1/conversations"
            async with http.post(url, json={"title": "bench"}) as answered:
                conversation = (await answered.json())["id"]
        await through(http, server, prompt, conversation)


async def asked_of_the_model(server: Served, stub: str) -> Row:
    """Calls and bytes that we add to a plain question, until its answer is out."""
    question = "words=5 delay_ms=0 hi"
    async with signed_in(server) as http, aiohttp.ClientSession() as bare:
        await asyncio.sleep(3)  # what earlier turns left to do in idle time is over
        await (await bare.get(f"{stub}/stats?reset=1")).read()
        await through(http, server, question)
        told = await (await bare.get(f"{stub}/stats")).json()
    extra = told["bytes"] - len(question.encode())
    return Row(
        "model calls before the answer is out; prompt bytes added",
        f"{told['calls']}; {extra} B",
        "1; 2048 B",
        "1; 1024 B",
        told["calls"] == 1 and extra <= 2048,
    )


async def throughput(server: Served, stub: str, clients: int, rounds: int) -> Row:
    """Tokens a second through monGARS ÷ directly, in interleaved pairs."""
    ratios = []
    async with (
        signed_in(server) as http,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as bare,
    ):
        for _ in range(rounds):
            rates = []
            for ask in ("direct", "through"):
                began = time.perf_counter()
                if ask == "direct":
                    got = await asyncio.gather(
                        *(directly(bare, stub, LONG) for _ in range(clients))
                    )
                else:
                    got = await asyncio.gather(
                        *(through(http, server, LONG) for _ in range(clients))
                    )
                rates.append(sum(one.tokens for one in got) / (time.perf_counter() - began))
            ratios.append(rates[1] / rates[0])
    ratio = statistics.median(ratios)
    return Row(
        f"tokens a second through ÷ directly, {clients} client{'s' if clients > 1 else ''}",
        f"{ratio:.3f}",
        "0.95",
        "0.99",
        ratio >= 0.95,
        {"ratio": spread(ratios, digits=3)},
    )


async def _watch(
    http: aiohttp.ClientSession, server: Served, turn: str, delays: list[float]
) -> None:
    ticket = (await (await http.post(f"{server.url}/api/v1/ws/ticket")).json())["ticket"]
    async with http.ws_connect(f"{server.url}/api/v1/ws/chat?ticket={ticket}") as socket:
        await socket.send_json({"type": "resume", "turn_id": turn, "after": 0})
        attached = time.perf_counter_ns()
        async for frame in socket:
            arrived = time.perf_counter_ns()
            event = json.loads(frame.data)
            if event["type"] == "delta":
                sent = [int(word.partition("@")[2]) for word in event["text"].split()]
                # Words from before this socket listened tell nothing about the delay.
                delays += [(arrived - at) / 1e6 for at in sent if at > attached]
            elif event["type"] in ("done", "failed"):
                assert event["type"] == "done", event
                return


async def watchers(server: Served, turns: int, sockets: int) -> Row:
    """Turns at 10 events/s, each watched by sockets: from the model's word to each socket."""
    delays: list[float] = []
    async with signed_in(server) as http:
        answers, watching = [], []
        for n in range(turns):
            prompt = f"words=100 delay_ms=100 stamp {n}"
            headers = {"accept": "text/event-stream"}
            answer = await http.post(
                f"{server.url}/api/v1/chat", json={"message": prompt}, headers=headers
            )
            turn = ""
            async for line in answer.content:
                if line.startswith(b"data: "):
                    turn = json.loads(line[6:])["turn_id"]
                    break
            answer.close()  # leaving does not stop the turn
            answers.append(turn)
            watching += [
                asyncio.create_task(_watch(http, server, turn, delays)) for _ in range(sockets)
            ]
        await asyncio.gather(*watching)
    p50, p99 = statistics.median(delays), quantile(delays, 0.99)
    return Row(
        f"{turns} turns at 10 events/s, {sockets} sockets each: p99 delay",
        f"{p99:.0f} ms",
        "250 ms",
        "100 ms",
        p99 <= 250,
        {"p50_ms": p50, "events": len(delays)},
    )


def run(workspace: Path, quick: bool) -> list[Row]:
    """Every row about talking."""
    rows: list[Row] = []
    with (
        stub_model() as stub,
        served(
            workspace / "talk",
            LLM__BACKEND="openai",
            LLM__URL=f"{stub}/v1",
            LLM__MODEL="stub",
            LLM__SEATS="256",
        ) as server,
    ):
        add_person(server.data_dir)

        async def all_rows() -> None:
            rows.append(await asked_of_the_model(server, stub))
            rows.append(await first_token(server, stub, 40 if quick else 300))
            rows.append(await first_token_crowd(server, stub, 2 if quick else 7))
            rows.append(await cpu(server, 50 if quick else 200, 0))
            rows.append(await cpu(server, 20 if quick else 50, 20))
            rows.append(await throughput(server, stub, 1, 2 if quick else 5))
            rows.append(await throughput(server, stub, 20, 2 if quick else 5))
            rows.append(await watchers(server, 20 if quick else 100, 5))

        asyncio.run(all_rows())
    return rows
