"""A plain proxy as one writes it with aiohttp, server and client, on uvloop as weldr is: the peer in Python."""

from __future__ import annotations

import argparse
import asyncio

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = ("Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding", "TE", "Trailer")
_CHUNK_BYTES = 64 * 1024
_IDLE_S = 600.0


class Proxy:
    """Forwards everything to one origin."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._client: aiohttp.ClientSession

    async def start(self) -> None:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        async with self._client.request(
            request.method,
            self._origin + request.raw_path,
            headers=_forwarded(request.headers),
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=_forwarded(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _websocket(self, request: web.BaseRequest) -> web.StreamResponse:
        mine = web.WebSocketResponse(compress=False)
        await mine.prepare(request)
        async with self._client.ws_connect(self._origin + request.raw_path, compress=0) as theirs:
            pumps = [asyncio.create_task(_pump(mine, theirs)), asyncio.create_task(_pump(theirs, mine))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await mine.close()
        return mine


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, sink: _Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)


def _forwarded(fields: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(fields)
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    return kept


async def _serve(port: int, origin: str) -> None:
    proxy = Proxy(origin)
    await proxy.start()
    runner = web.ServerRunner(web.Server(proxy.handle, access_log=None, keepalive_timeout=_IDLE_S))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("origin")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.origin))
