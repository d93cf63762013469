"""A FastAPI app that sends tasks to a Celery app and awaits their results. See `asgi_django`: the same, in Django."""

from __future__ import annotations

import asyncio
import json

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

import settled
from settled.integrations.celery import handle
from tests.drop_in.work import add, fail, gated, total

app = FastAPI()


@app.get("/add")
async def one(x: int, y: int):
    return {"value": await handle(add.delay(x, y))}


@app.get("/gather")
async def many(count: int):
    return {"value": await settled.gather(*(handle(add.delay(n, n)) for n in range(count)))}


@app.get("/stream")
async def stream(gate: str, count: int):
    """The first one sent is not ready before the file `gate` is there."""

    async def lines():
        sent = [handle(gated.delay(gate, "late")), *(handle(add.delay(n, n)) for n in range(count))]
        async for each in settled.as_completed(sent):
            yield json.dumps(await each) + "\n"

    return StreamingResponse(lines())


@app.get("/fail")
async def failing():
    return await handle(fail.delay("as the task has it"))


@app.exception_handler(ValueError)
async def tell(request, exc):
    return JSONResponse({"error": str(exc), "cause": str(exc.__cause__)}, status_code=409)


# -- what nobody runs before the test says so ------------------------------------------------------


@app.get("/parked")
async def parked(number: int):
    return {"value": await handle(total.delay([number]))}


@app.get("/late")
async def late(timeout: float):
    try:
        async with asyncio.timeout(timeout):
            return {"value": await handle(total.delay([1]))}
    except TimeoutError:
        return JSONResponse({"error": "not yet"}, status_code=504)


@app.get("/watch")
async def watch():
    async def lines():
        yield "waiting\n"
        async for each in settled.as_completed([handle(total.delay([n])) for n in range(3)]):
            yield json.dumps(await each) + "\n"

    return StreamingResponse(lines())


@app.get("/send")
async def send(count: int):
    return {"sent": [total.delay([n]).id for n in range(count)]}
