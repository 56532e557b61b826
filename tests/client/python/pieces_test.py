"""The arithmetic of resumable appends, by hand."""

import unittest

import grpc
from rasq.v1 import session_pb2 as pb
from rasq_client import RasqError, StreamLimits
from rasq_client.pieces import Pieces


def session(next_offset: int, context_tokens: int = 0) -> pb.Session:
    return pb.Session(session_id="s", next_offset=next_offset, context_tokens=context_tokens)


class CutTest(unittest.TestCase):
    def cut(self, *texts, piece_bytes=4):
        pieces = Pieces("s", StreamLimits(piece_bytes=piece_bytes))
        return [piece for text in texts for piece in pieces.cut(text)]

    def test_whole_characters(self):
        self.assertEqual(self.cut("abcdef"), [b"abcd", b"ef"])
        # Three and four bytes each: no piece ends inside one.
        self.assertEqual(self.cut("a\u20ac\u20ac"), ["a\u20ac".encode(), "\u20ac".encode()])
        self.assertEqual(self.cut("ab\U0001f600"), [b"ab", "\U0001f600".encode()])

    def test_bytes_may_be_cut_anywhere(self):
        euro = "\u20ac".encode()
        self.assertEqual(self.cut(euro[:1], euro[1:] + b"x"), [euro + b"x"])

    def test_not_utf8(self):
        with self.assertRaises(UnicodeDecodeError):
            self.cut(b"\xff")
        pieces = Pieces("s", StreamLimits())
        self.assertEqual(list(pieces.cut(b"\xe2\x82")), [])
        with self.assertRaises(UnicodeDecodeError):
            pieces.end_text()

    def test_a_piece_holds_a_character(self):
        with self.assertRaisesRegex(ValueError, "piece_bytes=3"):
            StreamLimits(piece_bytes=3)


class OffsetsTest(unittest.TestCase):
    def setUp(self):
        self.pieces = Pieces("s", StreamLimits(max_in_flight_bytes=8, max_attempts=3))
        self.pieces.synchronise(session(next_offset=100, context_tokens=40))
        for piece in (b"abcd", b"efgh", b"ij"):
            self.pieces.add(piece)

    def offsets(self):
        return [(r.offset, r.content.text) for r in self.pieces.unsent()]

    def test_sends_each_once_and_again_from_where_the_server_stands(self):
        self.assertTrue(self.pieces.full())
        self.assertEqual(self.offsets(), [(100, "abcd"), (104, "efgh"), (108, "ij")])
        self.assertEqual(self.offsets(), [])
        self.pieces.on_ack(
            pb.StreamAppendResponse(
                accepted_tokens=2, absorbed_tokens=1, next_offset=104, context_tokens=41
            )
        )
        self.assertFalse(self.pieces.full())
        self.assertFalse(self.pieces.done())
        # The connection broke inside the second piece.
        self.pieces.synchronise(session(next_offset=106, context_tokens=42))
        self.assertEqual(self.offsets(), [(106, "gh"), (108, "ij")])
        self.pieces.on_ack(
            pb.StreamAppendResponse(
                accepted_tokens=3, absorbed_tokens=3, next_offset=110, context_tokens=45
            )
        )
        self.assertTrue(self.pieces.done())
        progress = self.pieces.progress
        self.assertEqual(
            (progress.acknowledged_bytes, progress.appended_tokens, progress.next_offset),
            (10, 5, 110),
        )

    def test_scores_are_summed_over_connections(self):
        pieces = Pieces("s", StreamLimits(), score=True)
        pieces.synchronise(session(next_offset=0))
        pieces.add(b"abcd")
        pieces.add(b"ef")
        self.assertEqual([request.score for request in pieces.unsent()], [True, True])
        pieces.on_ack(pb.StreamAppendResponse(next_offset=4, scored_tokens=3, logprob_sum=-1.5))
        pieces.on_ack(pb.StreamAppendResponse(next_offset=4, scored_tokens=4, logprob_sum=-2))
        pieces.synchronise(session(next_offset=4))
        self.assertEqual([request.score for request in pieces.unsent()], [True])
        pieces.on_ack(pb.StreamAppendResponse(next_offset=6, scored_tokens=2, logprob_sum=-0.25))
        self.assertEqual((pieces.progress.scored_tokens, pieces.progress.logprob_sum), (6, -2.25))
        self.assertFalse(self.pieces.unsent()[0].score)

    def test_lost_text_and_other_writers(self):
        self.pieces.acknowledge(104, 41)
        with self.assertRaises(RasqError) as lost:
            self.pieces.synchronise(session(next_offset=103))
        self.assertEqual(lost.exception.code, grpc.StatusCode.DATA_LOSS)
        with self.assertRaises(RasqError) as other:
            self.pieces.synchronise(session(next_offset=111))
        self.assertEqual(other.exception.code, grpc.StatusCode.FAILED_PRECONDITION)

    def test_attempts_without_a_byte_come_to_an_end(self):
        self.assertEqual([self.pieces.backoff() for _ in range(3)], [0.0, 0.1, 0.2])
        with self.assertRaisesRegex(RasqError, "in 3 attempts"):
            self.pieces.backoff()
        self.pieces.acknowledge(102, 40)
        self.assertEqual(self.pieces.backoff(), 0.1)

    def test_a_server_without_room_says_when_to_come_back(self):
        full = RasqError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        self.assertEqual(self.pieces.backoff(), 0.0)
        self.assertFalse(self.pieces.survives(full, 1))
        full.retry_after = 1.5
        self.assertTrue(self.pieces.survives(full, 1))
        self.assertEqual(self.pieces.backoff(), 1.5)
        self.assertTrue(self.pieces.survives(full, 2))
        self.assertEqual(self.pieces.backoff(), 3.0)
        self.assertFalse(self.pieces.survives(full, 3))


if __name__ == "__main__":
    unittest.main()
