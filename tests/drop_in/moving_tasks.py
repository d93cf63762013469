"""Tasks of a fleet of which one part has Celery's own backend; each body notes that it ran."""

from __future__ import annotations

from celery import current_app, shared_task

from tests.drop_in.work import log


@shared_task
def give(value):
    return value


@shared_task
def plus(value, other):
    return value + other


@shared_task
def wrong(value):
    raise ValueError(f"{value} is wrong")


@shared_task(ignore_result=True)
def unkept(value):
    return value


@shared_task(bind=True)
def growing(self, value, by):
    """Add a task to the chord that this is a part of."""
    self.add_to_chord(current_app.signature(by))
    return value


@shared_task
def body(values, path):
    """The sum of all that is in the values, however they are nested."""
    log(path, "body")
    return _sum(values)


@shared_task
def listed(values, path):
    """The values themselves."""
    log(path, "body")
    return values


@shared_task
def errback(request, exc, traceback, path):
    log(path, "errback")


def _sum(values):
    return sum(_sum(each) if isinstance(each, list | tuple) else each for each in values)
