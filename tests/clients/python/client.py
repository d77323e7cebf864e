"""python-socketio, an implementation of its own: subscribe, publish, receive, ack, over each transport.

Prints one line for each check, and exits with 1 when one failed or nobody was connected.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
import time

import socketio

URL = os.environ["SIDECAR_URL"]
ADA = "00000000-0000-4000-8000-00000000ada1"
GRACE = "00000000-0000-4000-8000-0000009ace01"
# How long something may take that must happen. Long: only a failure uses it up.
PATIENCE_S = 30

connections = 0


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(sub: str) -> str:
    claims = {"sub": sub, "role": "authenticated", "exp": int(time.time()) + 3600}
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = ".".join(encode(json.dumps(part).encode()) for part in parts)
    tag = hmac.digest(os.environ["JWT_SECRET"].encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{encode(tag)}"


class Person:
    """A connected user, and what they hear."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.heard: asyncio.Queue = asyncio.Queue()
        self.socket.on("*", lambda event, *data: self.heard.put_nowait((event, *data)))

    async def enter(self, auth: dict, transports: list[str] | None) -> "Person":
        global connections
        await self.socket.connect(URL, auth=auth, transports=transports, wait_timeout=PATIENCE_S)
        assert self.socket.connected and self.socket.get_sid()
        connections += 1
        return self

    async def join(self, channel: str) -> dict:
        return await self.socket.call("realtime:subscribe", {"channel": channel}, timeout=PATIENCE_S)

    async def say(self, channel: str, event: str, payload: dict) -> None:
        await self.socket.emit("realtime:publish", {"channel": channel, "event": event, "payload": payload})

    async def next(self, event: str) -> dict:
        """The next message of this name; others are passed over."""
        while True:
            name, message = await asyncio.wait_for(self.heard.get(), PATIENCE_S)
            if name == event:
                return message


async def a_conversation(transports: list[str] | None) -> None:
    # One for each transport: who has just left another may still be counted there.
    channel = f"chat:python-{'-'.join(transports or ['defaults'])}"
    ada = await Person().enter({"token": token(ADA)}, transports)
    grace = await Person().enter({"token": token(GRACE)}, transports)
    if transports is None:
        assert ada.socket.transport() == "websocket", "it was upgraded"
    assert (await ada.join(channel))["ok"] is True
    answer = await grace.join(channel)
    assert {member["presenceId"] for member in answer["presence"]["members"]} == {ADA, GRACE}
    assert (await ada.next("presence:join"))["member"]["presenceId"] == GRACE
    refused = await ada.join("order:2")
    assert (refused["ok"], refused["error"]["code"]) == (False, "UNAUTHORIZED"), refused
    for number in range(20):
        await ada.say(channel, "n", {"n": number, "text": "ü€😀"})
    for person in (ada, grace):
        for number in range(20):
            message = await person.next("n")
            assert (message["n"], message["text"], message["meta"]["senderId"]) == (number, "ü€😀", ADA), message
    await ada.say("chat:elsewhere", "n", {})
    assert (await ada.next("realtime:error"))["code"] == "NOT_SUBSCRIBED"
    await ada.socket.disconnect()
    assert (await grace.next("presence:leave"))["member"]["presenceId"] == ADA
    await grace.socket.disconnect()


async def a_refusal(transports: list[str] | None) -> None:
    mallory = Person()
    try:
        await mallory.enter({"token": "not.a.token"}, transports)
    except socketio.exceptions.ConnectionError:
        await mallory.socket.shutdown()
        return
    raise AssertionError("it was let in")


async def main() -> int:
    failed = 0
    for name, transports in {"defaults": None, "polling": ["polling"], "websocket": ["websocket"]}.items():
        for work in (a_conversation, a_refusal):
            title = f"{work.__name__.replace('_', ' ')}, {name}"
            try:
                await work(transports)
                print(f"ok {title}", flush=True)
            except Exception as error:  # Whatever it is, it is a failed check.
                failed += 1
                print(f"not ok {title}\n    {error!r}", flush=True)
    if connections == 0:
        print("not ok somebody was connected")
    return 1 if failed or connections == 0 else 0


sys.exit(asyncio.run(main()))
