"""The Python client against a real server, whose address is in RASQ_ADDRESS."""

import asyncio
import os
import random
import socket
import threading
import unittest

import grpc
from rasq_client import (
    AsyncClient,
    Client,
    RasqError,
    Security,
    SessionOptions,
    SessionState,
    StopOptions,
    Strategy,
    StreamLimits,
)

LINES = [f"Line {i}: the crate number {i * i} went to dock {i % 7}.\n" for i in range(600)]
TEXT = "".join(LINES)


class Relay:
    """Passes bytes on to the server, and breaks every connection when told to."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.passed = 0  # bytes to the server
        self.break_at: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            with self._lock:
                self._sockets += [near, far]
            for source, sink, counts in ((near, far, True), (far, near, False)):
                threading.Thread(
                    target=self._pass, args=(source, sink, counts), daemon=True
                ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(4096):
                sink.sendall(data)
                if counts:
                    self.passed += len(data)
                    if self.break_at and self.passed > self.break_at[0]:
                        self.break_at.pop(0)
                        self.break_all()
        except OSError:
            pass

    def break_all(self) -> None:
        with self._lock:
            for end in self._sockets:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.break_all()


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.rasq = Client(timeout=60)
        self.addCleanup(self.rasq.close)

    def make(self, **options):
        session = self.rasq.create_session(options=SessionOptions(**options) if options else None)
        self.addCleanup(self.rasq.delete_session, session.session_id)
        return session.session_id

    def test_life_of_a_session(self):
        created = self.rasq.create_session(
            "python-life",
            options=SessionOptions(strategy=Strategy.STRATEGY_WINDOW, seed=3),
            labels={"made-by": "test"},
        )
        self.assertEqual(created.state, SessionState.SESSION_STATE_ACTIVE)
        self.assertEqual(created.options.seed, 3)
        receipt = self.rasq.append("python-life", "One two three.")
        self.assertEqual(receipt.next_offset, len("One two three."))
        self.assertEqual(self.rasq.get_session("python-life").next_offset, receipt.next_offset)
        self.assertIn("python-life", [s.session_id for s in self.rasq.list_sessions()])
        fork = self.rasq.fork_session("python-life", "python-fork")
        self.assertEqual(dict(fork.labels), {"made-by": "test"})
        snapshot = self.rasq.snapshot_session("python-life", "python-snapshot")
        self.assertEqual(snapshot.next_offset, receipt.next_offset)
        restored = self.rasq.restore_session("python-snapshot", "python-restored")
        self.assertEqual(restored.context_tokens, receipt.context_tokens)
        self.assertIn("python-snapshot", [s.snapshot_id for s in self.rasq.list_snapshots()])
        self.rasq.delete_snapshot("python-snapshot")
        for session_id in ("python-life", "python-fork", "python-restored"):
            self.rasq.delete_session(session_id)
        with self.assertRaises(RasqError) as gone:
            self.rasq.get_session("python-life")
        self.assertEqual(gone.exception.code, grpc.StatusCode.NOT_FOUND)

    def test_errors_say_what_the_server_says(self):
        with self.assertRaises(RasqError) as bad:
            self.rasq.create_session("no spaces")
        self.assertEqual(bad.exception.code, grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(list(bad.exception.fields), ["session_id"])
        self.assertTrue(bad.exception.request_id)
        with self.assertRaises(RasqError) as late:
            self.rasq.append(self.make(), "text", offset=7)
        self.assertEqual(late.exception.code, grpc.StatusCode.OUT_OF_RANGE)
        with self.assertRaises(RasqError) as empty:
            self.rasq.generate("nobody", "Hello").text()
        self.assertEqual(empty.exception.code, grpc.StatusCode.NOT_FOUND)

    def test_tokens(self):
        ids = self.rasq.tokenize("The crate went to dock 5.")
        self.assertEqual(self.rasq.detokenize(ids), "The crate went to dock 5.")
        session_id = self.make()
        self.assertEqual(self.rasq.append(session_id, ids).context_tokens, len(ids))
        self.assertGreater(self.rasq.model().vocab_size, max(ids))
        self.assertGreater(self.rasq.server_info().max_sessions_open, 0)

    def test_pieces_of_an_answer_are_the_answer(self):
        session_id = self.make()
        self.rasq.append(session_id, TEXT[:2000])
        stop = StopOptions(max_new_tokens=12, ignore_eos=True)
        whole = self.rasq.generate(session_id, "Line 7:", stop=stop, logprobs=2)
        text = whole.text()
        self.assertEqual(whole.summary.output_tokens, 12)
        self.assertEqual(len(whole.tokens), 12)
        self.assertEqual(len(whole.tokens[0].alternatives), 2)
        again = self.rasq.generate(session_id, "Line 7:", stop=stop)
        self.assertEqual("".join(list(again)), text)
        before = self.rasq.get_session(session_id).context_tokens
        self.rasq.generate(session_id, "Line 7:", stop=stop, commit=True).text()
        self.assertGreater(self.rasq.get_session(session_id).context_tokens, before)

    def test_a_stream_appends_what_one_call_does(self):
        one, many = self.make(), self.make()
        self.rasq.append(one, TEXT)
        data, rng = TEXT.encode(), random.Random(5)
        with self.rasq.append_stream(many, StreamLimits(piece_bytes=100)) as stream:
            at = 0
            while at < len(data):
                size = rng.randrange(1, 700)
                stream.write(data[at : at + size])
                at += size
            stream.flush()
            self.assertEqual(stream.progress.acknowledged_bytes, len(data))
        self.assertEqual(stream.progress.reconnects, 0)
        a, b = self.rasq.get_session(one), self.rasq.get_session(many)
        self.assertEqual((a.next_offset, a.context_tokens), (b.next_offset, b.context_tokens))

    def test_scores(self):
        one, many = self.make(), self.make()
        whole = self.rasq.append(one, TEXT, score=True)
        self.assertEqual(whole.scored_tokens, whole.appended_tokens - 1)
        with self.rasq.append_stream(many, score=True) as stream:
            stream.write(TEXT)
        self.assertEqual(stream.progress.scored_tokens, whole.scored_tokens)
        # Parts of segments are equal to rounding.
        self.assertAlmostEqual(stream.progress.logprob_sum / whole.logprob_sum, 1, places=2)
        self.assertEqual(self.rasq.append(one, TEXT).scored_tokens, 0)

    def test_a_stream_outlives_its_connections(self):
        relay = Relay(os.environ["RASQ_ADDRESS"])
        self.addCleanup(relay.close)
        session_id = self.make()
        relay.break_at = [9_000, 20_000, 31_000]
        with Client(relay.address, timeout=60) as rasq:
            with rasq.append_stream(session_id, StreamLimits(piece_bytes=500)) as stream:
                for line in LINES:
                    stream.write(line)
        self.assertEqual(relay.break_at, [], "no connection was broken: the test shows nothing")
        self.assertGreaterEqual(stream.progress.reconnects, 3)
        self.assertEqual(self.rasq.get_session(session_id).next_offset, len(TEXT.encode()))

    def test_a_stream_keeps_its_error(self):
        stream = self.rasq.append_stream("nobody")
        with self.assertRaises(RasqError) as first:
            stream.write("text")
        self.assertEqual(first.exception.code, grpc.StatusCode.NOT_FOUND)
        with self.assertRaises(RasqError) as second:
            stream.finish()
        self.assertIs(second.exception, first.exception)

    def test_an_abandoned_stream_ends(self):
        session_id = self.make()
        with self.assertRaisesRegex(KeyError, "mine"):
            with self.rasq.append_stream(session_id) as stream:
                stream.write(TEXT)
                raise KeyError("mine")

    def test_tokens_do_not_pass_a_network_in_the_clear(self):
        security = Security(token="secret")
        self.assertNotIn("secret", repr(security))
        with self.assertRaisesRegex(ValueError, "in the clear"):
            Client("example.org:1", security=security)
        Client("127.0.0.1:1", security=security).close()


class AsyncClientTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.rasq = AsyncClient(timeout=60)
        self.addAsyncCleanup(self.rasq.close)

    async def make(self):
        session = await self.rasq.create_session()
        self.addAsyncCleanup(self.rasq.delete_session, session.session_id)
        return session.session_id

    async def test_many_sessions_at_once(self):
        async def one(i):
            session_id = await self.make()
            async with self.rasq.append_stream(session_id, StreamLimits(piece_bytes=200)) as stream:
                for line in LINES[: 100 + i]:
                    await stream.write(line)
                await stream.flush()
            self.assertEqual(stream.progress.acknowledged_bytes, len("".join(LINES[: 100 + i])))
            answer = self.rasq.generate(
                session_id, "Line", stop=StopOptions(max_new_tokens=8, ignore_eos=True)
            )
            pieces = [piece async for piece in answer]
            self.assertEqual(answer.summary.output_tokens, 8)
            return "".join(pieces)

        answers = await asyncio.gather(*(one(i) for i in range(3)))
        self.assertEqual(len(answers), 3)

    async def test_life_and_errors(self):
        session_id = await self.make()
        fork = await self.rasq.fork_session(session_id)
        ids = [session.session_id async for session in self.rasq.list_sessions()]
        self.assertIn(fork.session_id, ids)
        await self.rasq.delete_session(fork.session_id)
        with self.assertRaises(RasqError) as gone:
            await self.rasq.get_session(fork.session_id)
        self.assertEqual(gone.exception.code, grpc.StatusCode.NOT_FOUND)
        self.assertTrue(gone.exception.request_id)
        with self.assertRaises(RasqError) as nobody:
            await self.rasq.append_stream("nobody").write("text")
        self.assertEqual(nobody.exception.code, grpc.StatusCode.NOT_FOUND)

    async def test_a_stream_outlives_its_connections(self):
        relay = Relay(os.environ["RASQ_ADDRESS"])
        self.addCleanup(relay.close)
        session_id = await self.make()
        relay.break_at = [9_000, 20_000]
        async with AsyncClient(relay.address, timeout=60) as rasq:
            async with rasq.append_stream(session_id, StreamLimits(piece_bytes=500)) as stream:
                for line in LINES:
                    await stream.write(line)
        self.assertEqual(relay.break_at, [], "no connection was broken: the test shows nothing")
        self.assertGreaterEqual(stream.progress.reconnects, 2)
        session = await self.rasq.get_session(session_id)
        self.assertEqual(session.next_offset, len(TEXT.encode()))


if __name__ == "__main__":
    unittest.main()
