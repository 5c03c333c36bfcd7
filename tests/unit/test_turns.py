"""What holds up the event loop of the API: crowds, full collections, large descriptions."""

import asyncio
import gc
import json

from starlette.types import Receive, Scope, Send

from api.app import create_app, start_kept_out_of_collections
from api.http.turns import Turns
from shared.settings import Settings

CROWD = 50


async def _nothing() -> dict[str, str]:
    raise AssertionError


async def _nowhere(_message: object) -> None:
    raise AssertionError


def test_one_request_of_a_crowd_begins_per_turn_of_the_loop_and_a_probe_at_once() -> None:
    begun: list[tuple[int, str]] = []
    turn = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append((turn, scope["path"]))

    async def scenario() -> None:
        nonlocal turn
        turns = Turns(app)
        paths = [f"/{number}" for number in range(CROWD)]
        asked = [
            asyncio.create_task(turns({"type": "http", "path": path}, _nothing, _nowhere))
            for path in [*paths, "/healthz"]
        ]
        await asyncio.sleep(0)
        asked[3].cancel()
        while not all(one.done() for one in asked):
            turn += 1
            await asyncio.sleep(0)
        # afterwards a single request does not wait
        alone = asyncio.create_task(turns({"type": "http", "path": "/z"}, _nothing, _nowhere))
        turn += 1
        await asyncio.sleep(0)
        assert alone.done()

    asyncio.run(scenario())
    first = begun[0][0]
    assert (first, "/healthz") in begun
    crowd = [one for one in begun if one[1] not in ("/healthz", "/z")]
    assert [path for _, path in crowd] == [f"/{n}" for n in range(CROWD) if n != 3]
    assert len({when for when, _ in crowd}) == len(crowd), "each in a turn of its own"


def test_the_collector_does_not_examine_again_what_the_start_created() -> None:
    with start_kept_out_of_collections():
        assert gc.get_freeze_count() > 20 * len(gc.get_objects())
    assert gc.get_freeze_count() == 0


def test_the_description_of_the_api_is_made_once() -> None:
    app = create_app(Settings())
    assert app.openapi() is app.openapi()
    first = json.dumps(app.openapi())
    assert json.dumps(create_app(Settings()).openapi()) == first
