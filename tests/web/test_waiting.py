"""One at a time, in order, not too many."""

import asyncio

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.web.settings import Limits, Settings
from singdiffusion.web.studio import Result, Studio
from singdiffusion.web.waiting import Progress, WaitingRoom

PROMPT = "solid black background"


async def paint(room, done, name, **settings):
    news = [each async for each in room.paint(Settings(**({"prompt": PROMPT, "num_inference_steps": 2} | settings)))]
    done.append(name)
    return news


def test_the_last_answer_is_the_picture(studio):
    news = asyncio.run(paint(WaitingRoom(lambda: studio), [], "a", num_inference_steps=30))
    *progress, result = news
    assert isinstance(result, Result)
    assert progress
    assert all(isinstance(each, Progress) for each in progress)
    steps = [(each.part == "on", each.step) for each in progress if each.part]
    assert steps == sorted(steps)


def test_in_the_order_of_asking(studio):
    async def main():
        room, done = WaitingRoom(lambda: studio), []
        news = await asyncio.gather(*(paint(room, done, i, num_inference_steps=8) for i in range(4)))
        return done, news

    done, news = asyncio.run(main())
    assert done == [0, 1, 2, 3]
    assert news[3][0] == Progress(ahead=3)
    ahead = [each.ahead for each in news[3][:-1]]
    assert ahead == sorted(ahead, reverse=True)


def test_too_many_requests_are_refused_at_once_and_those_who_wait_lose_nothing(make_pipe):
    studio = Studio("x", make_pipe(), limits=Limits(waiting=2))

    async def main():
        room, done = WaitingRoom(lambda: studio), []
        work = [asyncio.create_task(paint(room, done, i, num_inference_steps=10)) for i in range(6)]
        return await asyncio.gather(*work, return_exceptions=True)

    found = asyncio.run(main())
    assert all(isinstance(each[-1], Result) for each in found[:3])  # one is painted, two wait
    for each in found[3:]:
        assert isinstance(each, SingDiffusionError)
        assert str(each) == "busy: a picture is being painted and 2 more wait; try again in a while"


def test_whoever_leaves_makes_room(studio):
    async def main():
        room, done = WaitingRoom(lambda: studio), []
        first = room.paint(Settings(prompt=PROMPT, num_inference_steps=150))
        await anext(first)
        second = asyncio.create_task(paint(room, done, "second"))
        await asyncio.sleep(0.3)
        assert not done
        await first.aclose()
        await asyncio.wait_for(second, 5)
        assert not room._tickets

    asyncio.run(main())


def test_a_bad_request_does_not_wait(studio):
    with pytest.raises(SingDiffusionError, match="unknown scheduler 'foo'"):
        asyncio.run(paint(WaitingRoom(lambda: studio), [], "a", scheduler="foo"))
