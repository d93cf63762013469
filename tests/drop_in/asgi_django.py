"""A Django project of one file, whose async views send tasks to a Celery app and await their results."""

from __future__ import annotations

import asyncio
import json

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished, request_started
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

import settled
from settled.integrations.celery import handle
from tests.drop_in.work import add, fail, gated, total

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of no use here")
django.setup()


async def one(request):
    x, y = int(request.GET["x"]), int(request.GET["y"])
    return JsonResponse({"value": await handle(add.delay(x, y))})


async def many(request):
    sent = [handle(add.delay(n, n)) for n in range(int(request.GET["count"]))]
    return JsonResponse({"value": await settled.gather(*sent)})


async def stream(request):
    gate, count = request.GET["gate"], int(request.GET["count"])

    async def lines():
        sent = [handle(gated.delay(gate, "late")), *(handle(add.delay(n, n)) for n in range(count))]
        async for each in settled.as_completed(sent):
            yield json.dumps(await each) + "\n"

    return StreamingHttpResponse(lines())


async def failing(request):
    try:
        return JsonResponse({"value": await handle(fail.delay("as the task has it"))})
    except ValueError as exc:
        return JsonResponse({"error": str(exc), "cause": str(exc.__cause__)}, status=409)


async def parked(request):
    return JsonResponse({"value": await handle(total.delay([int(request.GET["number"])]))})


async def late(request):
    try:
        async with asyncio.timeout(float(request.GET["timeout"])):
            return JsonResponse({"value": await handle(total.delay([1]))})
    except TimeoutError:
        return JsonResponse({"error": "not yet"}, status=504)


async def watch(request):
    async def lines():
        yield "waiting\n"
        async for each in settled.as_completed([handle(total.delay([n])) for n in range(3)]):
            yield json.dumps(await each) + "\n"

    return StreamingHttpResponse(lines())


async def send(request):
    return JsonResponse({"sent": [total.delay([n]).id for n in range(int(request.GET["count"]))]})


urlpatterns = [
    path("add", one),
    path("gather", many),
    path("stream", stream),
    path("fail", failing),
    path("parked", parked),
    path("late", late),
    path("watch", watch),
    path("send", send),
]

app = get_asgi_application()

# Django gives each request a thread, in which these close connections to databases. There are none here.
for signal in (request_started, request_finished):
    signal.receivers.clear()
    signal.sender_receivers_cache.clear()
