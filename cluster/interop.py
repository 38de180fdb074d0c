"""Runs other people's clients against a node and compares the IDs they receive; see interop.

Every client listens from the beginning of history until it has all events: the first half is there
when it connects (replay), the second is published once all listen (live). The order that the first
client (curl over HTTP/1.1) sees is the order for all.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

PATH = "/api/v1/sse/cameras?last_event_id=0-0"
SOCKET_PATH = "/ws?channel=cameras&last_event_id=0-0"
PATIENCE = 40
ID_LINE = re.compile(rb"^id: (\d+-\d+)\n", re.MULTILINE)


class Skipped(Exception):
    """The client is not installed here."""


def needs_program(name, package):
    path = shutil.which(name)
    if path is None:
        raise Skipped(f"no {name}; Debian's {package} has it")
    return path


def needs_module(name, package):
    if importlib.util.find_spec(name) is None:
        raise Skipped(f"no module {name}; PyPI's {package} has it")


# --- programs that print the stream ---


async def printed_ids(command, wanted):
    """The IDs in what `command` prints, until there are as many as wanted."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    received = b""
    try:
        while len(ID_LINE.findall(received)) < wanted:
            part = await process.stdout.read(1 << 16)
            if not part:
                raise RuntimeError(f"ended with {len(ID_LINE.findall(received))} events")
            received += part
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return [match.decode() for match in ID_LINE.findall(received)]


def curl(base, *options):
    async def run(wanted):
        path = needs_program("curl", "curl")
        return await printed_ids([path, "-sNk", *options, base + PATH], wanted)

    return run


def nghttp(base):
    async def run(wanted):
        path = needs_program("nghttp", "nghttp2-client")
        # Into a pipe nghttp prints only what fills its buffer.
        command = ["stdbuf", "-o0", path, "--no-verify-peer", base + PATH]
        return await printed_ids(command, wanted)

    return run


