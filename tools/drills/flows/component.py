"""The one component of the drills' flow. It runs inside Langflow and needs no model.

Its input is a token, which it echoes, and what to do besides: `sleep=SECONDS`, `pieces=COUNT` (a stream of `seq=1`,
`seq=2` and so on, one every quarter of a second), `error=1`. Each execution is told to a counter outside of Langflow
first; the answer names how often that counter has seen the token.
"""

import asyncio
import http.client
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from langflow.custom import Component
from langflow.io import MessageTextInput, Output
from langflow.schema.message import Message


class Piece:
    """What a language model would send: a piece of text with an attribute `content`."""

    def __init__(self, content: str) -> None:
        self.content = content


class DrillWork(Component):
    display_name = "Drill Work"
    description = "Echoes a token, sleeps, streams, fails: as its input says."
    name = "DrillWork"
    inputs = [
        MessageTextInput(name="input_value", display_name="Input"),
        MessageTextInput(name="counter", display_name="Counter", value=""),
    ]
    outputs = [Output(display_name="Message", name="message", method="work")]

    def _count(self, token: str) -> int:
        if not self.counter:
            return 1
        where = urlsplit(self.counter)
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=20)
        try:
            connection.request("POST", f"{where.path}/{token}")
            return int(connection.getresponse().read())
        finally:
            connection.close()

    async def _pieces(self, wanted: int, text: str) -> AsyncIterator[Piece]:
        for number in range(1, wanted + 1):
            await asyncio.sleep(0.25)
            yield Piece(f"seq={number} ")
        yield Piece(text)

    async def work(self) -> Message:
        token, *rest = str(self.input_value).split()
        order = dict(word.split("=", 1) for word in rest if "=" in word)
        executions = await asyncio.to_thread(self._count, token)
        if "error" in order:
            raise ValueError(f"{token} asked for an error")
        if "sleep" in order:
            await asyncio.sleep(float(order["sleep"]))
        text = f"{token} executions={executions}"
        if "pieces" in order:
            return Message(text=self._pieces(int(order["pieces"]), text))
        return Message(text=text)