def h2load(base, streams):
    """h2load counts and prints nothing of what it receives: its bytes are compared."""

    async def run(wanted, whole):
        path = needs_program("h2load", "nghttp2-client")
        count = streams * 5
        process = await asyncio.create_subprocess_exec(
            path, "-c1", f"-m{count}", f"-n{count}", "-T15s", "-N15s", base + PATH,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        text = (await process.communicate())[0].decode()
        found = re.search(r"traffic: .* total, .* headers .*, \S+ \((\d+)\) data", text)
        if found is None:
            raise RuntimeError(f"h2load prints no traffic: {text[-300:]!r}")
        # Beside the events a stream has a retry line and perhaps heartbeats, of other lengths.
        surplus = int(found[1]) - count * whole
        if not 0 <= surplus <= count * 64:
            raise RuntimeError(f"{found[1]} bytes over {count} streams, events are {whole} each")
        return count

    return run


# --- Python's clients ---


def in_thread(body):
    async def run(wanted):
        return await asyncio.to_thread(body, wanted)

    return run


def sseclient(base):
    def body(wanted):
        needs_module("sseclient", "sseclient-py")
        needs_module("requests", "requests")
        import requests
        import sseclient

        # What is read as it comes is not decompressed.
        plain = {"Accept-Encoding": "identity"}
        with requests.get(
            base + PATH, stream=True, timeout=PATIENCE, headers=plain
        ) as response:
            response.raise_for_status()
            # By itself requests waits until 128 bytes are there, so the last event would come late.
            parts = iter(response.raw.read1, b"")
            ids = []
            for event in sseclient.SSEClient(parts).events():
                ids.append(event.id)
                if len(ids) == wanted:
                    return ids
        raise RuntimeError(f"ended with {len(ids)} events")

    return in_thread(body)


def httpx_sse(base, http2):
    async def run(wanted):
        needs_module("httpx_sse", "httpx-sse")
        if http2:
            needs_module("h2", "httpx[http2]")
        import httpx
        import httpx_sse as sse

        ids = []
        async with httpx.AsyncClient(http2=http2, verify=False, timeout=PATIENCE) as client:
            async with sse.aconnect_sse(client, "GET", base + PATH) as source:
                version = source.response.http_version
                if (version == "HTTP/2") != http2:
                    raise RuntimeError(f"speaks {version}")
                async for event in source.aiter_sse():
                    ids.append(event.id)
                    if len(ids) == wanted:
                        return ids
        raise RuntimeError(f"ended with {len(ids)} events")

    return run


def aiohttp_stream(base):
    async def run(wanted):
        needs_module("aiohttp", "aiohttp")
        import aiohttp

        received = b""
        async with aiohttp.ClientSession() as session:
            async with session.get(base + PATH) as response:
                async for part in response.content.iter_any():
                    received += part
                    ids = ID_LINE.findall(received)
                    if len(ids) >= wanted:
                        return [value.decode() for value in ids]
        raise RuntimeError("ended")

    return run


def aiohttp_socket(base, window):
    async def run(wanted):
        needs_module("aiohttp", "aiohttp")
        import aiohttp

        ids = []
        async with aiohttp.ClientSession() as session:
            url = base.replace("http", "ws", 1) + SOCKET_PATH
            async with session.ws_connect(url, compress=window, ssl=False) as socket:
                if bool(socket.compress) != bool(window):
                    raise RuntimeError(f"agreed on compression {socket.compress}")
                async for message in socket:
                    value = json.loads(message.data)
                    if "type" not in value:
                        ids.append(value["id"])
                    if len(ids) == wanted:
                        return ids
        raise RuntimeError(f"ended with {len(ids)} events")

    return run


# --- Chromium ---

STREAMS_SCRIPT = """new Promise((resolve, reject) => {
  const all = [];
  for (let number = 0; number < STREAMS; number++) {
    const ids = [];
    all.push(ids);
    const source = new EventSource("PATH");
    source.addEventListener("camera_update", (event) => {
      ids.push(event.lastEventId);
      if (all.every((each) => each.length >= WANTED)) resolve(JSON.stringify(all));
    });
    source.onmessage = (event) => reject(new Error("an event without a name"));
  }
})"""

SOCKET_SCRIPT = """new Promise((resolve, reject) => {
  const ids = [];
  const socket = new WebSocket(location.origin.replace("http", "ws") + "PATH");
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === undefined) ids.push(message.id);
    if (ids.length >= WANTED) resolve(JSON.stringify([socket.extensions, ids]));
  };
  socket.onclose = (event) => reject(new Error("closed with " + event.code));
})"""


class Browser:
    """A headless Chromium with one page, driven over its debugging protocol."""

    def __init__(self, page):
        self.page = page

    async def __aenter__(self):
        path = needs_program("chromium", "chromium")
        needs_module("aiohttp", "aiohttp")
        import aiohttp

        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # No sandbox: Chromium refuses to have one as root, and the page is ours.
        self.process = await asyncio.create_subprocess_exec(
            path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--ignore-certificate-errors", "--remote-debugging-port=0", "--no-first-run",
            f"--user-data-dir={self.profile.name}", "about:blank",
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        while True:
            line = (await self.process.stderr.readline()).decode()
            if not line:
                raise RuntimeError("chromium does not start")
            if found := re.search(r"DevTools listening on ws://([^/]+)/", line):
                break
        self.drain = asyncio.create_task(self.process.stderr.read())
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://{found[1]}/json/list") as response:
            targets = await response.json()
        target = next(each for each in targets if each["type"] == "page")
        self.socket = await self.session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=1 << 26
        )
        self.number = 0
        await self.call("Page.navigate", url=self.page)
        while await self.evaluate("location.origin + document.readyState") != (
            self.page.rsplit("/", 1)[0] + "complete"
        ):
            await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_):
        await self.socket.close()
        await self.session.close()
        self.process.kill()
        await self.process.wait()
        self.drain.cancel()
        self.profile.cleanup()

    async def call(self, method, **parameters):
        self.number += 1
        await self.socket.send_json(
            {"id": self.number, "method": method, "params": parameters}
        )
        async for message in self.socket:
            answer = json.loads(message.data)
            if answer.get("id") == self.number:
                return answer["result"]
        raise RuntimeError("chromium has ended")

    async def evaluate(self, script):
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["result"].get("description")))
        return answer["result"]["value"]


def chromium_streams(base, streams):
    async def run(wanted):
        async with Browser(base + "/healthz") as browser:
            spoken = await browser.evaluate(
                "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            )
            if spoken != "h2":
                raise RuntimeError(f"the page came over {spoken}")
            script = STREAMS_SCRIPT.replace("STREAMS", str(streams)).replace("PATH", PATH)
            found = json.loads(await browser.evaluate(script.replace("WANTED", str(wanted))))
        if any(ids != found[0] for ids in found):
            raise RuntimeError("the streams of the page differ")
        return found[0]

    return run


def chromium_socket(base):
    async def run(wanted):
        async with Browser(base + "/healthz") as browser:
            script = SOCKET_SCRIPT.replace("PATH", SOCKET_PATH).replace("WANTED", str(wanted))
            extensions, ids = json.loads(await browser.evaluate(script))
        if "permessage-deflate" not in extensions:
            raise RuntimeError(f"agreed on the extensions {extensions!r}")
        return ids

    return run


# --- the run ---


def publish(options, first, count):
    lines = "".join(
        json.dumps({
            "camera_id": f"cam{number % 20}", "event_type": "camera_update", "number": number,
            "note": "the same words in every event, so that there is something to compress",
        }) + "\n"
        for number in range(first, first + count)
    )
    subprocess.run(
        [options.binary, "publish", "--topic", "its.camera.events", "--bootstrap-servers",
         options.bootstrap, "--key-field", "camera_id"],
        input=lines.encode(), capture_output=True, check=True,
    )


def subscribers(options):
    with urllib.request.urlopen(options.node + "/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("rivulet_subscribers{"))


def clients(options):
    node, balancer, tls, streams = (
        options.node, options.balancer, options.tls, options.streams
    )
    return [
        ("curl --http1.1", "HTTP/1.1", 1, curl(node, "--http1.1")),
        ("curl --http1.1 --compressed", "HTTP/1.1 gzip", 1,
         curl(node, "--http1.1", "--compressed")),
        ("curl --http1.1", "HTTP/1.1 TLS", 1, curl(tls, "--http1.1")),
        ("curl --http2-prior-knowledge", "HTTP/2", 1, curl(node, "--http2-prior-knowledge")),
        ("curl --http2", "HTTP/2 TLS", 1, curl(tls, "--http2")),
        ("curl --http1.1", "HTTP/1.1 balancer", 1, curl(balancer, "--http1.1")),
        ("curl --http2-prior-knowledge", "HTTP/2 balancer", 1,
         curl(balancer, "--http2-prior-knowledge")),
        ("nghttp", "HTTP/2", 1, nghttp(node)),
        ("nghttp", "HTTP/2 TLS", 1, nghttp(tls)),
        ("sseclient-py", "HTTP/1.1", 1, sseclient(node)),
        ("httpx-sse", "HTTP/1.1", 1, httpx_sse(node, False)),
        ("httpx-sse", "HTTP/2 TLS", 1, httpx_sse(tls, True)),
        ("aiohttp", "HTTP/1.1", 1, aiohttp_stream(node)),
        ("aiohttp", "WebSocket", 1, aiohttp_socket(node, 0)),
        ("aiohttp", "WebSocket deflate", 1, aiohttp_socket(node, 15)),
        ("aiohttp, window of 9 bits", "WebSocket deflate", 1, aiohttp_socket(node, 9)),
        ("aiohttp", "WebSocket balancer", 1, aiohttp_socket(balancer, 15)),
        (f"chromium, {streams} EventSources", "HTTP/2 TLS", streams,
         chromium_streams(tls, streams)),
        ("chromium WebSocket", "WebSocket TLS deflate", 1, chromium_socket(tls)),
    ]


async def outcome(run, *arguments):
    try:
        return await asyncio.wait_for(run(*arguments), PATIENCE)
    except Skipped as reason:
        return reason
    except Exception as error:  # One client's fault is a line of the table, whatever it is.
        return RuntimeError(f"{type(error).__name__}: {error}".strip(": "))


async def run(options):
    half = options.events // 2
    await asyncio.to_thread(publish, options, 0, half)
    table = clients(options)
    tasks = [asyncio.create_task(outcome(each[3], options.events)) for each in table]
    # The second half comes once all that can listen do: what has ended by now never will.
    deadline = time.monotonic() + PATIENCE / 2
    while time.monotonic() < deadline:
        listening = sum(each[2] for each, task in zip(table, tasks) if not task.done())
        if await asyncio.to_thread(subscribers, options) >= listening:
            break
        await asyncio.sleep(0.1)
    await asyncio.to_thread(publish, options, half, options.events - half)
    results = await asyncio.gather(*tasks)
    rows = []
    expected = results[0] if isinstance(results[0], list) else None
    for (name, protocol, streams, _), result in zip(table, results):
        rows.append(row(name, protocol, streams, result, expected))
    with urllib.request.urlopen(options.node + PATH, timeout=30) as response:
        whole = b""
        while len(found := list(ID_LINE.finditer(whole))) < options.events or (
            whole.find(b"\n\n", found[-1].end()) < 0
        ):
            whole += response.read1(1 << 16)
    end = whole.index(b"\n\n", found[-1].end()) + 2
    counted = await outcome(
        h2load(options.node, options.streams), options.events, end - found[0].start()
    )
    if isinstance(counted, int):
        rows.append(("h2load", "HTTP/2", f"{counted} x {options.events}", "same bytes", "passed"))
    else:
        rows.append(row("h2load", "HTTP/2", 1, counted, expected))
    return rows


def row(name, protocol, streams, result, expected):
    if isinstance(result, Skipped):
        return (name, protocol, "-", "-", f"skipped: {result}")
    if isinstance(result, Exception):
        return (name, protocol, "-", "-", f"FAILED: {result}")
    events = f"{streams} x {len(result)}" if streams > 1 else str(len(result))
    same = result == expected and len(set(result)) == len(result)
    return (name, protocol, events, "yes" if same else "NO", "passed" if same else "FAILED")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("binary", "bootstrap", "node", "balancer", "tls"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("events", "streams"):
        parser.add_argument(f"--{name}", type=int, required=True)
    # Not asyncio.run, which would wait for the thread of a client that waits for ever.
    rows = asyncio.new_event_loop().run_until_complete(run(parser.parse_args()))
    heads = ("client", "protocol", "events", "same IDs", "verdict")
    widths = [max(len(each[column]) for each in [heads, *rows]) for column in range(4)]
    for each in [heads, *rows]:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(each, widths)), each[4]]))
    verdicts = [each[4].split(":")[0] for each in rows]
    print(
        f"{verdicts.count('passed')} passed, {verdicts.count('FAILED')} failed, "
        f"{verdicts.count('skipped')} skipped"
    )
    sys.stdout.flush()
    os._exit(1 if "FAILED" in verdicts else 0)


if __name__ == "__main__":
    main()
